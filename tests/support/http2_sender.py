"""A caller that sends as much as HTTP/2's flow control lets it, and counts: what a service really takes.

Every gRPC library would buffer on the sender's side; this one knows to the byte what has left it.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Self

__all__ = ["Sender", "frame", "literal"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW = 0, 1, 3, 4, 6, 8
FRAME_BYTES = 16_384
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """One header, uncompressed, its lengths below 127."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Sender:
    """`async with Sender(address) as sender:` then `open` streams; `sent` of each grows as the service lets it."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._windows = {0: 65_535}
        self._first_window = 65_535
        self._left: dict[int, memoryview] = {}
        self._next = 1
        self._moved = asyncio.Event()
        self.sent: dict[int, int] = {}
        """Bytes that have left, by stream."""
        self.ended: set[int] = set()
        """Streams that the service has ended."""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        self._writer.transport.abort()

    def open(self, method: str, data: bytes, *metadata: tuple[bytes, bytes]) -> int:
        """A call that sends this, and does not say that it is all. Returns its stream."""
        stream, self._next = self._next, self._next + 2
        headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", method.encode()), (b":authority", b"x")]
        headers += [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *metadata]
        self._writer.write(frame(HEADERS, 4, stream, b"".join(literal(*header) for header in headers)))
        self._windows[stream] = self._first_window
        self.sent[stream] = 0
        self._left[stream] = memoryview(b"")
        self.send(stream, data)
        return stream

    def send(self, stream: int, data: bytes) -> None:
        """Send more on a stream."""
        self._left[stream] = memoryview(bytes(self._left[stream]) + data)
        self._push(stream)

    def cancel(self, stream: int) -> None:
        """Say that the call is of no more interest."""
        self._writer.write(frame(RESET, 0, stream, struct.pack(">I", CANCEL)))

    async def moved(self) -> None:
        """Return once the service has said anything."""
        self._moved.clear()
        await self._moved.wait()

    def _push(self, stream: int) -> None:
        while self._left[stream]:
            size = min(len(self._left[stream]), self._windows[stream], self._windows[0], FRAME_BYTES)
            if size <= 0:
                return
            part, self._left[stream] = bytes(self._left[stream][:size]), self._left[stream][size:]
            self._writer.write(frame(DATA, 0, stream, part))
            self._windows[stream] -= size
            self._windows[0] -= size
            self.sent[stream] += size

    async def _read(self) -> None:
        while True:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == WINDOW:
                self._windows[stream] += int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & 1:
                self._set(payload)
                self._writer.write(frame(SETTINGS, 1, 0, b""))
            elif kind == PING and not flags & 1:
                self._writer.write(frame(PING, 1, 0, payload))
            elif kind == RESET or (kind == HEADERS and flags & 1):
                self.ended.add(stream)
            for one in self._left:
                if one not in self.ended:
                    self._push(one)
            self._moved.set()

    def _set(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == 4:  # the first window of each stream
                for stream in self.sent:
                    self._windows[stream] += value - self._first_window
                self._first_window = value
