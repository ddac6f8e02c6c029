"""The parameters of one line: known ones checked for their type, the others kept as the JSON that stands there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from expresslane_client import PromptClass

from expresslane.cli.line_error import EXAMPLE, OPENAI_EXAMPLE, LineError, kind
from expresslane.cli.raw_json import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from expresslane_client import PromptOptions

__all__ = ["Defaults", "prompt_options"]

_INTEGERS = {"max_tokens": "64", "top_k": "40", "seed": "1", "top_logprobs": "5"}
_NUMBERS = {"temperature": "0.7", "top_p": "0.9", "presence_penalty": "0.5", "frequency_penalty": "0.5"}
_CLASSES = tuple(PromptClass)
_TYPED = {*_INTEGERS, *_NUMBERS, "model", "stop", "n", "tools", "response_format", "logprobs", "class", "sequential"}
_OWN = {"class", "sequential"}
"""What OpenAI's form does not have: there a key of this name is the backend's."""
_UNNEEDED = {"stream", "stream_options"}
"""Results come back as they finish in any case, and how backends are asked is the service's configuration."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the command line gives to prompts that do not say it themselves."""

    model: str = ""
    max_tokens: int | None = None
    prompt_class: PromptClass | None = None


def prompt_options(body: Mapping[str, str], defaults: Defaults, prefix: str) -> PromptOptions:
    """Prompt's keyword arguments from the members of a line. `prefix` is the path in front of them."""
    options: dict[str, object] = {
        "model": defaults.model,
        "max_tokens": defaults.max_tokens,
        "prompt_class": defaults.prompt_class,
    }
    rest: list[str] = []
    for name, raw in body.items():
        found = value(raw)
        if name in _UNNEEDED or (found is None and name in _TYPED):
            continue
        if name in _TYPED and (name not in _OWN or not prefix) and (name != "logprobs" or isinstance(found, bool)):
            options |= _typed(name, raw, found, prefix)
        else:
            rest.append(f"{json.dumps(name)}:{raw}")
    if rest:
        options["extra"] = "{" + ",".join(rest) + "}"
    return cast("PromptOptions", options)


def _typed(name: str, raw: str, found: object, prefix: str) -> dict[str, object]:
    """The keyword argument for a member whose meaning is known. Raises LineError for a value of the wrong type."""
    match name:
        case "tools" | "response_format":
            _require(isinstance(found, list if name == "tools" else dict), name, found, prefix, _raw_example(name))
            return {name: raw}
        case "stop":
            texts = [found] if isinstance(found, str) else found
            right = isinstance(texts, list) and all(isinstance(one, str) for one in texts)
            _require(right, name, found, prefix, '["END"]')
            return {name: texts}
        case "n":
            _require(found == 1, name, found, prefix, "1", "only one choice for each prompt is possible")
            return {}
        case "model":
            _require(isinstance(found, str), name, found, prefix, '"my-model"')
        case "class":
            _require(found in _CLASSES, name, found, prefix, '"batch"', f"it can be {', '.join(_CLASSES)}")
            return {"prompt_class": PromptClass(str(found))}
        case "sequential":
            _require(isinstance(found, bool), name, found, prefix, "true")
        case "logprobs":
            pass
        case _ if name in _INTEGERS:
            _require(type(found) is int, name, found, prefix, _INTEGERS[name], "it has to be a whole number")
        case _:
            right = isinstance(found, int | float) and not isinstance(found, bool)
            _require(right, name, found, prefix, _NUMBERS[name], "it has to be a number")
    return {name: found}


def _raw_example(name: str) -> str:
    """A right value of a member that is passed on as it stands."""
    if name == "tools":
        return '[{"type": "function", "function": {"name": "f"}}]'
    return '{"type": "json_object"}'


def _require(  # noqa: PLR0917 - the parts of one sentence
    right: bool, name: str, found: object, prefix: str, example: str, wanted: str = ""
) -> None:
    if right:
        return
    base = OPENAI_EXAMPLE if prefix else EXAMPLE
    end = "}}" if prefix else "}"
    shown = json.dumps(found, ensure_ascii=False)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
    message = f"cannot be {shown}" + (f": {wanted}" if wanted else f" ({kind(found)})")
    line = f'{base[: -len(end)]}, "{name}": {example}{end}'
    raise LineError(message, field=prefix + name, example=line)
