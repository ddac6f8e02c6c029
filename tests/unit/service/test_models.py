"""From the name a caller writes to the model that is served."""

from __future__ import annotations

import pytest
from expresslane.errors import Reason
from expresslane.models import ModelRegistry, UnknownModelError
from expresslane.prompts import Chat, ChatMessage, ToolCall
from expresslane.tokens import MAX_TOKENS, estimate, utf8_bytes

SERVED = {"llama-8b": 4.0, "llama-70b": 3.5}


def registry(*, default: str = "", wildcard: str = "", served: dict[str, float] | None = None) -> ModelRegistry:
    """A registry with one alias."""
    made = ModelRegistry(default=default, aliases={"fast": "llama-8b"}, wildcard=wildcard)
    made.update(SERVED if served is None else served, {})
    return made


@pytest.mark.parametrize(
    ("asked", "default", "served", "name"),
    [
        ("llama-8b", "", SERVED, "llama-8b"),
        ("fast", "", SERVED, "llama-8b"),
        ("", "llama-70b", SERVED, "llama-70b"),
        ("", "fast", SERVED, "llama-8b"),
        ("", "", {"only": 4.0}, "only"),
    ],
)
def test_resolves(asked: str, default: str, served: dict[str, float], name: str) -> None:
    """A name, an alias, the default, an alias as default, and the only model there is."""
    found = registry(default=default, served=served).resolve(asked)
    assert (found.name, found.bytes_per_token) == (name, served[name])


@pytest.mark.parametrize(
    ("asked", "served", "says"),
    [
        ("lama-8b", SERVED, "did you mean 'llama-8b'"),
        ("LLAMA-70B", SERVED, "models served: fast, llama-70b, llama-8b"),
        ("", SERVED, "names no model and there is no default"),
        ("x", {}, "models served: fast"),
        ("x" * 100_000, SERVED, "no backend serves the model"),
    ],
)
def test_unknown(asked: str, served: dict[str, float], says: str) -> None:
    """An unknown model is NOT_FOUND and names close ones, or those there are; the message stays short."""
    with pytest.raises(UnknownModelError) as raised:
        registry(served=served).resolve(asked)
    error = raised.value.error
    assert (error.reason, error.field) == (Reason.UNKNOWN_MODEL, "model")
    assert says in error.message
    assert len(error.message) < 1_000


def test_not_known_yet() -> None:
    """While a backend could not be asked for its models, a name that nobody lists is awaited under its own number."""
    made = registry()
    assert made.update(SERVED, {"slow-starter": ""}) == {}
    late, typo = made.resolve("late"), made.resolve("llama-8c")
    assert late.number != typo.number
    refused = made.update({**SERVED, "late": 3.0}, {})
    assert {name: error.reason for name, error in refused.items()} == {"llama-8c": Reason.UNKNOWN_MODEL}
    assert "llama-8b" in refused["llama-8c"].message
    assert made.resolve("late").number == late.number
    with pytest.raises(UnknownModelError):
        made.resolve("llama-8c")


def test_awaited_names_are_bounded() -> None:
    """Above 1,024 awaited names, and for no name at all, an unknown model is UNAVAILABLE and worth another try."""
    made = registry()
    made.update(SERVED, {"slow-starter": ""})
    numbers = {made.resolve(f"model-{number}").number for number in range(1_024)}
    assert made.resolve("model-7").number in numbers
    for asked in ("one-too-many", ""):
        with pytest.raises(UnknownModelError, match="backends/slow-starter") as raised:
            made.resolve(asked)
        assert (raised.value.error.reason, raised.value.error.retryable) == (Reason.NO_BACKEND, True)


def test_wildcard() -> None:
    """Names that nobody lists go to the wildcard backend under their own name and one number of the core."""
    made = registry(wildcard="any")
    first, second = made.resolve("gpt-x"), made.resolve("gpt-y")
    assert (first.name, second.name) == ("gpt-x", "gpt-y")
    assert first.number == second.number == made.wildcard_number
    assert made.name(first.number) == "*"
    assert made.resolve("llama-8b").number != first.number
    with pytest.raises(UnknownModelError):
        made.resolve("")


def test_numbers_never_change() -> None:
    """A model keeps its number when it goes and comes back."""
    made = registry()
    number = made.resolve("llama-70b").number
    made.update({}, {})
    made.update({"new": 4.0, **SERVED}, {})
    assert made.resolve("llama-70b").number == number
    assert made.name(number) == "llama-70b"


@pytest.mark.parametrize(
    ("size", "ratio", "tokens"), [(0, 4.0, 1), (1, 4.0, 1), (400, 4.0, 100), (400, 3.2, 125), (2**40, 0.1, MAX_TOKENS)]
)
def test_estimate(size: int, ratio: float, tokens: int) -> None:
    """Tokens are bytes over the ratio, at least 1 and never more than the core can count."""
    assert estimate(size, ratio) == tokens


def test_utf8_bytes() -> None:
    """Sizes are in UTF-8 bytes, of text and of everything in a conversation."""
    assert utf8_bytes("grün") == 5
    assert utf8_bytes("") == 0
    call = ToolCall("1", "look", "{}")
    chat = Chat((ChatMessage("user", ((False, "ab"), (True, '{"a":1}'))), ChatMessage("assistant", (), (call,))))
    assert utf8_bytes(chat) == 16 + 2 + 7 + 16 + 1 + 4 + 2


def test_no_model_named_before_the_default_is_known() -> None:
    """A prompt without a model, before a backend has told its models, is told so in those words."""
    registry = ModelRegistry(default="", aliases={}, wildcard="")
    registry.update({}, {"local": "http://x:1: cannot connect"})
    with pytest.raises(UnknownModelError) as raised:
        registry.resolve("")
    assert raised.value.error.reason is Reason.NO_BACKEND
    assert "names no model" in raised.value.error.message
    assert "backends/local (http://x:1: cannot connect)" in raised.value.error.message
    assert "`expresslane backends`" in raised.value.error.message


def test_an_unknown_model_may_be_that_of_a_backend_whose_list_failed() -> None:
    """Whoever asks for it is told which backends those are and why, three of them at most."""
    made = ModelRegistry(default="", aliases={}, wildcard="")
    refused = "BACKEND_UNAUTHORIZED (HTTP 401)"
    made.update({"other": 4.0}, {}, {"alpha": refused, "lists-none": ""})
    with pytest.raises(UnknownModelError) as raised:
        made.resolve("alpha-model")
    message = raised.value.error.message
    assert message.endswith(f"models served: other; no list of models can be had from backends/alpha ({refused})")
    made.update({"other": 4.0, "third": 4.0}, {"down": "cannot connect"}, dict.fromkeys("abcde", refused))
    with pytest.raises(UnknownModelError) as raised:
        made.resolve("")
    told = raised.value.error.message
    assert (told.count("HTTP 401"), " and 2 more; see" in told) == (3, True)


def test_a_backend_that_lists_no_models() -> None:
    """Where nobody lists a model, whoever asks for one is told the setting that names them."""
    made = ModelRegistry(default="", aliases={}, wildcard="")
    made.update({}, {}, {"my-box": ""})
    for asked in ("", "llama"):
        with pytest.raises(UnknownModelError) as raised:
            made.resolve(asked)
        assert "EXPRESSLANE_BACKENDS__MY_BOX__MODELS" in raised.value.error.message
