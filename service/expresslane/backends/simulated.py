"""The adapter of a simulated engine: made-up answers at modelled costs, for trying the service without a model."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from typing import TYPE_CHECKING

from expresslane.backends.base import Answer, Backend, Call, Discovery
from expresslane.backends.presets import capabilities_of
from expresslane.backends.simulated_engine import Clock, Job, SimulatedEngine, Sleep
from expresslane.errors import BackendError, Reason
from expresslane.prompts import Chat, Prompt
from expresslane.results import FinishReason, Usage

if TYPE_CHECKING:
    from expresslane.settings import SimulatedSettings

__all__ = ["SIMULATED_MODEL", "SimulatedBackend"]

SIMULATED_MODEL = "simulated"
"""The only model it serves: a service that is configured for a real one never gets made-up text."""

BYTES_PER_TOKEN = 4
_WORDS = ("this", "text", "is", "made", "up", "by", "a", "simulated", "engine")


class SimulatedBackend(Backend):
    """Serves the model `simulated` and nothing else. Each answer names a checksum of its prompt: mix-ups show."""

    capabilities = capabilities_of("simulated")

    def __init__(
        self,
        backend_id: str,
        settings: SimulatedSettings,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(backend_id)
        self._settings = settings
        self._engine = SimulatedEngine(settings, clock, sleep)
        self._faults = random.Random(settings.seed)  # noqa: S311 (faults, not secrets)

    async def close(self) -> None:
        """Stop the engine."""
        await self._engine.close()

    async def generate(self, call: Call, answer: Answer) -> None:
        """Run one attempt on the modelled engine. Raises BackendError."""
        if call.model != SIMULATED_MODEL:
            raise BackendError(
                Reason.BACKEND_REJECTED,
                f"the simulated backend serves only the model {SIMULATED_MODEL!r}, not {call.model!r}",
                http_status=404,
                field="model",
            )
        if self._settings.error_rate and self._faults.random() < self._settings.error_rate:
            raise BackendError(Reason.BACKEND_OVERLOADED, "a simulated fault", retryable=True, http_status=503)
        data = _prompt_bytes(call.prompt)
        prompt_tokens = -(-len(data) // BYTES_PER_TOKEN)
        wanted = call.prompt.options.sampling.max_tokens
        name = f"{zlib.crc32(data):08x}"

        def on_token(number: int) -> None:
            answer.usage = Usage(input_tokens=prompt_tokens, output_tokens=number)
            answer.push(_word(number, name))

        await self._engine.run(Job(prompt_tokens, wanted or self._settings.output_tokens, on_token))
        answer.finish_reason = FinishReason.STOP if wanted is None else FinishReason.LENGTH
        answer.finish_reason_raw = answer.finish_reason.value

    async def discover(self) -> Discovery:
        """Its one model, and what it runs at once."""
        return Discovery(models=(SIMULATED_MODEL,), slots=self._settings.max_running)


def _word(number: int, name: str) -> str:
    if number <= 2:
        return "simulated" if number == 1 else f" {name}"
    return " " + _WORDS[(number - 3) % len(_WORDS)]


def _prompt_bytes(prompt: Prompt) -> bytes:
    if isinstance(prompt.content, Chat):
        return "".join(text for message in prompt.content.messages for _, text in message.parts).encode()
    return prompt.content.encode()
