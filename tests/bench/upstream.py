"""A fake model server on raw sockets: canned answers, as little CPU as Python allows, in its own process.

The first part of the path says how it answers: `/plain` one JSON body at once, `/slow/200` the same after 200 ms,
`/held` the same once `/control/release` was asked for, `/stream/5` 50 events and `[DONE]`, each event a chunk of
chunked encoding as real servers send it, in 5 TCP segments one millisecond apart. Any other path gets an empty 200,
which serves as a sink for OTLP over HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, cast

import orjson
import uvloop

from tests.bench.load import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 50
SEGMENT_GAP_S = 0.001
ANSWER = " ".join(["forty-eight words of an answer"] * 10)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: "


def whole(value: object) -> bytes:
    """A complete response with one JSON body."""
    data = orjson.dumps(value)
    return _HEAD + b"application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def completion() -> bytes:
    """A chat completion."""
    return whole(
        {
            "id": "chatcmpl-6f0c1d3e8a7b4c52",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": ANSWER},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 47, "total_tokens": 147},
        }
    )


@cache
def segments(count: int) -> list[bytes]:
    """The response of a stream, cut between events into `count` pieces."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": f" word{number}"}, None) for number in range(EVENTS - 3)]
    deltas.append(({}, "stop"))
    base = {"id": "chatcmpl-6f0c1d3e8a7b4c52", "object": "chat.completion.chunk", "created": 1_760_000_000}
    events = [
        {
            **base,
            "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
        }
        for delta, reason in deltas
    ]
    usage = {"prompt_tokens": 100, "completion_tokens": EVENTS - 3, "total_tokens": 100 + EVENTS - 3}
    events.append({**base, "model": MODEL, "choices": [], "usage": usage})
    payloads = [b"data: " + orjson.dumps(event) + b"\n\n" for event in events]
    chunks = [b"%x\r\n%b\r\n" % (len(payload), payload) for payload in payloads]
    chunks[0] = _HEAD + b"text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks[0]
    chunks[-1] += b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    edges = [round(number * EVENTS / count) for number in range(count + 1)]
    return [b"".join(chunks[start:end]) for start, end in itertools.pairwise(edges)]


class Answers:
    """How each path is answered."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._completion = completion()
        self._models = whole({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        self._empty = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
        self._holding = True
        self._held: list[Callable[[bytes], None]] = []

    def answer(self, path: str, write: Callable[[bytes], None]) -> None:
        """Answer one request, now or later."""
        parts = path.split("/")
        kind = parts[1]
        if path.endswith("/models"):
            write(self._models)
        elif kind == "plain":
            write(self._completion)
        elif kind == "stream":
            self._stream(segments(int(parts[2])), 0, write)
        elif kind == "slow":
            self._loop.call_later(int(parts[2]) / 1e3, write, self._completion)
        elif kind == "held" and self._holding:
            self._held.append(write)
        elif kind == "held":
            write(self._completion)
        elif kind == "control":
            self._control(parts[2])
            write(self._empty)
        else:
            write(self._empty)

    def _stream(self, pieces: list[bytes], sent: int, write: Callable[[bytes], None]) -> None:
        write(pieces[sent])
        if sent + 1 < len(pieces):
            self._loop.call_later(SEGMENT_GAP_S, self._stream, pieces, sent + 1, write)

    def _control(self, wanted: str) -> None:
        self._holding = wanted == "hold"
        held, self._held = self._held, []
        for write in held:
            write(self._completion)


class Connection(asyncio.Protocol):
    """One keep-alive connection without pipelining, as HTTP clients use it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once a request is complete."""
        self._data = data = self._data + data if self._data else data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(data, 0, head + 2)
        if len(data) < head + 4 + (int(length[1]) if length else 0):
            return
        self._data = b""
        self._answers.answer(data[: data.index(b"\r")].split(b" ", 2)[1].decode(), self._write)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def main() -> None:
    """Serve until standard input ends; the first line of standard output is the port."""
    loop = asyncio.get_running_loop()
    answers = Answers()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0, backlog=1_024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
