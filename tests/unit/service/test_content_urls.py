"""URLs that callers put into requests for a backend to fetch: found wherever an engine would look (SSRF)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from expresslane.servicers.content_urls import foreign_address, foreign_reference, tool_server
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
        {"lora_path": "/models/other"},
        {"guided_json": {"properties": {"a": {"$ref": METADATA}}}},
    ],
)
def test_what_a_backend_would_fetch_is_found(value: Any) -> None:
    """Text under a key that ends in url or uri, media by name, peers, ports and paths of engines, schemas elsewhere."""
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
