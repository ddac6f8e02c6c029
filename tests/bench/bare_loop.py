"""The denominator: the least that a program in Python does for the same requests. aiohttp, uvloop, orjson, no service.

64 workers share one session and one list of prompts. Every answer is parsed and its text and token counts are taken.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from expresslane import memory
from yarl import URL

from tests.bench import child, load

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = {"Content-Type": "application/json"}


class BareLoop:
    """Sends requests `in_flight` at a time."""

    def __init__(self, base: str, seed: int) -> None:
        self._base = base
        self._texts = load.texts(2_000, seed)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._words = 0

    async def run(self, *, mode: str, count: int, in_flight: int) -> dict[str, Any]:
        """Do `count` requests; returns how long it took."""
        url = URL(f"{self._base}/{mode}/v1/chat/completions")
        work = iter(range(count))
        one = self._stream if mode.startswith("stream") else self._whole
        started = time.perf_counter()
        await asyncio.gather(*(self._worker(one, url, work) for _ in range(in_flight)))
        return {"wall_s": time.perf_counter() - started, "tokens": self._words}

    async def _worker(self, one: Any, url: URL, work: Iterator[int]) -> None:
        for number in work:
            await one(url, self._texts[number % len(self._texts)])

    async def _whole(self, url: URL, text: str) -> None:
        data = orjson.dumps(load.body(text, stream=False))
        async with self._session.post(url, data=data, headers=HEADERS) as response:
            response.raise_for_status()
            answer = orjson.loads(await response.read())
        choice = answer["choices"][0]
        if not choice["message"]["content"] or choice["finish_reason"] != "stop":
            raise ValueError("not the expected answer")
        self._words += answer["usage"]["completion_tokens"]

    async def _stream(self, url: URL, text: str) -> None:
        data = orjson.dumps(load.body(text, stream=True))
        parts: list[str] = []
        tail = b""
        reason = None
        async with self._session.post(url, data=data, headers=HEADERS) as response:
            response.raise_for_status()
            async for chunk in response.content.iter_any():
                # The service's way: split a chunk once. Here every event is one line of data.
                complete, _, tail = (tail + chunk).rpartition(b"\n\n")
                if not complete:
                    continue
                for payload in complete[6:].split(b"\n\ndata: "):
                    if payload == b"[DONE]":
                        continue
                    event = orjson.loads(payload)
                    if event["choices"]:
                        choice = event["choices"][0]
                        if content := choice["delta"].get("content"):
                            parts.append(content)
                        reason = choice["finish_reason"] or reason
                    if usage := event.get("usage"):
                        self._words += usage["completion_tokens"]
        if not "".join(parts) or reason != "stop":
            raise ValueError("not the expected answer")


async def start() -> Any:
    """The loop for the upstream and seed of the command line, with the service's own garbage collection."""
    bare = BareLoop(sys.argv[1], int(sys.argv[2]))
    memory.settle()
    return bare.run


if __name__ == "__main__":
    child.serve(start)
