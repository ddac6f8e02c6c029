"""From a backend's settings to its adapter: the one place that knows every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.backends.llamacpp import LlamaCppBackend
from expresslane.backends.ollama import OllamaBackend
from expresslane.backends.openai import OpenAIBackend
from expresslane.backends.presets import capabilities_of
from expresslane.backends.simulated import SimulatedBackend

if TYPE_CHECKING:
    from expresslane.backends.base import Backend
    from expresslane.settings import BackendSettings

__all__ = ["capabilities_of", "make_backend"]


def make_backend(backend_id: str, settings: BackendSettings, *, max_answer_bytes: int) -> Backend:
    """The adapter for one backend; `start` it on the event loop before use."""
    match settings.kind:
        case "simulated":
            return SimulatedBackend(backend_id, settings.simulated)
        case "ollama":
            return OllamaBackend(backend_id, settings, max_answer_bytes=max_answer_bytes)
        case "llamacpp":
            return LlamaCppBackend(backend_id, settings, max_answer_bytes=max_answer_bytes)
        case "openai" | "vllm" | "sglang":
            return OpenAIBackend(backend_id, settings, max_answer_bytes=max_answer_bytes)
