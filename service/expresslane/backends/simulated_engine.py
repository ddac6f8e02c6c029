"""A model of an inference engine: one prefill lane in chunks, decode steps that all running prompts share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expresslane.settings import SimulatedSettings

__all__ = ["Clock", "Job", "SimulatedEngine", "Sleep"]

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Job:
    """One prompt inside the engine: what it costs, and how far it is."""

    __slots__ = ("ended", "generated", "on_token", "output_tokens", "prefill_left")

    def __init__(self, prompt_tokens: int, output_tokens: int, on_token: Callable[[int], None]) -> None:
        self.prefill_left = prompt_tokens
        self.output_tokens = output_tokens
        self.on_token = on_token
        self.generated = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SimulatedEngine:
    """Runs jobs at modelled costs on a given clock.

    At most `max_running` jobs are admitted, in order of arrival; the others wait. The engine alternates between one
    chunk of the oldest admitted job's prefill and one decode step, in which every prefilled job gains one token.
    """

    def __init__(self, settings: SimulatedSettings, clock: Clock, sleep: Sleep) -> None:
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._waiting: deque[Job] = deque()
        self._prefilling: deque[Job] = deque()
        self._decoding: list[Job] = []
        self._task: asyncio.Task[None] | None = None
        self._time = 0.0

    @property
    def running(self) -> int:
        """Jobs that are admitted."""
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        """Jobs that wait for admission."""
        return len(self._waiting)

    async def run(self, job: Job) -> None:
        """Run a job to its end. When cancelled, its place is free at once."""
        self._waiting.append(job)
        if self._task is None:
            self._time = self._clock()
            self._task = asyncio.create_task(self._work(), name="simulated engine")
        try:
            await job.ended
        finally:
            self._remove(job)

    async def close(self) -> None:
        """Stop; jobs that still run are cancelled."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for job in (*self._waiting, *self._prefilling, *self._decoding):
            job.ended.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting or self.running:
                while self._waiting and self.running < self._settings.max_running:
                    self._prefilling.append(self._waiting.popleft())
                if self._prefilling:
                    await self._prefill_chunk(self._prefilling[0])
                if self._decoding:
                    await self._pass_time(self._settings.step_s)
                    self._decode_step()
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _prefill_chunk(self, job: Job) -> None:
        tokens = min(job.prefill_left, self._settings.chunk_tokens)
        await self._pass_time(tokens / self._settings.prefill_tokens_per_s)
        job.prefill_left -= tokens
        # It may have been cancelled in the meantime.
        if job.prefill_left <= 0 and self._prefilling and self._prefilling[0] is job:
            self._prefilling.popleft()
            self._decoding.append(job)

    def _decode_step(self) -> None:
        running, self._decoding = self._decoding, []
        for job in running:
            if job.ended.done():
                continue
            job.generated += 1
            job.on_token(job.generated)
            if job.generated < job.output_tokens:
                self._decoding.append(job)
            else:
                job.ended.set_result(None)

    async def _pass_time(self, seconds: float) -> None:
        # Against the engine's own time: late wake-ups do not add up.
        self._time += seconds
        await self._sleep(max(0.0, self._time - self._clock()))

    def _remove(self, job: Job) -> None:
        for held in (self._waiting, self._prefilling, self._decoding):
            if job in held:
                held.remove(job)
