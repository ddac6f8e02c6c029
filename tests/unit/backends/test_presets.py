"""The table of kinds."""

from __future__ import annotations

from typing import get_args

import pytest
from expresslane.backends.factory import make_backend
from expresslane.backends.presets import capabilities_of
from expresslane.settings import BackendKind, BackendSettings

KINDS: tuple[BackendKind, ...] = get_args(BackendKind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_adapter(kind: BackendKind) -> None:
    """T05: every kind has an adapter, and the adapter has the capabilities of its kind."""
    backend = make_backend("b", BackendSettings(kind=kind, url="http://b"), max_answer_bytes=1024)
    assert backend.id == "b"
    assert backend.capabilities == capabilities_of(kind)


@pytest.mark.parametrize(
    ("kind", "cap", "engine", "attempt_timeout_s"),
    [
        ("openai", 10, False, 30.0),
        ("vllm", 1024, True, 600.0),
        ("sglang", 1024, True, 600.0),
        ("llamacpp", 1, True, 600.0),
        ("ollama", 1, True, 600.0),
        ("simulated", 16, True, 600.0),
    ],
)
def test_defaults(kind: BackendKind, cap: int, engine: bool, attempt_timeout_s: float) -> None:
    """T06, O03: local servers get one at a time, hosted ones ten and no lanes, engines a wide cap and lanes."""
    found = capabilities_of(kind)
    assert (found.default_cap, found.engine, found.attempt_timeout_s) == (cap, engine, attempt_timeout_s)


def test_only_the_simulated_kind_makes_things_up() -> None:
    """Only the simulated kind is marked as such."""
    assert [kind for kind in KINDS if capabilities_of(kind).simulated] == ["simulated"]
