"""What each kind of backend can do: one table of capabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from expresslane.backends.base import Capabilities

if TYPE_CHECKING:
    from expresslane.settings import BackendKind

__all__ = ["capabilities_of"]

_ENGINE = Capabilities(
    can_run_concurrently=True,
    default_cap=1_024,
    engine=True,
    streams=True,
    reports_usage=True,
    prefix_cache=True,
)

_CAPABILITIES: dict[BackendKind, Capabilities] = {
    # Bills per token and limits by rate: a modest cap, and nothing to protect from long prefills.
    "openai": Capabilities(
        can_run_concurrently=True,
        default_cap=10,
        engine=False,
        streams=True,
        reports_usage=True,
        prefix_cache=False,
        attempt_timeout_s=30.0,
    ),
    # Continuous batching queues inside the engine: the lanes do the protecting, the cap only bounds.
    "vllm": _ENGINE,
    "sglang": _ENGINE,
    # Runs as many as it has slots, which discovery tells.
    "llamacpp": replace(_ENGINE, default_cap=1),
    # Queues by itself and does not say how many it runs at once.
    "ollama": replace(_ENGINE, default_cap=1),
    "simulated": Capabilities(
        can_run_concurrently=True,
        default_cap=16,
        engine=True,
        streams=True,
        reports_usage=True,
        prefix_cache=False,
        simulated=True,
    ),
}


def capabilities_of(kind: BackendKind) -> Capabilities:
    """What a kind of backend can do, and the defaults that follow from it."""
    return _CAPABILITIES[kind]
