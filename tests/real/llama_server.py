"""A real llama-server on a free loopback port, with what its own endpoints say about slots and counters."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp

from .engines import built_paths
from .process import ServerProcess, free_port

READY_TIMEOUT_S = 60.0
# Bounds against hanging, no claims: a machine with other work to do takes its time.
HANG_TIMEOUT_S = 60.0
BUSY_POLL_S = 0.02
# The server looks for closed connections only after a whole second in which it sent no token and no other
# result to anybody, and an answer from /slots is one: asking more often keeps a cancelled request alive.
IDLE_POLL_S = 1.2
ModelName = Literal["tiny", "small"]


class LlamaServer:
    """An engine to test against; `async with LlamaServer(tmp_path, slots=2) as engine: ... engine.url`.

    `context_tokens` is shared by all slots: each has context_tokens / slots. The model answers to the name in `model`.
    With `exact`, KV cells are float32 and flash attention is off: at temperature 0 the same prompt then gives the same
    text whatever runs beside it and however much of it was cached, but for near ties (see `own_answers`). Without, the
    engine keeps its defaults: a prefill of 8,000 tokens takes a third of the time, and about one text in a hundred
    differs from run to run.

    The engine computes with one thread: several spin until the last of them is there, so where other work takes a core
    from one, all stand still (on two busy cores, two took 16 to 33 times as long for a token as one).
    """

    def __init__(
        self,
        log_folder: Path,
        *,
        model: ModelName = "tiny",
        slots: int = 4,
        context_tokens: int = 32_768,
        threads: int = 1,
        exact: bool = True,
        extra_args: Sequence[str] = (),
    ) -> None:
        paths = built_paths()
        self.model = model
        self.slots_total = slots
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        options: dict[str, object] = {
            "--model": paths.model(model),
            "--alias": model,
            "--host": "127.0.0.1",
            "--port": self.port,
            "--parallel": slots,
            "--ctx-size": context_tokens,
            "--threads": threads,
        }
        if exact:
            options |= {"--cache-type-k": "f32", "--cache-type-v": "f32", "--flash-attn": "off"}
        words = [str(word) for option in options.items() for word in option]
        command: list[str | Path] = [paths.llama_server, *words, "--metrics", "--slots", "--no-webui", *extra_args]
        self.process = ServerProcess(command, log_folder / f"llama-server-{self.port}.log", {})

    async def start(self) -> None:
        """Start, and return when the model is loaded and every slot is idle."""
        await self.process.start(f"{self.url}/health", READY_TIMEOUT_S)

    async def stop(self) -> None:
        """End the process; its log stays."""
        await self.process.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def slots(self) -> list[dict[str, Any]]:
        """GET /slots as it is: one object for each slot, with id, is_processing and more."""
        slots: list[dict[str, Any]] = await self._get_json("/slots")
        return slots

    async def busy_slots(self) -> int:
        """How many slots the engine is working in at this moment."""
        return sum(bool(slot["is_processing"]) for slot in await self.slots())

    async def wait_busy(self, count: int, timeout_s: float = HANG_TIMEOUT_S) -> None:
        """Wait until at least `count` slots are busy. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while await self.busy_slots() < count:  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(BUSY_POLL_S)

    async def wait_idle(self, timeout_s: float = HANG_TIMEOUT_S) -> float:
        """Wait until no slot is busy and return the seconds it took, in steps of 1.2. Raises TimeoutError."""
        started = time.monotonic()
        async with asyncio.timeout(timeout_s):
            while await self.busy_slots() > 0:  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(IDLE_POLL_S)
        return time.monotonic() - started

    async def props(self) -> dict[str, Any]:
        """GET /props as it is: total_slots, default_generation_settings, chat_template and more."""
        props: dict[str, Any] = await self._get_json("/props")
        return props

    async def metrics(self) -> dict[str, float]:
        """GET /metrics by name, without the `llamacpp:` in front."""
        lines = (await self._get("/metrics")).decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name.removeprefix("llamacpp:"): float(value) for name, value in samples}

    async def _get_json(self, path: str) -> Any:
        return json.loads(await self._get(path))

    async def _get(self, path: str) -> bytes:
        # A new connection each time: the server closes idle ones, and a reused one may be closed already.
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(self.url + path) as response:
            return await response.read()
