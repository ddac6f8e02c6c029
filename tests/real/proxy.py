"""A transparent proxy before an engine: hands every byte on as it is, and remembers who asked what and when.

Each connection to the proxy has one of its own to the engine, and when one side closes, so does the other: neither can
tell that somebody stands between them. What the proxy remembers of an answer it remembers before it hands it on, so a
reader of the answer cannot have acted on it any earlier.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from .exchange import HEAD_END, Exchange

__all__ = ["Connection", "RecordingProxy", "peak"]

READ_BYTES = 65_536


@dataclass(eq=False)
class Connection:
    """One connection of a caller, how many requests came over it, and who closed it first."""

    number: int
    requests: int = 0
    closed_by: Literal["", "caller", "engine", "proxy"] = ""
    current: Exchange | None = None


def peak(spans: Iterable[tuple[int, int]]) -> int:
    """The most spans (from, until) that overlap at any moment."""
    steps = sorted(step for since, until in spans for step in ((since, 1), (until, -1)))
    level = highest = 0
    for _, step in steps:
        level += step
        highest = max(highest, level)
    return highest


class RecordingProxy:
    """`async with RecordingProxy(engine.port) as proxy: ... proxy.url`, then `proxy.generations`.

    With `stale` set to a number, so many requests that come over a connection used before are left unanswered and
    their connection is closed: what happens when an engine closes an idle connection while a request is on its way.
    """

    def __init__(self, engine_port: int) -> None:
        self._engine_port = engine_port
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.url = ""
        self.exchanges: list[Exchange] = []
        self.connections: list[Connection] = []
        self.stale = 0

    @property
    def generations(self) -> list[Exchange]:
        """Requests to generate something that the engine has heard, in the order they came."""
        return [exchange for exchange in self.exchanges if exchange.method == "POST" and not exchange.unheard]

    @property
    def running(self) -> list[Exchange]:
        """Generations that are not over."""
        return [exchange for exchange in self.generations if not exchange.ended_ns]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that passed by makes the condition true; the test's own timeout bounds it."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        connection = Connection(len(self.connections))
        self.connections.append(connection)
        writers = [to_caller]
        try:
            engine, to_engine = await asyncio.open_connection("127.0.0.1", self._engine_port)
            writers.append(to_engine)
            ways = [
                asyncio.ensure_future(self._requests(connection, caller, to_engine)),
                asyncio.ensure_future(self._answers(connection, engine, to_caller)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            connection.closed_by = "engine"
        finally:
            if connection.current is not None:
                connection.current.cut_off(by_caller=connection.closed_by == "caller")
            for writer in writers:
                writer.close()
            self._changed.set()

    async def _requests(self, connection: Connection, caller: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await caller.readuntil(HEAD_END)
                exchange, body = await self._read_request(connection, head, caller)
                connection.requests += 1
                if self.stale and connection.requests > 1:
                    self.stale -= 1
                    connection.closed_by = "proxy"
                    return
                connection.current = exchange
                self.exchanges.append(exchange)
                self._changed.set()
                if not await _sent(out, head + body):
                    connection.closed_by = connection.closed_by or "engine"
                    return
        connection.closed_by = connection.closed_by or "caller"

    @staticmethod
    async def _read_request(
        connection: Connection, head: bytes, caller: asyncio.StreamReader
    ) -> tuple[Exchange, bytes]:
        first, *lines = head.decode().strip().split("\r\n")
        method, path, _ = first.split()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await caller.readexactly(int(headers.get("content-length", 0)))
        return Exchange(connection.number, method, path, headers, json.loads(body) if body else {}), body

    async def _answers(self, connection: Connection, engine: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await engine.read(READ_BYTES):
                if connection.current is not None:
                    connection.current.feed(data)
                    self._changed.set()
                if not await _sent(out, data):
                    connection.closed_by = connection.closed_by or "caller"
                    return
        connection.closed_by = connection.closed_by or "engine"


async def _sent(out: asyncio.StreamWriter, data: bytes) -> bool:
    """Pass something on; False when that side has closed."""
    try:
        out.write(data)
        await out.drain()
    except OSError:
        return False
    return True
