"""One line of a prompts file, in our form or as OpenAI batch input, turned into a prompt or into an exact complaint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane_client import InputError, Prompt, RawJson

from expresslane.cli.line_error import CHAT_EXAMPLE, EXAMPLE, OPENAI_EXAMPLE, RAW_EXAMPLE, LineError, kind
from expresslane.cli.prompt_options import Defaults, prompt_options
from expresslane.cli.raw_json import JsonError, elements, members, value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["custom_id_of", "parse_line"]

_CUSTOM_ID_BYTES_MAX = 256
_OWN_INPUTS = {"prompt": "text", "raw_prompt": "raw", "messages": "messages"}
_URLS = {"/v1/chat/completions": {"messages": "messages"}, "/v1/completions": {"prompt": "raw"}}
_OPENAI_KEYS = {"custom_id", "method", "url", "body"}
_CONTRACT_KEYS = {
    "text": ("prompt", EXAMPLE),
    "chat": ("messages", CHAT_EXAMPLE),
    "tools_json": ("tools", f'{EXAMPLE[:-1]}, "tools": [{{"type": "function", "function": {{"name": "f"}}}}]}}'),
    "response_format_json": ("response_format", f'{EXAMPLE[:-1]}, "response_format": {{"type": "json_object"}}}}'),
    "extra_json": ("a key of its own for each parameter", f'{EXAMPLE[:-1]}, "min_p": 0.1}}'),
    "sampling": ("a key of its own for each parameter", f'{EXAMPLE[:-1]}, "temperature": 0.7}}'),
}
"""Fields of the gRPC contract that a line names otherwise: what to write, and a right line."""
_EXAMPLES = {"prompt": EXAMPLE, "raw_prompt": RAW_EXAMPLE, "messages": CHAT_EXAMPLE}


def parse_line(line: bytes, defaults: Defaults) -> Prompt:
    """The prompt that a line holds. Raises LineError."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        wrong = f"byte {line[error.start]:#04x} is not valid UTF-8: save the file as UTF-8"
        raise LineError(wrong, column=error.start + 1) from None
    try:
        fields = members(text)
    except JsonError as error:
        raise LineError(f"is not a JSON object: {error.message}", column=error.position + 1) from None
    custom_id = _custom_id(fields)
    body, prefix, inputs = _body(fields)
    prompt = _prompt(custom_id, body, inputs, defaults, prefix)
    try:
        prompt.to_proto()
    except InputError as error:
        given = next(name for name in _OWN_INPUTS if name in body)
        example = OPENAI_EXAMPLE if prefix else _EXAMPLES[given]
        field = given if error.field in ("text", "raw_prompt") else error.field.removeprefix("sampling.")
        raise LineError(error.message, field=prefix + field, example=example) from None
    return prompt


def custom_id_of(line: bytes) -> str | None:
    """The custom_id of a line, whatever else is in it; None where it has none."""
    try:
        return _custom_id(members(line.decode()))
    except (UnicodeDecodeError, JsonError, LineError):
        return None


def _custom_id(fields: dict[str, str]) -> str:
    if "custom_id" not in fields:
        raise LineError("is missing: every prompt needs a name of its own", field="custom_id")
    found = value(fields["custom_id"])
    if not isinstance(found, str):
        name = fields["custom_id"] if kind(found) == "a number" else "a"
        example = EXAMPLE.replace('"a"', f'"{name}"', 1)
        raise LineError(f"is {kind(found)}, not a string", field="custom_id", example=example)
    size = len(found.encode(errors="replace"))
    if not found or size > _CUSTOM_ID_BYTES_MAX:
        wrong = f"has {size} bytes, at most {_CUSTOM_ID_BYTES_MAX} are possible" if found else "is empty"
        raise LineError(wrong, field="custom_id")
    return found


def _body(fields: dict[str, str]) -> tuple[dict[str, str], str, Mapping[str, str]]:
    """The members that make the prompt, the path in front of them, and what each input key of this form means."""
    if "body" not in fields and "url" not in fields:
        for name, (instead, example) in _CONTRACT_KEYS.items():
            if name in fields:
                raise LineError(f"is not a key of a line: write {instead}", field=name, example=example)
        return {name: raw for name, raw in fields.items() if name != "custom_id"}, "", _OWN_INPUTS
    url = value(fields.get("url", "null"))
    inputs = _URLS.get(url) if isinstance(url, str) else None
    if inputs is None:
        given = f"is {url[:80]!r}" if isinstance(url, str) else "is missing"
        raise LineError(f"{given}; it can be {' or '.join(_URLS)}", field="url", example=OPENAI_EXAMPLE)
    if value(fields.get("method", '"POST"')) != "POST":
        raise LineError("can only be POST", field="method", example=OPENAI_EXAMPLE)
    for name in fields.keys() - _OPENAI_KEYS:
        raise LineError("does not belong here: parameters stand inside body", field=name, example=OPENAI_EXAMPLE)
    try:
        return members(fields.get("body", "")), "body.", inputs
    except JsonError as error:
        raise LineError(f"is not an object: {error.message}", field="body", example=OPENAI_EXAMPLE) from None


def _prompt(custom_id: str, body: dict[str, str], inputs: Mapping[str, str], defaults: Defaults, prefix: str) -> Prompt:
    given = [name for name in _OWN_INPUTS if name in body]
    wanted = next(iter(inputs))
    example = OPENAI_EXAMPLE if prefix else _EXAMPLES[given[0] if given else wanted]
    if len(given) > 1:
        wrong = f"is given together with {given[1]}: keep one of them"
        raise LineError(wrong, field=prefix + given[0], example=example)
    if not given or given[0] not in inputs:
        missing = wanted if prefix else "prompt, raw_prompt or messages"
        raise LineError("is missing: there is nothing to answer", field=prefix + missing, example=example)
    name = given[0]
    options = prompt_options({key: raw for key, raw in body.items() if key != name}, defaults, prefix)
    if name == "messages":
        return Prompt.chat(custom_id, _messages(body[name], prefix + name, example), **options)
    text = value(body[name])
    if not isinstance(text, str) or not text:
        wrong = "is empty: there is nothing to answer" if text == "" else f"is {kind(text)}, not a string"
        raise LineError(wrong, field=prefix + name, example=example)
    return Prompt(custom_id, text, raw=inputs[name] == "raw", **options)


def _messages(raw: str, path: str, example: str) -> list[Mapping[str, object]]:
    try:
        found = [_message(one) for one in elements(raw)]
    except JsonError:
        raise LineError("is not a list of objects", field=path, example=example) from None
    if not found:
        raise LineError("is empty: there is nothing to answer", field=path, example=example)
    return found


def _message(raw: str) -> Mapping[str, object]:
    message = {name: value(text) for name, text in members(raw).items()}
    if isinstance(message.get("content"), list):
        message["content"] = [_part(part) for part in elements(members(raw)["content"])]
    return message


def _part(raw: str) -> object:
    """A text part as a value, any other object as the very JSON that stands there."""
    part = value(raw)
    is_text = isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"
    return RawJson(raw) if isinstance(part, dict) and not is_text else part
