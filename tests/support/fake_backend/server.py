"""The fake's server: raw HTTP/1.1 over asyncio, so that every way a connection can go wrong can be played."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import orjson

from tests.support.fake_backend import ollama_dialect, openai_dialect
from tests.support.fake_backend.echo import prompt_of
from tests.support.fake_backend.request import SeenRequest
from tests.support.fake_backend.script import CUT_BEFORE_HEADERS, Script

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeBackend"]

_DIALECTS = {
    "/v1/chat/completions": openai_dialect,
    "/v1/completions": openai_dialect,
    "/api/chat": ollama_dialect,
    "/api/generate": ollama_dialect,
}
_PHRASES = {one.value: one.phrase for one in HTTPStatus}


class _Cut(Exception):  # noqa: N818
    """The script cuts the connection here."""


class FakeBackend:
    """A model server that does as it is told.

    Set `models` and `slots` for what discovery tells, `paths` for a script of one address (`fake.paths["/props"] =
    Script(status=404)`), `below` for a path under which all of it lies (`/gateway`). `on_end` is told of each
    generation at its end; with `keep=False` no request is kept, so that a long run needs no more memory than a short
    one. `keep_alive_s`: a connection idle for so long is closed. `clock`: what its times are read from, in nanoseconds.
    """

    def __init__(
        self,
        *,
        models: tuple[str, ...] = ("fake-model",),
        slots: int = 4,
        keep: bool = True,
        keep_alive_s: float | None = None,
        on_end: Callable[[SeenRequest], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.models = models
        self.slots = slots
        self._keep = keep
        self._keep_alive_s = keep_alive_s
        self._on_end = on_end
        self._clock = clock
        self._seen = 0
        self.paths: dict[str, Script] = {}
        self.below = ""
        self.requests: list[SeenRequest] = []
        self.connections = 0
        self.in_flight = 0
        self.peak = 0
        self._scripts: deque[Script] = deque()
        self._decide: Callable[[SeenRequest], Script | None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Base URL; good also after `close`, when nothing listens there."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    @property
    def generations(self) -> list[SeenRequest]:
        """The requests that asked for an answer, in order of arrival."""
        return [request for request in self.requests if request.path in _DIALECTS]

    @property
    def cancelled(self) -> int:
        """Requests whose client left before the answer's end."""
        return sum(request.cancelled.is_set() for request in self.requests)

    @property
    def sends(self) -> Counter[str]:
        """How often each prompt was asked for."""
        return Counter(prompt_of(request.json) for request in self.generations)

    @property
    def doubles(self) -> set[str]:
        """Prompts that were worked on twice at once: whoever sends again has to have given up the first time."""
        spans = sorted((one.begun_ns, one.ended_ns, prompt_of(one.json)) for one in self.generations if one.begun_ns)
        until: dict[str, float] = {}
        found = set()
        for begun_ns, ended_ns, prompt in spans:
            if begun_ns < until.get(prompt, 0):
                found.add(prompt)
            until[prompt] = max(until.get(prompt, 0), ended_ns or float("inf"))
        return found

    def script(self, *scripts: Script) -> None:
        """What to do with the next generations, one script each, before anything that `on` says."""
        self._scripts.extend(scripts)

    def on(self, decide: Callable[[SeenRequest], Script | None]) -> None:
        """Decide by the request. None from it: the echo."""
        self._decide = decide

    async def wait_for_generations(self, count: int) -> list[SeenRequest]:
        """The generations, once there are at least that many."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.generations) >= count)
        return self.generations

    async def wait_for_requests(self, count: int) -> list[SeenRequest]:
        """All requests, once there are at least that many."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def listen(self) -> None:
        """Start listening; after `close`, again on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=1 << 20)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        try:
            while True:
                async with asyncio.timeout(self._keep_alive_s):
                    request = await self._read_request(reader, connection)
                if request is None or not await self._handle(request, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, _Cut):
            pass
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _read_request(self, reader: asyncio.StreamReader, connection: int) -> SeenRequest | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        path, _, query = target.removeprefix(self.below).partition("?")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = SeenRequest(self._seen, method, path, headers, body, connection, query, target)
        self._seen += 1
        if self._keep:
            async with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
        return request

    async def _handle(self, request: SeenRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, unless its client leaves first. False: the connection is at its end."""
        script = self._script_for(request)
        if script.half_open:
            await asyncio.Event().wait()
        counted = request.path in _DIALECTS
        self.in_flight += counted
        self.peak = max(self.peak, self.in_flight)
        request.begun_ns = self._clock()
        work = asyncio.create_task(self._answer(request, script, writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                request.cancelled.set()
                return False
            work.result()
        except OSError:
            request.cancelled.set()
            return False
        finally:
            self.in_flight -= counted
            request.ended_ns = self._clock()
            if counted and self._on_end is not None:
                self._on_end(request)
            for task in (work, gone):
                task.cancel()
            await asyncio.wait((work, gone))
        request.answered.set()
        return not script.close_after

    def _script_for(self, request: SeenRequest) -> Script:
        if request.path in self.paths:
            return self.paths[request.path]
        if request.path not in _DIALECTS:
            return self._discovery(request.path)
        if self._scripts:
            return self._scripts.popleft()
        return (self._decide(request) if self._decide is not None else None) or Script()

    async def _answer(self, request: SeenRequest, script: Script, writer: asyncio.StreamWriter) -> None:
        if script.before_headers is not None:
            await script.before_headers.wait()
        if script.cut_after == CUT_BEFORE_HEADERS:
            raise _Cut
        dialect = _DIALECTS.get(request.path)
        if script.body is not None or script.status != HTTPStatus.OK or dialect is None:
            await self._send_whole(writer, script, script.body or b"", "application/json")
        elif script.wire is None and not request.json.get("stream", dialect is ollama_dialect):
            await self._send_whole(writer, script, dialect.whole(request.json, script), "application/json")
        else:
            pieces = script.wire if script.wire is not None else dialect.stream(request.json, script)
            kind = "text/event-stream" if dialect is openai_dialect else "application/x-ndjson"
            await self._send_stream(writer, script, list(pieces), kind)

    async def _send_whole(self, writer: asyncio.StreamWriter, script: Script, body: bytes, kind: str) -> None:
        writer.write(_head(script, {"Content-Type": kind, "Content-Length": str(len(body))}) + body)
        await writer.drain()

    async def _send_stream(self, writer: asyncio.StreamWriter, script: Script, pieces: list[bytes], kind: str) -> None:
        writer.write(_head(script, {"Content-Type": kind, "Transfer-Encoding": "chunked"}))
        for number, piece in enumerate(pieces):
            if script.cut_after == number:
                await writer.drain()
                raise _Cut
            await self._pass_gate(writer, script, number)
            _send(writer, _chunk(piece))
        if script.cut_after is not None:
            await writer.drain()
            raise _Cut
        while script.endless:
            _send(writer, _chunk(pieces[-1]))
            await writer.drain()
            # A drain that need not wait does not yield.
            await asyncio.sleep(0)
        await self._pass_gate(writer, script, len(pieces))
        if script.hold_open:
            await writer.drain()
            await asyncio.Event().wait()
        _send(writer, b"0\r\n\r\n")
        await writer.drain()

    async def _pass_gate(self, writer: asyncio.StreamWriter, script: Script, number: int) -> None:
        gate = script.gates.get(number)
        if gate is not None:
            await writer.drain()
            await gate.wait()

    def _discovery(self, path: str) -> Script:
        answers: dict[str, object] = {
            "/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]},
            "/props": {"total_slots": self.slots, "model_path": f"/models/{self.models[0]}.gguf"},
            "/slots": [{"id": number, "is_processing": False} for number in range(self.slots)],
            "/health": {"status": "ok"},
            "/api/tags": {"models": [{"name": name, "model": name} for name in self.models]},
            "/api/ps": {"models": [{"name": name, "model": name} for name in self.models[:1]]},
        }
        if path in answers:
            return Script(body=orjson.dumps(answers[path]))
        return Script(status=404, body=b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}')


def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Raises OSError when the caller has closed: asyncio itself would only log it, again for every piece."""
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)


def _head(script: Script, headers: dict[str, str]) -> bytes:
    # Proxies and providers have statuses of their own, 499, 520 or 529; those have no phrase.
    phrase = _PHRASES.get(script.status, "")
    given = {name.lower() for name in script.headers}
    lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in script.headers.items()]
    return "\r\n".join([f"HTTP/1.1 {script.status} {phrase}", *lines, "", ""]).encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
