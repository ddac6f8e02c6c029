"""The whole service on virtual time, before fake backends that see the same time: for tests of minutes in an instant.

    @virtual_sockets
    async def test_something() -> None:
        async with VirtualBackend() as fake, VirtualService(fake=backend(fake.url)) as service:
            ...  # as with FakeBackend and Service; `request.begun_ns` is virtual

Servicers, interceptors, core and adapters are those of the service. In the place of gRPC's transport are queues
(memory_grpc), in the place of TCP Unix sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

import aiohttp
from expresslane.app import App
from expresslane.backends import http
from expresslane_client import Client

from tests.support.fake_backend import FakeBackend
from tests.support.memory_grpc import MemoryChannel, MemoryServer
from tests.support.service import Service
from tests.support.virtual_time import now_ns

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["VirtualBackend", "VirtualService"]

_PORTS = itertools.count(1)
_PATHS: dict[int, str] = {}


class VirtualBackend(FakeBackend):
    """A FakeBackend on a Unix socket, at a port that is made up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(clock=now_ns, **options)
        self._folder: tempfile.TemporaryDirectory[str]

    async def listen(self) -> None:
        """Start listening."""
        self._port = next(_PORTS)
        self._folder = tempfile.TemporaryDirectory()
        path = _PATHS[self._port] = str(Path(self._folder.name) / "socket")
        self._server = await asyncio.start_unix_server(self._accept, path, limit=1 << 20, backlog=1_024)

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        await super().close()
        self._folder.cleanup()


class _Connector(http.Telling, aiohttp.UnixConnector):
    """Stands in for the service's own connector."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path="", **options)

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's own
        self._path = _PATHS[req.url.port]
        return await super()._create_connection(req, traces, timeout)


class VirtualService(Service):
    """A Service on the running VirtualSocketLoop's time. `client` is the default tenant's."""

    async def __aenter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(patch("expresslane.backends.http._Connector", _Connector))
        with patch("grpc.aio.server", MemoryServer):
            self.app = App(self.settings, self._telemetry, clock=now_ns)
        self.address = await self.app.start()
        self.client = self.client_of("")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            await super().__aexit__(kind, error, trace)

    def client_of(self, tenant: str) -> Client:
        """A tenant's client; it need not be closed."""
        client = Client(self.address, tenant=tenant)
        client._open = MemoryChannel(self.app.server._main)  # type: ignore[arg-type,assignment]
        return client
