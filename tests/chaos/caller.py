"""The process of all callers: tenants with many calls each, some of whom leave, cancel or read slowly."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from typing import IO, TYPE_CHECKING, Any

import orjson
from expresslane_client import CallError, Client, ExpresslaneClientError, Outcome, Prompt, PromptSession
from grpc.aio import AioRpcError

from tests.bench import child
from tests.chaos.faults import AT_LENGTH
from tests.chaos.open_loop import OpenLoop
from tests.chaos.silence import Silence
from tests.chaos.slow_reader import SlowReader
from tests.chaos.slow_session import SlowSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from expresslane_client import BatchCall, Result

__all__ = ["Caller", "behaviours"]

SESSION_SHARE = 0.3
MEDIAN_WORDS = 20
LONG_SHARE = 0.005
LONG_WORDS = 6_000
"""So many fill the long lane of an engine with the threshold of `storm.SETTINGS`."""
SILENT_S = 90.0
"""Longer than a slow reader waits to be held, which nobody else may have results beside, and than any time-out or
back-off of a storm."""


def behaviours(calls: int, rate: float) -> Iterator[str]:
    """What the caller of each call does: of a hundred, one leaves or cancels and one reads slowly, at rate 0.01.

    In turn one leaves and one cancels, and one reads a batch slowly and one a session, where it cancels some prompts.
    """
    every = round(1 / rate)
    cancelled = slow = 0
    for number in range(calls):
        if number % every == every // 3:
            cancelled += 1
            yield "leaves" if cancelled % 2 else "cancels"
        elif number % every == 2 * every // 3:
            slow += 1
            yield "slow" if slow % 2 else "slow session"
        else:
            yield "stays"


class Caller:
    """Carries out `storm` and `open_loop`."""

    def __init__(self, address: str, seed: int) -> None:
        self._address = address
        self._seed = seed
        self._ended = 0
        self._mark_at: list[int] = []
        self._marks_s: list[float] = []
        """When a fifth and four fifths had ended: between them there was always more waiting."""
        self._cancel_after_s: float | None = None
        self._silence = Silence(SILENT_S)

    async def carry_out(self, do: str, **values: Any) -> dict[str, Any]:
        """One command of the parent."""
        answer: dict[str, Any] = await getattr(self, f"_do_{do}")(**values)
        return answer

    async def _do_open_loop(self, **values: Any) -> dict[str, Any]:
        return await OpenLoop(self._address, self._seed).run(**values)

    async def _do_storm(
        self,
        *,
        name: str,
        calls: int,
        size: int,
        tenants: int,
        at_once: int,
        misbehave: float,
        log: str,
        cancel_after_s: float | None = None,
        slow_size: int | None = None,
    ) -> dict[str, Any]:
        """Make the calls, `at_once` of each tenant at a time; each writes one line to the log.

        A slow reader's is its tenant's only one, of `slow_size` prompts; None: of as many as the others.
        Who leaves or cancels does so after `cancel_after_s`; None: when it has read some results. When no caller has
        had a result for SILENT_S, all of them break off, with what they have.
        """
        self._cancel_after_s = cancel_after_s
        kinds = list(behaviours(calls, misbehave)) if misbehave else ["stays"] * calls
        sizes = [slow_size or size if kind.startswith("slow") else size for kind in kinds]
        work = iter(enumerate(zip(kinds, sizes, strict=True)))
        self._ended, wanted = 0, sum(sizes)
        async with AsyncExitStack() as stack:
            lines = stack.enter_context(Path(log).open("wb"))  # noqa: ASYNC230, SIM115 - short lines; closed by the stack
            clients = [
                await stack.enter_async_context(Client(self._address, tenant=f"t{number:02}"))
                for number in range(tenants)
            ]

            async def worker(client: Client) -> None:
                for number, (behaviour, count) in work:
                    await self._call(client, f"{name}{number}", behaviour, count, lines)

            self._marks_s, self._mark_at = [], [wanted // 5, wanted * 4 // 5]
            progress = asyncio.create_task(self._tell(wanted))
            self._silence = Silence(SILENT_S)
            async with self._silence.bounded():
                await asyncio.gather(*(worker(client) for client in clients for _ in range(at_once)))
            progress.cancel()
        steady_s = self._marks_s[1] - self._marks_s[0] if len(self._marks_s) == 2 else 0.0
        return {
            "ended": self._ended,
            "steady_per_s": (wanted * 4 // 5 - wanted // 5) / steady_s if steady_s else 0.0,
            "stood_still": int(self._silence.broken_off),
        }

    async def _tell(self, wanted: int) -> None:
        while True:
            await asyncio.sleep(5)
            child.reply(ended=self._ended, wanted=wanted)

    async def _call(self, client: Client, name: str, behaviour: str, size: int, lines: IO[bytes]) -> None:
        chance = Random(f"{self._seed} {name}")
        prompts = list(self._prompts(name, behaviour, size, chance))
        record: dict[str, Any] = {
            "behaviour": behaviour,
            "sent": [prompt.custom_id for prompt in prompts],
            "results": [],
            "cancelled": [],
            "left": False,
            "held": False,
            "error": "",
        }
        first = asyncio.Event()
        # Without resuming: what comes twice, or breaks, is logged here as it came; the client would put it right.
        try:
            async with asyncio.timeout(self._cancel_after_s if behaviour == "leaves" else None):
                if behaviour == "cancels":
                    async with client.stream_prompts(resume=False) as session:
                        sending = self._send(session, record, prompts, first)
                        await asyncio.gather(self._read(session, record, prompts, first), sending)
                elif behaviour == "slow":
                    async with (
                        Client(self._address, tenant=name) as own,
                        own.generate_batch(prompts, resume=False) as call,
                    ):
                        slow = SlowReader(own, name, lambda: self._ended)
                        await self._read(call, record, prompts, first, slow)
                elif behaviour == "slow session":
                    async with Client(self._address, tenant=name) as own:
                        slow = SlowReader(own, name, lambda: self._ended)
                        slow_session = SlowSession(own, name)
                        reading = self._read(slow_session, record, prompts, first, slow)
                        await asyncio.gather(reading, slow_session.send(prompts, slow, record))
                elif chance.random() < SESSION_SHARE:
                    async with client.stream_prompts(prompts, resume=False) as session:
                        await self._read(session, record, prompts, first)
                else:
                    async with client.generate_batch(prompts, resume=False) as call:
                        await self._read(call, record, prompts, first)
        except TimeoutError:
            record["left"] = True
        except (CallError, AioRpcError) as error:
            record["error"] = str(error)
        finally:  # also when it is broken off: what it has not got then is lost
            lines.write(orjson.dumps(record) + b"\n")

    async def _read(
        self,
        call: BatchCall | PromptSession | SlowSession,
        record: dict[str, Any],
        prompts: list[Prompt],
        first: asyncio.Event,
        slow: SlowReader | None = None,
    ) -> None:
        """Log every result, and leave where that is due. `first` is set at the first result, or when none came."""
        behaviour, half = record["behaviour"], len(prompts) // 2
        results: AsyncIterator[Result] = aiter(call)
        try:
            async for result in results:
                first.set()
                own = result.outcome is not Outcome.SUCCEEDED or result.text.startswith(f"echo {result.custom_id} ")
                reason = result.error.reason if result.error else ""
                row = [result.custom_id, result.outcome.value, reason, result.attempts, own, _tried(result)]
                record["results"].append(row)
                self._count()
                if slow is not None:
                    record["held"] = await slow.pause()
                elif behaviour == "leaves" and self._cancel_after_s is None and len(record["results"]) == half:
                    record["left"] = True
                    return
        finally:
            first.set()
            if slow is not None:
                slow.stopped.set()

    async def _send(
        self, session: PromptSession, record: dict[str, Any], prompts: list[Prompt], first: asyncio.Event
    ) -> None:
        """Send all prompts, then cancel the second half of them: after the delay, or at the first result.

        What it cancels is logged before it is asked for: the answer may come at once.
        """
        with suppress(ExpresslaneClientError):  # who reads is told too, and has the results from before
            await session.send(*prompts)
            if self._cancel_after_s is None:
                await first.wait()
            else:
                await asyncio.sleep(self._cancel_after_s)
            record["cancelled"] = [prompt.custom_id for prompt in prompts[len(prompts) // 2 :]]
            await session.cancel(*record["cancelled"])
            await session.done_sending()

    def _count(self) -> None:
        self._ended += 1
        self._silence.heard()
        if self._ended in self._mark_at:
            self._marks_s.append(asyncio.get_running_loop().time())

    @staticmethod
    def _prompts(name: str, behaviour: str, size: int, chance: Random) -> Iterator[Prompt]:
        for number in range(size):
            custom_id = f"{name}-{number}"
            words = int(MEDIAN_WORDS * chance.lognormvariate(0, 0.8)) + 1
            if behaviour.startswith("slow"):
                # Never long, so that its turn to run comes as soon as the others'.
                yield Prompt(custom_id, f"{custom_id} {AT_LENGTH} " + "word " * words, model="m")
                continue
            if chance.random() < LONG_SHARE:
                words = LONG_WORDS
            yield Prompt(custom_id, f"{custom_id} " + "word " * words, model="m")


def _tried(result: Result) -> list[tuple[str, str]]:
    """The backend of each attempt and what it ended in, where there was more than one: most of a log needs none."""
    if not result.history:
        return []
    tried = [(one.backend, one.reason) for one in result.history]
    if result.attempt_ms is None:  # it ended in the queue
        return tried
    return [*tried, (result.backend, result.error.reason if result.error else "")]


async def start() -> Any:
    """The callers for the address and the seed of the command line."""
    return Caller(sys.argv[1], int(sys.argv[2])).carry_out


if __name__ == "__main__":
    child.serve(start)
