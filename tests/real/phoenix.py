"""A real Arize Phoenix on free loopback ports: takes spans by OTLP gRPC and hands them back by REST."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from .engines import built_paths
from .process import ServerProcess, free_port

READY_TIMEOUT_S = 120.0
POLL_S = 0.05
PAGE_SPANS = 500
Span = dict[str, Any]


class Phoenix:
    """A trace backend to test against; `async with Phoenix(tmp_path) as phoenix: ... phoenix.otlp_endpoint`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.grpc_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.otlp_endpoint = f"http://127.0.0.1:{self.grpc_port}"
        environment = {
            "PHOENIX_WORKING_DIR": str(folder / f"phoenix-{self.port}"),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(self.grpc_port),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }
        self.process = ServerProcess([built_paths().phoenix, "serve"], folder / f"phoenix-{self.port}.log", environment)

    async def start(self) -> None:
        """Start, and return when it is healthy."""
        await self.process.start(f"{self.url}/healthz", READY_TIMEOUT_S)

    async def stop(self) -> None:
        """End the process; its database and log stay."""
        await self.process.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def spans(self, project: str = "default", *, trace_id: str | None = None) -> list[Span]:
        """Every span of a project, or of one trace in it; a project without spans so far has none.

        Keys: name, context {trace_id, span_id}, parent_id, span_kind, start_time, end_time, status_code (OK | ERROR |
        UNSET), status_message, attributes by their flat dotted names, events [{name, timestamp, attributes}].
        """
        spans: list[Span] = []
        query: dict[str, str] = {"limit": str(PAGE_SPANS)}
        if trace_id is not None:
            query["trace_id"] = trace_id
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{self.url}/v1/projects/{project}/spans", params=query) as response:
                    if response.status == HTTPStatus.NOT_FOUND:
                        return []
                    response.raise_for_status()
                    page = await response.json()
                spans += page["data"]
                if page["next_cursor"] is None:
                    return spans
                query["cursor"] = page["next_cursor"]

    async def wait_spans(
        self,
        are_enough: Callable[[list[Span]], bool],
        project: str = "default",
        *,
        trace_id: str | None = None,
        timeout_s: float = 10.0,
    ) -> list[Span]:
        """Read until `are_enough(spans)`: an export is acknowledged before it is stored. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not are_enough(spans := await self.spans(project, trace_id=trace_id)):
            if time.monotonic() > deadline:
                names = sorted(str(span["name"]) for span in spans)
                raise TimeoutError(f"not the expected spans within {timeout_s:g} s, but {len(spans)}: {names}")
            await asyncio.sleep(POLL_S)
        return spans
