"""URLs that callers put into requests for a backend to fetch: found wherever an engine would look (SSRF)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from expresslane.servicers.content_urls import MAX_TEXT_DEPTH, foreign_address, foreign_reference, tool_server
from expresslane.servicers.decode import PromptDecoder
from expresslane.v1 import types_pb2

METADATA = "http://169.254.169.254/latest/meta-data"


@pytest.mark.parametrize(
    "value",
    [
        {"type": "image_url", "image_url": {"url": METADATA}},
        {"type": "image_url", "image_url": METADATA},
        {"type": "input_image", "image_url": METADATA},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "file", "file": {"file_url": "/etc/passwd"}},
        {"type": "x", "image_URL": "HTTP://h"},
        {"type": "x", "urls": ["data:,a", METADATA]},
        {"type": "x", "deep": [{"er": [{"uri": "gopher://h"}]}]},
        {"image_url": {"url": ""}},
        {"kv_transfer_params": {"remote_host": "10.0.0.1", "remote_port": 22}},
        {"kv_transfer_params": [1]},
        {"bootstrap_host": "10.0.0.1"},
        {"bootstrap_port": 22},
        {"image": METADATA},
        {"images": ["aGk=", METADATA]},
        {"image_data": "/var/secret.png"},
        {"image": "/etc/passwd"},
        {"image": "/etc/hosts12"},
        {"image": "//etc/passwd"},
        {"file": " /etc/ssl/key"},
        {"audio": "etc/passwd"},
        {"images": ["aGk=", "aGk=aGk="]},
        {"lora_path": "/models/other"},
        {"guided_json": {"properties": {"a": {"$ref": METADATA}}}},
        {"guided_json": {"$dynamicRef": METADATA}},
        {"guided_json": {"$recursiveRef": "other.json"}},
        {"guided_json": {"$schema": METADATA}},
        {"image_data": [[METADATA]]},
        {"image_data": [["aGk="], [[[METADATA]]]]},
        {"image_url": [[{"detail": "low"}, METADATA]]},
        {"bootstrap_port": [[22]]},
        {"kv_transfer_params": [[{}]]},
        {"guided_json": json.dumps({"$ref": METADATA})},
        {"guided_json": " \ufeff\n" + json.dumps({"$ref": METADATA}) + " and more"},
        {"guided_json": json.dumps({"a": {"b": [[{"$ref": METADATA}]]}})},
        {"json_schema": json.dumps({"$schema": METADATA})},
        {"structured_outputs": {"json": json.dumps({"$dynamicRef": METADATA})}},
        {"structural_tag": json.dumps({"structures": [{"schema": {"$ref": METADATA}}]})},
        {"structural_tag": json.dumps({"structures": [{"schema": json.dumps({"$ref": METADATA})}]})},
        {"grammar": {"type": "json", "value": json.dumps({"$ref": METADATA})}},
        {"format": json.dumps({"$ref": METADATA}).replace("$", "\\u0024")},
        {"guided_json": [[json.dumps({"$ref": METADATA})]]},
        {"guided_json": f'{{"maximum":1{"0" * 5_000},"$ref":"{METADATA}"}}'},
    ],
)
def test_what_a_backend_would_fetch_is_found(value: Any) -> None:
    """Text under a key that ends in url or uri, media by name, peers, ports and paths of engines, schemas elsewhere.

    In lists of lists as in one value, and in a schema that is text as in one that is an object.
    """
    assert foreign_address(json.dumps(value))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}',
        '{"type":"image_url","image_url":{"url":"DATA:image/png;base64,AAAA","detail":"high"}}',
        '{"type":"text","text":"see https://example.com/curl"}',
        '{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}',
        '{"temperature":1,"guided_json":{"properties":{"url":{"type":"string"}}}}',
        '{"guided_json":{"$schema":"https://json-schema.org/draft/2020-12/schema","$ref":"#/$defs/a"}}',
        '{"guided_json":{"properties":{"db_host":{"type":"string"},"image":{"type":"string"}}}}',
        '{"guided_json":{"$schema":"http://json-schema.org/draft-07/schema#","$dynamicRef":"#node"}}',
        json.dumps({"guided_json": '{"$schema":"https://json-schema.org/draft/2020-12/schema","$ref":"#/$defs/a"}'}),
        json.dumps({"json_schema": '{"properties":{"url":{"type":"string"},"file":{"type":"string"}}}'}),
        json.dumps({"image_data": [["aGk=", "data:,a"], []], "kv_transfer_params": [[None]]}),
        json.dumps({"type": "text", "text": '{"$ref":"http://example.com"}', "content": '[{"$ref":"http://h"}'}),
        json.dumps({"chat_template": "{% if image_url %}{{ image_url }}{% endif %}", "format": "json of a url"}),
        json.dumps({"guided_json": "{no JSON, and nothing that could lead away"}),
        json.dumps({"image": base64.encodebytes(b"\xff\xd8\xff" + bytes(range(256))).decode()}),
        json.dumps(
            {"audio": base64.urlsafe_b64encode(b"\xff\xfb\x90" * 2_000).decode(), "file": "", "video": "AAAA\n"}
        ),
        json.dumps({"audio": base64.b64encode(b"\xff\xfb\x90" * 2_000).decode()}),
        '{"images":["/9j/4AAQ+w=="],"image":null,"supports_path":true,"kv_transfer_params":null}',
        "",
        "not json with url",
        '{"url":' + "[" * 100_000,
    ],
)
def test_what_a_backend_does_not_fetch_passes(text: str) -> None:
    """Data, text, and schemas that speak of URLs; what is no JSON is refused for that, elsewhere."""
    assert not foreign_address(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"image_url":{"url":"http://h","url":"data:,a"}}',
        '{"image_url":{"url":"data:,a","url":"http://h"}}',
        '{"image_url":{"\\u0075rl":"http://h"}}',
        '{"image_url":"http:\\/\\/h"}',
    ],
)
def test_no_way_of_writing_json_hides_a_url(text: str) -> None:
    """A key that stands twice, of which a backend may take either; escapes in keys and values."""
    assert foreign_address(text) == "http://h"


def test_a_server_that_a_tool_names_is_found() -> None:
    """Of a tool only its own address counts: its parameters may be called what they like."""
    function = {"type": "function", "function": {"name": "get", "parameters": {"properties": {"server_url": {}}}}}
    assert not tool_server(json.dumps([function]))
    for own in ({"server_url": METADATA}, {"Server_URL": METADATA}, {"url": METADATA}, {"server": {"url": METADATA}}):
        assert tool_server(json.dumps([function, {"type": "mcp", **own}])) == METADATA


def test_a_schema_that_refers_to_another_place_is_found() -> None:
    """A backend that resolves references would fetch them; what refers to its own parts passes."""
    schema = {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/$defs/a", "$defs": {"a": {}}}}}
    assert not foreign_reference(json.dumps(schema))
    schema["json_schema"]["schema"]["$ref"] = METADATA  # type: ignore[index]
    assert foreign_reference(json.dumps(schema)) == METADATA
    function = {"type": "function", "function": {"name": "get", "parameters": {"$ref": METADATA}}}
    assert tool_server(json.dumps([function])) == METADATA


def test_schemas_as_text_are_looked_through_wherever_they_may_stand() -> None:
    """In a response format and in a tool, too; there as well only references count."""
    form = {"type": "json_schema", "json_schema": {"schema": json.dumps({"url": "http://h", "$ref": "#/a"})}}
    assert not foreign_reference(json.dumps(form))
    form["json_schema"]["schema"] = json.dumps({"$ref": METADATA})  # type: ignore[index]
    assert foreign_reference(json.dumps(form)) == METADATA
    for tool in ({"function": {"parameters": json.dumps({"$ref": METADATA})}}, {"input_schema": '{"$ref":"http://h"}'}):
        assert tool_server(json.dumps([tool]))
        assert tool_server(json.dumps([[[tool]]]))
    assert tool_server(json.dumps([[{"type": "mcp", "server_url": METADATA}]])) == METADATA


def nested_text(depth: int) -> str:
    """A reference that leads away, so deep in texts of JSON."""
    text = json.dumps({"$ref": METADATA})
    for _ in range(depth):
        text = json.dumps({"json": text})
    return text


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"guided_json": '{"$ref":"http://h", no JSON}'}),
        json.dumps({"guided_json": '{"a":' + "[" * 100_000 + "]" * 100_000 + ',"$ref":"http://h"}'}),
        nested_text(MAX_TEXT_DEPTH + 1),
        nested_text(14),
    ],
)
def test_a_schema_that_cannot_be_read_here_does_not_pass(text: str) -> None:
    """A backend's own parser may be more patient: what might refer to something and cannot be read is refused."""
    assert foreign_address(text).endswith("(unreadable)")
    assert foreign_reference(text).endswith("(unreadable)")


def test_what_lies_deep_is_found_up_to_a_depth() -> None:
    """Texts in texts are read a few times over, and lists however long are looked through to their end."""
    assert foreign_address(nested_text(MAX_TEXT_DEPTH)) == METADATA[:40]
    assert foreign_address(json.dumps({"image_data": [["aGk="]] * 100_000 + [[METADATA]]})) == METADATA


def message(**fields: Any) -> types_pb2.Prompt:
    """A chat with one JSON part, and whatever else."""
    part = fields.pop("part", '{"type":"text","text":"x"}')
    user = types_pb2.ChatMessage(role="user", content=[types_pb2.ContentPart(json=part)])
    return types_pb2.Prompt(custom_id="a", chat=types_pb2.Chat(messages=[user]), **fields)


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"part": json.dumps({"image_url": {"url": METADATA}})}, "p.chat.messages[0].content[0].json"),
        ({"extra_json": json.dumps({"image_url": METADATA})}, "p.extra_json"),
        ({"extra_json": json.dumps({"image_data": [[METADATA]]})}, "p.extra_json"),
        ({"extra_json": json.dumps({"guided_json": json.dumps({"$ref": METADATA})})}, "p.extra_json"),
        ({"tools_json": json.dumps([{"server_url": METADATA}])}, "p.tools_json"),
        ({"response_format_json": json.dumps({"$ref": METADATA})}, "p.response_format_json"),
    ],
)
def test_a_prompt_that_names_a_url_is_refused_unless_that_is_allowed(fields: dict[str, Any], at: str) -> None:
    """The violation names the field and shows the URL; with EXPRESSLANE_CONTENT_URLS=any it passes."""
    (violation,) = PromptDecoder(10_000).decode(message(**fields), "p").violations
    assert (violation.field, violation.reason) == (at, "INVALID_FIELD")
    assert METADATA[:40] in violation.description
    assert PromptDecoder(10_000, any_urls=True).decode(message(**fields), "p").prompt is not None
