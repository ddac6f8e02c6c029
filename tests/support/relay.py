"""A network that breaks on demand: relays TCP connections to a service, cuts them, refuses new ones for a while."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

__all__ = ["Relay"]

READ_BYTES = 65_536


class Relay:
    """`async with Relay("127.0.0.1:50051") as relay:` then `relay.address`, `relay.cut()`, and `relay.target`.

    While not `open`, nothing gets through and nobody is told. While `refusing`, what connects is closed at once.
    `target` may change: the service behind it was restarted.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self.refusing = False
        self.open = asyncio.Event()
        self.open.set()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusing:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # even if it was cancelled before its first step

    async def _relay(self, caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            service, to_service = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        try:
            ways = [
                asyncio.ensure_future(self._pass(caller, to_service)),
                asyncio.ensure_future(self._pass(service, to_caller)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
        finally:
            to_service.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while (data := await reader.read(READ_BYTES)) and not writer.is_closing():
                await self.open.wait()
                writer.write(data)
                await writer.drain()
