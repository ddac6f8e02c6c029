"""Fixtures of the real components: each starts once for the session, and a missing build is a failure, never a skip."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .llama_server import LlamaServer
from .phoenix import Phoenix
from .proxy import RecordingProxy


@pytest.fixture(scope="session")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the logs of this session's real components are."""
    return tmp_path_factory.mktemp("real")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def llama_server(real_folder: Path) -> AsyncIterator[LlamaServer]:
    """The tiny model on four slots of 8,192 tokens."""
    async with LlamaServer(real_folder) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def phoenix(real_folder: Path) -> AsyncIterator[Phoenix]:
    """An empty Phoenix; tests tell their spans apart by trace id."""
    async with Phoenix(real_folder) as backend:
        yield backend


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(llama_server: LlamaServer) -> AsyncIterator[RecordingProxy]:
    """A recording proxy before the engine; the engine is idle again when it goes."""
    async with RecordingProxy(llama_server.port) as proxy:
        yield proxy
    await llama_server.wait_idle()
