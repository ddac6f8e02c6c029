"""The process of one faulty backend: it follows a plan, keeps its own record, and answers commands about both."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from tests.bench import child
from tests.chaos.faults import Faults, Plan
from tests.chaos.overlap import exceeded
from tests.chaos.refused import allowed
from tests.support.fake_backend import FakeBackend, SeenRequest

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["FaultyBackend"]

MODEL = "m"
LAG_STEP_S = 0.01
_NAME = re.compile(rb'"content": ?"(\w+) ')
"""Callers put the custom_id first in the text."""


class FaultyBackend:
    """A fake backend with its faults, its flaps and its record.

    Commands: `begin`, `levels`, `record`, `name`, `begun`.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._faults = Faults(plan, seed)
        self._spans: list[tuple[int, int]] = []
        self._begun_ns: dict[str, int] | None = None
        self._fake = FakeBackend(
            models=(MODEL,), keep=False, keep_alive_s=plan.keep_alive_s or None, on_end=self._ended
        )
        self._fake.on(self._faults.script)
        self._tasks: list[Task[None]] = []
        self._flaps = 0
        self._lag_s = 0.0

    async def listen(self) -> str:
        """Start; returns the URL."""
        await self._fake.listen()
        self._tasks.append(asyncio.create_task(self._watch_lag()))
        return self._fake.url

    async def carry_out(self, do: str, **values: Any) -> dict[str, Any]:
        """One command of the parent."""
        answer: dict[str, Any] = await getattr(self, f"_do_{do}")(**values)
        return answer

    async def _do_begin(self) -> dict[str, Any]:
        """Storms and flaps count from now, and so does the record."""
        self._faults.begin()
        self._spans.clear()
        self._flaps, self._lag_s = 0, 0.0
        await self._stop_flaps()
        if self._plan.flap_every_s:
            self._tasks.append(asyncio.create_task(self._flap()))
        return {}

    async def _do_levels(self) -> dict[str, Any]:
        return {"connections": self._fake.open_connections, "in_flight": self._fake.in_flight}

    async def _do_record(self, cap: int) -> dict[str, Any]:
        """What it saw since `begin`, against the cap."""
        return {
            "requests": len(self._spans),
            "peak": self._fake.peak,
            "cap": cap,
            "exceeded": [[end - begin, most] for begin, end, most in exceeded(self._spans, cap)],
            # What would have been found if the cap were one less: the check can only see what lasts.
            "seen_if_one_less": len(exceeded(self._spans, cap - 1)),
            "over_cap_without_grace": len(exceeded(self._spans, cap, grace_ns=0)),
            "did": self._faults.counts,
            "limited": self._limited(cap),
            "flaps": self._flaps,
            "longest_lag_ms": round(self._lag_s * 1e3, 1),
        }

    async def _do_name(self) -> dict[str, Any]:
        """Keep from now on when each prompt was last begun."""
        self._begun_ns = {}
        return {}

    async def _do_begun(self, names: list[str]) -> dict[str, Any]:
        """When the work on those of these prompts that came here was last begun, monotonic."""
        begun_ns = self._begun_ns or {}
        return {"begun_ns": {name: begun_ns[name] for name in names if name in begun_ns}}

    def _limited(self, cap: int) -> dict[str, int]:
        """How often it has answered 429 in each of its storms, against what those allow."""
        bound, each = allowed(self._plan, cap), self._faults.limited.values()
        return {
            "storms": len(each),
            "most_in_one": max(each, default=0),
            "allowed_in_one": bound,
            "above": sum(max(0, count - bound) for count in each),
        }

    def _ended(self, request: SeenRequest) -> None:
        self._spans.append((request.begun_ns, request.ended_ns))
        if self._begun_ns is not None and (found := _NAME.search(request.body)):
            self._begun_ns[found[1].decode()] = request.begun_ns

    async def _stop_flaps(self) -> None:
        flaps, self._tasks[1:] = self._tasks[1:], []
        for task in flaps:
            task.cancel()
        await asyncio.gather(*flaps, return_exceptions=True)

    async def _flap(self) -> None:
        while True:
            await asyncio.sleep(self._plan.flap_every_s - self._plan.flap_s)
            await self._fake.close()
            try:
                await asyncio.sleep(self._plan.flap_s)
            finally:
                await self._fake.listen()
            self._flaps += 1

    async def _watch_lag(self) -> None:
        """How late this loop is at worst: what the record's times can be wrong by."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_STEP_S
            await asyncio.sleep(LAG_STEP_S)
            self._lag_s = max(self._lag_s, loop.time() - due)


async def main() -> None:
    """The backend for the plan and the seed of the command line: says its URL, then carries out commands to the end."""
    plan = orjson.loads(sys.argv[1])
    backend = FaultyBackend(Plan(**{**plan, "latency_s": tuple(plan["latency_s"])}), int(sys.argv[2]))
    url = await backend.listen()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    child.reply(url=url, done=True)
    while line := await lines.readline():
        child.reply(**await backend.carry_out(**orjson.loads(line)), done=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
