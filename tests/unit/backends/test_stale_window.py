"""How soon after a request a kept connection must end to have been stale: by the distance of its backend (T10)."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from expresslane.backends import http

from tests.support.virtual_time import virtual_time

MS = 1_000_000


class _Far(aiohttp.BaseConnector):
    """Opens one connection, in so long, and gives it out again at once."""

    opens_in_s = 0.0
    protocol: http._Protocol | None = None

    async def connect(self, *_args: Any, **_options: Any) -> Any:
        """The connection."""
        if self.protocol is None:
            await asyncio.sleep(self.opens_in_s)
            self.protocol = http._Protocol(asyncio.get_running_loop())
        return Mock(protocol=self.protocol)


class _Connector(http.Telling, _Far):
    """The pool under test."""


@pytest.mark.parametrize(
    ("opens_in_ms", "window_ms"), [(0, 50), (20, 50), (25, 50), (110, 220), (400, 800), (3_000, 1_000)]
)
@virtual_time
async def test_twice_what_connecting_took(opens_in_ms: int, window_ms: int) -> None:
    """A round trip away, and some: never below 50 ms, never above a second, and the same for each later request."""
    connector = _Connector()
    connector.opens_in_s = opens_in_ms / 1_000
    for received in (0, 10):
        await connector.connect()
        carrier = http._carrier.get()
        assert carrier.protocol is not None
        assert carrier.stale_window_ns == pytest.approx(window_ms * MS, abs=1_000)
        assert carrier.may_be_stale == (received > 0)
        carrier.protocol.received_bytes = 10
    await connector.close()
