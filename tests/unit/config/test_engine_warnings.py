"""What an operator is told of backends that are allowed as they are, but probably not meant."""

from __future__ import annotations

import pytest
from expresslane.config import load

URL = {"URL": "http://127.0.0.1:8000"}


def warnings(**backends: dict[str, str]) -> tuple[str, ...]:
    """The warnings with these backends, by the last part of their variables."""
    return load(
        {
            f"EXPRESSLANE_BACKENDS__{backend}__{name}": value
            for backend, variables in backends.items()
            for name, value in {**URL, **variables}.items()
        }
    ).warnings


@pytest.mark.parametrize(
    ("kind", "says"), [("vllm", "long_prefill_token_threshold"), ("sglang", "chunked_prefill_size")]
)
def test_an_engine_that_was_not_described(kind: str, says: str) -> None:
    """One line says which variable is not set and where its value comes from."""
    (line,) = warnings(GPU={"KIND": kind})
    assert line.startswith("EXPRESSLANE_BACKENDS__GPU__ENGINE_STEP_TOKENS is not set: ")
    assert says in line


def test_several_engines_that_were_not_described() -> None:
    """They share one line, with what to do for each kind."""
    (line,) = warnings(A={"KIND": "vllm"}, B={"KIND": "sglang"}, C={"KIND": "vllm", "ENGINE_STEP_TOKENS": "2048"})
    assert "__A__ENGINE_STEP_TOKENS is not set (likewise: b)" in line
    assert "max_num_batched_tokens" in line
    assert "chunked_prefill_size" in line


@pytest.mark.parametrize(
    "variables",
    [
        {"KIND": "vllm", "ENGINE_STEP_TOKENS": "8192"},
        {"KIND": "vllm", "LANES": "off"},
        {"KIND": "openai"},
        {"KIND": "llamacpp"},
    ],
)
def test_where_the_step_says_nothing(variables: dict[str, str]) -> None:
    """Nothing is asked for where it is given, where there are no lanes, or of an engine without such a setting."""
    assert warnings(A=variables) == ()


def test_a_models_cap_above_its_backends() -> None:
    """A cap of a model that the backend's own makes useless is named, with both numbers; one that holds is not."""
    (line,) = warnings(A={"KIND": "openai", "MODELS": "m,n", "CAP": "4", "MODEL_CAPS": "m=9,n=4"})
    assert line == "EXPRESSLANE_BACKENDS__A__MODEL_CAPS: m=9 holds nothing back, because the backend's own cap is 4."
    assert warnings(A={"KIND": "openai", "MODELS": "m", "MODEL_CAPS": "m=9"}) == ()


def test_a_share_for_the_top_class_is_told() -> None:
    """A least share for interactive changes nothing, and is warned of; one for a lower class is not."""

    def lines(shares: str) -> list[str]:
        found = load({"EXPRESSLANE_CLASS_MIN_SHARES": shares}).warnings
        return [line for line in found if "CLASS_MIN_SHARES" in line]

    (line,) = lines("interactive=0.2,batch=0.1")
    assert "interactive changes nothing" in line
    assert lines("standard=0.2,batch=0.1") == lines("interactive=0,batch=0.1") == []
