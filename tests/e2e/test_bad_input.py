"""What strangers send: metadata without end, streams without number, bytes that are no gRPC. The service goes on."""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from expresslane.auth.keys import new_key
from expresslane_client import Client, RefusedError
from grpc.aio import AioRpcError, insecure_channel

from tests.e2e.served import Served
from tests.support.http2_sender import frame, literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COLLECT = "/expresslane.v1.Inference/CollectBatch"
STREAM = "/expresslane.v1.Inference/StreamPrompts"
STREAMS = 10_000
BOUND = 2_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@asynccontextmanager
async def serving(folder: Path, **environ: str) -> AsyncIterator[Served]:
    """A service that must be well afterwards; its log is read while it runs."""
    async with Served(folder, **environ) as served:
        reading = asyncio.ensure_future(served.rest())
        try:
            yield served
        finally:
            if sys.exc_info()[0] is not None:
                reading.cancel()
        async with Client(served.address) as client:
            (result,) = (await client.collect_batch(["x"], timeout_s=20)).results
            assert result.ok
            snapshot = await client.get_snapshot()
            assert (snapshot.queued, snapshot.in_flight, snapshot.open_batches) == (0, 0, 0)
        served.terminate()
        assert await served.process.wait() == 0
        await reading
        errors = [line for line in served.log if line["level"] in {"error", "critical"}]
        assert errors == [], errors


@pytest.mark.parametrize(
    "metadata",
    [
        [("x-large", "x" * 1_000_000)],
        [(f"x-{number}", "x" * 100) for number in range(2_000)],
        [("authorization", "Bearer " + "x" * 100_000)],
    ],
    ids=["one", "many", "key"],
)
async def test_oversized_metadata(tmp_path: Path, metadata: list[tuple[str, str]]) -> None:
    """A hundred calls with metadata beyond what gRPC takes: refused by it, and a few lines tell of calls that ended."""
    async with serving(tmp_path) as served, insecure_channel(served.address) as channel:
        call: Any = channel.unary_unary(COLLECT)
        for _ in range(100):
            with pytest.raises(AioRpcError) as raised:
                await call(b"", metadata=metadata, timeout=20)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    about = [line for line in served.log if line["event"].startswith("call")]
    events = Counter(line["event"] for line in about if line.get("code") != "OK")
    assert set(events) <= {"call ended before its first message", "call refused: METADATA_TOO_LARGE"}
    assert 1 <= events.total() <= 10


async def test_ten_thousand_open_streams(tmp_path: Path) -> None:
    """Of streams that say nothing as many are kept as may be open; the others get TOO_MANY_CALLS; all can go again."""
    settings = {
        "EXPRESSLANE_MAX_OPEN_CALLS": str(BOUND),
        "EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S": "1h",
        "EXPRESSLANE_ARRIVING_LIMIT_BYTES": str(BOUND * 64 * 2**20),  # all may be read at once: none gives way
    }
    async with serving(tmp_path, **settings) as served:
        await open_too_many(served.address)
    warnings = [line for line in served.log if line["event"] == "call refused: TOO_MANY_CALLS"]
    assert 1 <= len(warnings) <= 10


async def test_ten_thousand_silent_streams_of_one_tenant(tmp_path: Path) -> None:
    """They fill their tenant's part, others are served meanwhile, and their places come back without their doing."""
    settings = {
        "EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_CALLS": str(BOUND),
        "EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S": "5s",
    }
    async with serving(tmp_path, **settings) as served:
        silent, busy = Client(served.address, tenant="silent"), Client(served.address, tenant="busy")
        async with insecure_channel(served.address) as channel, silent, busy:
            open_stream: Any = channel.stream_stream(STREAM)
            calls = [open_stream(metadata=(("x-expresslane-tenant", "silent"),)) for _ in range(STREAMS)]
            codes = asyncio.gather(*(call.code() for call in calls))
            while not codes.done():
                (result,) = (await busy.collect_batch(["x"], timeout_s=20)).results
                assert result.ok
            counts = Counter(await codes)
            assert set(counts) == {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
            (result,) = (await silent.collect_batch(["x"], timeout_s=20)).results
            assert result.ok
    warnings = [line for line in served.log if line["event"] == "call refused: TOO_MANY_CALLS"]
    assert 1 <= len(warnings) <= 20


KEY_ID = "abcdefgh"
STRANGE = {
    "no credentials": [],
    "unknown key": [("authorization", "Bearer xlane_zzzzzzzz_" + "A" * 43)],
    "wrong secret": [("authorization", f"Bearer xlane_{KEY_ID}_" + "A" * 43)],
    "expired": [],
    "malformed": [("authorization", "Bearer " + "=" * 60)],
    "empty": [("authorization", "Bearer ")],
    "another scheme": [("authorization", "Basic YWRtaW46YWRtaW4=")],
    "not text": [("x-api-key-bin", b"\x00\xff")],
    "the largest that fits": [("x-api-key", "x" * 7_000)],
    "twice": [("x-api-key", "one"), ("x-api-key", "two")],
}


async def test_keys_that_open_nothing(tmp_path: Path) -> None:
    """Each kind a hundred times: the same UNAUTHENTICATED for all, a few lines for each, and the service goes on."""
    old_key, old = new_key()
    good_key, good = new_key()
    keys = tmp_path / "keys"
    keys.write_text(f"acme {old}:2020-01-01\nacme {good}\nglobex sha256:{KEY_ID}:{'0' * 64}\n")
    kinds = STRANGE | {"expired": [("authorization", f"Bearer {old_key}")]}
    async with Served(tmp_path, EXPRESSLANE_KEYS_FILE=str(keys)) as served:
        reading = asyncio.ensure_future(served.rest())
        async with insecure_channel(served.address) as channel, Client(served.address, api_key=good_key) as acme:
            call: Any = channel.unary_unary(COLLECT)
            told = set()
            for metadata in kinds.values():
                calls = [call(b"", metadata=metadata) for _ in range(100)]
                assert set(await asyncio.gather(*(one.code() for one in calls))) == {grpc.StatusCode.UNAUTHENTICATED}
                told |= {await one.details() for one in calls}
            assert told == {"no credentials: send the metadata `authorization: Bearer KEY`", "the key is not valid"}
            (result,) = (await acme.collect_batch(["x"], timeout_s=20)).results
            assert result.ok
        served.terminate()
        assert await served.process.wait() == 0
        await reading
    lines = Counter(line["event"] for line in served.log if line["event"].startswith("call refused"))
    assert set(lines) >= {"call refused: no credentials", "call refused: unknown key", "call refused: expired key"}
    assert all(count <= 10 for count in lines.values())
    assert all(key not in repr(served.log) for key in (old_key, good_key, "A" * 43))


async def test_messages_that_are_no_message(tmp_path: Path) -> None:
    """A thousand messages of another type: INVALID_ARGUMENT, a few lines in all, no error; others go on."""
    async with serving(tmp_path) as served, insecure_channel(served.address) as channel:
        call: Any = channel.unary_unary(COLLECT)
        calls = [call(b"\x0a\xff\xff\xff", timeout=60) for _ in range(1_000)]
        assert set(await asyncio.gather(*(one.code() for one in calls))) == {grpc.StatusCode.INVALID_ARGUMENT}
    about = Counter(
        line["event"] for line in served.log if line["event"].startswith("call") and "OK" not in line.values()
    )
    assert set(about) == {"call refused: MALFORMED_MESSAGE"}
    assert 1 <= about.total() <= 10


async def open_too_many(address: str) -> None:
    """Open them all, see how they end, and leave."""
    async with insecure_channel(address) as channel, Client(address) as client:
        open_stream: Any = channel.stream_stream(STREAM)
        calls = [open_stream() for _ in range(STREAMS)]
        ended = [asyncio.ensure_future(call.code()) for call in calls]
        for refused in itertools.islice(asyncio.as_completed(ended), STREAMS - BOUND):
            assert await refused is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert sum(not future.done() for future in ended) == BOUND
        with pytest.raises(RefusedError) as raised:
            await client.collect_batch(["x"])
        assert raised.value.reason == "TOO_MANY_CALLS"
        assert 1 <= (raised.value.retry_after_s or 0) <= 60, "it grows for as long as nobody leaves"
        await client.wait_ready(20)
        assert (await client.get_snapshot()).open_batches == 0  # an operator gets in all the same
        for call in calls:
            call.cancel()
        codes = Counter(await asyncio.gather(*ended))
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: STREAMS - BOUND, grpc.StatusCode.CANCELLED: BOUND}
        while True:  # the service learns of the cancels a little later
            with suppress(RefusedError):
                await client.collect_batch(["x"])
                break


async def test_strangers_are_logged_a_few_times(tmp_path: Path) -> None:
    """A thousand calls with wrong keys leave a few lines, and no span or line for each."""
    record = f"sha256:abcdefgh:{'0' * 64}"
    async with Served(tmp_path, EXPRESSLANE_TENANTS__ACME__KEYS=record) as served:
        reading = asyncio.ensure_future(served.rest())
        async with insecure_channel(served.address) as channel:
            call: Any = channel.unary_unary(COLLECT)
            wrong = (("authorization", "Bearer xlane_abcdefgh_" + "A" * 43),)
            codes = await asyncio.gather(*(call(b"", metadata=wrong).code() for _ in range(1_000)))
        assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
        served.terminate()
        assert await served.process.wait() == 0
        await reading
    about = [line for line in served.log if "call" in line["event"]]
    assert 1 <= len(about) <= 10
    assert {line["event"] for line in about} == {"call refused: unknown key"}


SETTINGS = frame(4, 0, 0, b"")
HEAD = literal(b":method", b"POST") + literal(b":scheme", b"http") + literal(b":path", COLLECT.encode())
MANY_HEADERS = literal(b"x-bomb", b"y" * 100) * 140
INDEXED = literal(b"x-bomb", b"y" * 100).replace(b"\x00", b"\x40", 1) + b"\xbe" * 16_000
"""One header taken into the dynamic table, then sixteen thousand references to it, a byte each: an HPACK bomb."""

ABUSE = {
    "not HTTP at all": [b"\x00\xff" * 50_000],
    "HTTP/1.1": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100],
    "a header block without end": [
        PREFACE + SETTINGS + frame(1, 0, 1, HEAD),
        *[frame(9, 0, 1, MANY_HEADERS)] * 2_000,
    ],
    "an HPACK bomb": [
        PREFACE + SETTINGS,
        *[frame(1, 4, 2 * number + 1, HEAD + INDEXED) for number in range(50)],
    ],
    "a frame longer than allowed": [PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 1_000_000],
    "streams opened and reset": [
        PREFACE + SETTINGS,
        *[
            frame(1, 4, 2 * number + 1, HEAD) + frame(3, 0, 2 * number + 1, struct.pack(">I", 8))
            for number in range(20_000)
        ],
    ],
    "pings": [PREFACE + SETTINGS, *[frame(6, 0, 0, b"12345678")] * 20_000],
    "a message longer than it says": [
        PREFACE + SETTINGS + frame(1, 4, 1, HEAD) + frame(0, 1, 1, b"\x00\xff\xff\xff\xff" + b"x" * 100)
    ],
}


@pytest.mark.parametrize("kind", ABUSE)
async def test_bytes_that_are_no_good_http2(tmp_path: Path, kind: str) -> None:
    """GRPC closes such a connection or ends the call; memory does not grow with it, and others are served."""
    async with serving(tmp_path) as served:
        before = served.resident_bytes()
        for _ in range(3):
            await send(served.address, ABUSE[kind])
        assert served.resident_bytes() - before < 100 * 1024 * 1024


async def send(address: str, parts: list[bytes]) -> None:
    """Send as long as the other side takes it, take what it says, and leave."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    taking = asyncio.ensure_future(reader.read())
    try:
        with suppress(OSError):
            for part in parts:
                if taking.done():
                    break
                writer.write(part)
                await writer.drain()
            writer.write_eof()
        with suppress(OSError):
            await asyncio.wait_for(taking, 20)
    finally:
        writer.transport.abort()
