"""TLS handshakes that fail: told of in the log, a line for many of them, and none for those who get through."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from expresslane_client import Client

from tests.e2e.served import Served
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

EVENT = "TLS connections without a call: a wrong or no certificate, clear text, or a probe"
EACH = 5
AT_ONCE = 200
FLOODS = 4
JUNK = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"junk" * 16, b"")


async def test_wrong_certificates_are_told_of(tmp_path: Path) -> None:
    """No certificate, one of another authority, distrust of ours, clear text: each five times, one line says 20 (P35).

    Callers who get through in between, by call or by health check alone, are not counted.
    """
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    environ = {f"EXPRESSLANE_TLS__{name.upper()}": value for name, value in ours.server(mutual=True).items()}
    good = ours.caller("acme.example")
    async with Served(tmp_path, **environ) as served:
        for _ in range(EACH):
            for context in (offering(), offering(other.issue("acme.example")), offering(trust=str(other.file))):
                await asyncio.to_thread(knock, served.address, context)
            await asyncio.to_thread(knock, served.address, None)
            async with Client(served.address, tls=good) as client:
                await client.wait_ready(20)
            async with Client(served.address, tls=good) as client:
                (result,) = (await client.collect_batch(["x"], timeout_s=20)).results
                assert result.ok
        line = await served.logged(EVENT)
        assert (line["level"], line["connections"]) == ("warning", 4 * EACH)
        served.terminate()
        assert await served.process.wait() == 0
        await served.rest()
    assert sum(line["event"] == EVENT for line in served.log) == 1


async def test_a_flood_of_failing_handshakes_harms_nobody(tmp_path: Path) -> None:
    """Hundreds of connections at once that bring no TLS, from nobody it knows: hung up on, and callers go on (P35)."""
    ours = Authority(tmp_path)
    environ = {f"EXPRESSLANE_TLS__{name.upper()}": value for name, value in ours.server(mutual=True).items()}
    async with Served(tmp_path, **environ) as served:
        async with Client(served.address, tls=ours.caller("acme.example")) as client:
            for flood in range(FLOODS):
                await asyncio.gather(*(babble(served.address, JUNK[at % len(JUNK)]) for at in range(AT_ONCE)))
                (result,) = (await client.collect_batch([str(flood)], timeout_s=20)).results
                assert result.ok
        async with Client(served.address, tls=ours.caller("acme.example")) as late:
            await late.wait_ready(20)
        served.terminate()
        assert await served.process.wait() == 0
        await served.rest()


async def babble(address: str, words: bytes) -> None:
    """Connect, say something that is no TLS, and wait to be hung up on; with nothing to say, hang up."""
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(words)
        if words.startswith(b"GET"):
            await reader.read()
        writer.close()


def offering(pair: tuple[str, str] | None = None, *, trust: str = "") -> ssl.SSLContext:
    """A client's TLS with that certificate and key, which trusts everybody or one authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if trust:
        context.load_verify_locations(trust)
    else:
        context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(*pair)
    context.set_alpn_protocols(["h2"])
    return context


def knock(address: str, context: ssl.SSLContext | None) -> None:
    """Connect, with TLS or in clear text, and wait to be hung up on."""
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), 20) as plain:
        if context is None:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            plain.recv(1)
        else:
            with context.wrap_socket(plain) as secured:
                secured.recv(1)
