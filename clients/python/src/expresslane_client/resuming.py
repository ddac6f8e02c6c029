"""Going on after a lost connection: what for, how long, how often, and who is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from expresslane_client.errors import CallError, RefusedError, UnavailableError
from expresslane_client.results import STOPPING, Result

__all__ = ["CutOff", "OnResume", "Resume", "Resuming", "Resumption"]


@dataclass(frozen=True, slots=True)
class Resume:
    """Bounds of going on after a lost connection; they hold from one result to the next.

    `time_s`: longest time without a result from the loss on; `attempts`: most tries. Before each comes a pause
    of half to all of `pause_s`, which doubles with every try up to `pause_max_s`; never less than the service asks for.
    """

    time_s: float = 120.0
    attempts: int = 100
    pause_s: float = 0.2
    pause_max_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Resuming:
    """The connection is lost and the call will go on: `unfinished` of `total` results are still to come."""

    unfinished: int
    total: int
    attempt: int
    pause_s: float
    error: CallError


OnResume = Callable[[Resuming], object]

_WORTH_WAITING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class CutOff:
    """Results of a stopping service, held back while another may give better ones; the keys tell prompts apart."""

    def __init__(self) -> None:
        self._results: dict[str | int, Result] = {}

    def __len__(self) -> int:
        return len(self._results)

    def hold(self, key: str | int, result: Result) -> None:
        """This is the prompt's result if there is no better one."""
        self._results[key] = result

    def drop(self, key: str | int) -> None:
        """There is a better one."""
        self._results.pop(key, None)

    def give_up(self) -> list[Result]:
        """The results, which are final now."""
        results = list(self._results.values())
        self._results.clear()
        return results

    @property
    def error(self) -> RefusedError:
        """What has happened, as an error of the call."""
        delays = [one.error.retry_after_s for one in self._results.values() if one.error and one.error.retry_after_s]
        return RefusedError(
            grpc.StatusCode.UNAVAILABLE,
            "the service is stopping",
            reason=STOPPING,
            retry_after_s=max(delays, default=None),
        )


class Resumption:
    """Decides, for one call, whether it goes on after an error, and waits before it does."""

    def __init__(self, resume: Resume, on_resume: OnResume | None = None) -> None:
        self._resume = resume
        self._on_resume = on_resume
        self._attempt = 0
        self._lost_s = 0.0
        self._stopped = asyncio.Event()
        self.pausing = False
        self.ready = False
        """Whether the service has accepted the call: before that nothing is lost."""

    def progress(self) -> None:
        """Something has come that counts."""
        self.ready = True
        self._attempt = 0

    def stop(self) -> None:
        """End a pause, and make none any more."""
        self._stopped.set()

    async def pause(self, error: CallError, unfinished: int, total: int, *, end_s: float | None = None) -> None:
        """Wait for the next try, which must begin before `end_s` of the loop's clock. Raises the error to give up."""
        loop = asyncio.get_running_loop()
        if not self._attempt:
            self._lost_s = loop.time()
        longest_s = min(self._resume.pause_max_s, self._resume.pause_s * 2 ** min(self._attempt, 32))
        pause_s = random.uniform(longest_s / 2, longest_s)  # noqa: S311 - spreads callers, guards nothing
        if isinstance(error, RefusedError):
            pause_s = max(pause_s, error.retry_after_s or 0.0)
        last_s = min(self._lost_s + self._resume.time_s, end_s or float("inf"))
        if not self._can_help(error) or self._attempt >= self._resume.attempts or loop.time() + pause_s > last_s:
            raise error
        self._attempt += 1
        if self._on_resume is not None:
            self._on_resume(Resuming(unfinished, total, self._attempt, pause_s, error))
        self.pausing = True
        try:
            await asyncio.wait_for(self._stopped.wait(), pause_s)
        except TimeoutError:
            return
        finally:
            self.pausing = False

    def _can_help(self, error: CallError) -> bool:
        """A connection can come back; so can room in a queue, and a service in the place of one that is stopping."""
        known = isinstance(error, UnavailableError | RefusedError)
        return self.ready and known and error.code in _WORTH_WAITING and not self._stopped.is_set()
