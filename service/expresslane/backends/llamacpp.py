"""The adapter for llama-server: the OpenAI dialect, and as many requests at once as it has slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.backends.base import Discovery
from expresslane.backends.openai import OpenAIBackend
from expresslane.errors import BackendError, Reason

if TYPE_CHECKING:
    from expresslane.settings import BackendSettings

__all__ = ["LlamaCppBackend"]


class LlamaCppBackend(OpenAIBackend):
    """llama-server. Raw prompts go to /v1/completions, which it answers in the same dialect as chat."""

    def __init__(self, backend_id: str, settings: BackendSettings, *, max_answer_bytes: int) -> None:
        # It closes the connection after every stream, although its headers promise to keep it: each next request would
        # meet a dead one and be sent twice.
        super().__init__(
            backend_id, settings, max_answer_bytes=max_answer_bytes, reuse_connections=not settings.streaming
        )

    async def discover(self) -> Discovery:
        """The models that it lists and the slots it has, from /props or else from /slots. Raises BackendError."""
        models = await self._models()
        return Discovery(models=models, slots=await self._slots())

    async def _slots(self) -> int:
        props = await self._ask("/props")
        total = props.get("total_slots") if isinstance(props, dict) else None
        if isinstance(total, int) and total > 0:
            return total
        slots = await self._ask("/slots")
        return len(slots) if isinstance(slots, list) else 0

    async def _ask(self, path: str) -> object:
        """The JSON value at a path that a server may have switched off; None then."""
        try:
            return await self._http.get_json(self._http.url(path))
        except BackendError as error:
            if error.reason in {Reason.BACKEND_REJECTED, Reason.BACKEND_UNAUTHORIZED, Reason.BACKEND_MALFORMED}:
                return None
            raise
