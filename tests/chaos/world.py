"""All processes of one run: the backends, the service in front of them, and the callers."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
from expresslane_client import Client

from tests.bench.processes import BenchError, Child, Process
from tests.chaos.levels import Levels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from expresslane_client import Snapshot

    from tests.chaos.faults import Plan

__all__ = ["World", "say"]

READY_S = 30.0
LOOK_AGAIN_S = 1.0


def say(line: str) -> None:
    """A line of progress, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Backend(Process):
    """The process of one faulty backend."""

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(["-m", "tests.chaos.backend", orjson.dumps(plan.values()).decode(), str(seed)])
        self.url = str(orjson.loads(self.line())["url"])

    def do(self, **command: object) -> dict[str, Any]:
        """Carry out one command."""
        self.send(orjson.dumps(command))
        answer: dict[str, Any] = orjson.loads(self.line())
        return answer


class Service(Process):
    """`expresslane serve`, with its shipped settings but for those given."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        ready = folder / "address"
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("EXPRESSLANE_", "OTEL_"))}
        own = {"LISTEN": "127.0.0.1:0", "READY_FILE": str(ready), **settings}
        environ = plain | {f"EXPRESSLANE_{name}": value for name, value in own.items()}
        super().__init__(["-m", "expresslane", "serve"], environ, talks=False)
        until = time.monotonic() + READY_S
        while not (ready.exists() and ready.read_text()):
            if self.ended() or time.monotonic() > until:
                failure = self.failure("did not start")
                self.close()
                raise failure
            time.sleep(0.02)
        self.address = ready.read_text()


class World:
    """`with World([plan, plan], cap=8) as world:` starts everything; `storm` and `open_loop` let callers come."""

    def __init__(self, plans: Sequence[Plan], *, cap: int, seed: int, settings: Mapping[str, str]) -> None:
        self._plans = plans
        self._settings = settings
        self._stack = ExitStack()
        self.cap = cap
        self.seed = seed
        self.backends: dict[str, Backend] = {}
        self.service: Service
        self.folder: Path

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            settings: dict[str, str] = {"LOG_LEVEL": "warning", "LOG_FORMAT": "json"}
            for number, plan in enumerate(self._plans):
                backend = stack.enter_context(Backend(plan, self.seed * 1_000 + number))
                self.backends[f"b{number}"] = backend
                own = {"KIND": "openai", "URL": backend.url, "MODELS": "m", "CAP": str(self.cap)}
                settings |= {f"BACKENDS__B{number}__{name}": value for name, value in own.items()}
            self.service = stack.enter_context(Service(self.folder, settings | dict(self._settings)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def begin(self) -> None:
        """From now on the backends follow the times of their plans, and keep a new record."""
        for backend in self.backends.values():
            backend.do(do="begin")

    def call(self, *, heading: str, **command: object) -> dict[str, Any]:
        """Let callers come, in a process of their own that is gone afterwards; tells their progress."""
        with Child("caller", self.service.address, self.seed, package="tests.chaos") as callers:
            begun = time.monotonic()
            callers.start(**command)
            while not (said := callers.next()).get("done"):
                say(f"{heading}: {time.monotonic() - begun:.0f} s: " + ", ".join(f"{k} {v:,}" for k, v in said.items()))
            return {**said, "wall_s": round(time.monotonic() - begun, 2)}

    def steady_per_s(self, **command: object) -> float:
        """Prompts a second of a storm while there was always one waiting. Raises BenchError when it stood still."""
        done = self.call(heading="capacity", do="storm", **command)
        if done["stood_still"]:
            raise BenchError("the service stands still: it has no capacity that a load could be a part of")
        return float(done["steady_per_s"])

    def levels(self) -> Levels:
        """What there is of everything now."""
        if self.service.ended():
            raise self.service.failure("ended")
        connections = sum(backend.do(do="levels")["connections"] for backend in self.backends.values())
        return Levels.of(self.service.pid, self.snapshot(), connections)

    def settled(self, wanted: Levels | None, patience_s: float) -> Levels:
        """The levels as soon as nothing is above `wanted`, or those after so much patience."""
        until = time.monotonic() + patience_s
        while True:
            now = self.levels()
            if time.monotonic() > until or (wanted is not None and not now.above(wanted)):
                return now
            if wanted is not None:
                say(f"still above the level before: {', '.join(now.above(wanted))}")
            time.sleep(LOOK_AGAIN_S)

    def snapshot(self) -> Snapshot:
        """What the service says of itself. Raises BenchError when it says nothing."""

        async def ask() -> Snapshot:
            async with Client(self.service.address) as client, asyncio.timeout(READY_S):
                return await client.get_snapshot()

        try:
            return asyncio.run(ask())
        except TimeoutError:
            raise self.service.failure(f"says nothing of itself for {READY_S:g} s") from None

    def records(self) -> dict[str, dict[str, Any]]:
        """What each backend has seen."""
        return {name: backend.do(do="record", cap=self.cap) for name, backend in self.backends.items()}
