"""A client in front of a scripted service; modules that want another of either have a fixture of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from expresslane_client import Client

from tests.support.stub_server import StubService, serve_stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def service() -> StubService:
    """The scripted service."""
    return StubService()


@pytest.fixture
async def client(service: StubService) -> AsyncIterator[Client]:
    """A client of it."""
    async with serve_stub(service) as address, Client(address) as client:
        yield client
