"""What goes wrong between an adapter and a server: statuses, connections, malformed answers, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003 (pytest reads the annotations of fixtures)

import pytest
from expresslane.backends import http
from expresslane.errors import BackendError, Reason

from tests.support.fake_backend import CUT_BEFORE_HEADERS, FakeBackend, Script, echo_of
from tests.support.fake_backend.adapter import Asker, opened, until
from tests.support.fake_backend.openai_dialect import event

HTML = Script(body=b"<html>Welcome</html>", headers={"Content-Type": "text/html; charset=utf-8"})
DELTA = event({"choices": [{"delta": {"content": "x"}}]})


@pytest.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    """A server."""
    async with FakeBackend() as server:
        yield server


@pytest.fixture
async def asker(fake: FakeBackend) -> AsyncIterator[Asker]:
    """A streaming adapter."""
    async with opened(fake.url) as opened_asker:
        yield opened_asker


async def test_refusal_keeps_what_the_provider_said(fake: FakeBackend, asker: Asker) -> None:
    """A12, P33: status, code, words, body, request id and the wait that was asked for are all kept."""
    body = b'{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}'
    fake.script(Script(status=429, body=body, headers={"Retry-After": "7", "x-request-id": "req-1"}))
    error = await asker.fail()
    assert (error.reason, error.retryable, error.retry_after_s) == (Reason.BACKEND_RATE_LIMITED, True, 7.0)
    assert (error.http_status, error.provider_code, error.provider_request_id) == (429, "rate_limit_exceeded", "req-1")
    assert error.provider_body == body.decode()
    assert error.message == f"{fake.url}: HTTP 429: slow down"


async def test_connection_survives_a_refusal(fake: FakeBackend, asker: Asker) -> None:
    """A08: a refusal leaves the connection usable."""
    fake.script(Script(status=503, body=b"{}"))
    await asker.fail()
    await asker.ask()
    assert fake.connections == 1


MALFORMED: dict[str, tuple[Script, str]] = {
    "an HTML page": (HTML, "sent text/html, not text/event-stream"),
    "truncated JSON in an event": (Script(wire=[b'data: {"choices":[\n\n']), "not JSON"),
    "invalid UTF-8": (Script(wire=[b'data: {"a":"\xff"}\n\n']), "invalid UTF-8 at byte 6"),
    "no object": (Script(wire=[b"data: []\n\n"]), "not a JSON object"),
    "another dialect": (Script(wire=[b'data: {"choices":"x"}\n\n']), "not a chunk"),
    "no field": (Script(wire=[b"nonsense\n\n"]), "no field"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_stream(fake: FakeBackend, asker: Asker, name: str) -> None:
    """A stream that is not what the dialect promises is malformed, with an excerpt, and is not repeated."""
    script, said = MALFORMED[name]
    fake.script(script)
    error = await asker.fail()
    assert (error.reason, error.retryable) == (Reason.BACKEND_MALFORMED, False)
    assert said in error.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"choices":[{"message":{"content":"x"', "not JSON"),
        (b'{"choices":[{"message":{"content":"\xff"}}]}', "invalid UTF-8 at byte 35"),
        (b'{"choices":[]}', "not an answer"),
        (b"{}", "not an answer"),
        (b"", "not JSON"),
        (b"null", "not a JSON object"),
    ],
)
async def test_malformed_body(fake: FakeBackend, body: bytes, said: str) -> None:
    """A body that is not what the dialect promises is malformed, with an excerpt."""
    fake.script(Script(body=body))
    async with opened(fake.url, streaming=False) as asker:
        error = await asker.fail()
    assert error.reason is Reason.BACKEND_MALFORMED
    assert said in error.message


async def test_html_instead_of_json(fake: FakeBackend) -> None:
    """A web page in place of an answer is malformed, though its status is a success."""
    fake.script(HTML)
    async with opened(fake.url, streaming=False) as asker:
        assert (await asker.fail()).reason is Reason.BACKEND_MALFORMED


@pytest.mark.parametrize("cut", [CUT_BEFORE_HEADERS, 0, 1, 2])
async def test_disconnect(fake: FakeBackend, asker: Asker, cut: int) -> None:
    """A20: a connection that breaks before the answer is complete is told as such and may be repeated."""
    fake.script(Script(cut_after=cut))
    error = await asker.fail()
    assert (error.reason, error.retryable) == (Reason.BACKEND_DISCONNECTED, True)
    assert len(fake.generations) == 1


async def test_partial_answer_is_kept(fake: FakeBackend, asker: Asker) -> None:
    """What had come before the connection broke is the partial answer."""
    gate = asyncio.Event()
    fake.script(Script(wire=[DELTA, DELTA, DELTA], cut_after=3, gates={2: gate}))
    answer = asker.answer()
    task = asyncio.create_task(asker.backend.generate(asker.call(), answer))
    await until(lambda: answer.text == "xx")
    gate.set()
    with pytest.raises(BackendError, match="the connection"):
        await task
    assert answer.text.startswith("xx")


async def test_stream_that_just_ends(fake: FakeBackend, asker: Asker) -> None:
    """A stream that ends without finish reason and without [DONE] broke off, however tidily its connection ended."""
    fake.script(Script(finish_reason=None, done=False, usage=False))
    error = await asker.fail()
    assert (error.reason, error.retryable) == (Reason.BACKEND_DISCONNECTED, True)


async def test_stream_that_ends_inside_an_event(fake: FakeBackend, asker: Asker) -> None:
    """A stream that ends inside an event broke off; its half event is not called malformed."""
    fake.script(Script(wire=[DELTA, b'data: {"choices":[{"de']))
    assert (await asker.fail()).reason is Reason.BACKEND_DISCONNECTED


async def test_rubbish_after_the_answer(fake: FakeBackend, asker: Asker) -> None:
    """What follows [DONE] is not looked at, also where it comes with the same chunk."""
    end = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    fake.script(Script(wire=[DELTA + end + b"data: [DONE]\n\nrubbish\n\n"]))
    assert (await asker.ask()).text == "x"


async def test_error_inside_a_stream(fake: FakeBackend, asker: Asker) -> None:
    """O02: an error object after a status of 200 is an error, with the code it gives."""
    fake.script(Script(wire=[DELTA, event({"error": {"message": "out of memory", "code": 503}})]))
    fake.script(Script(wire=[DELTA, event({"error": {"message": "boom"}})], headers={"x-request-id": "r-9"}))
    assert (await asker.fail()).reason is Reason.BACKEND_OVERLOADED
    error = await asker.fail()
    assert (error.reason, error.provider_request_id) == (Reason.BACKEND_ERROR, "r-9")
    assert error.message == f"{fake.url}: boom"


async def test_nothing_listens() -> None:
    """A20: a server that is not there is unreachable, and may be there later."""
    async with FakeBackend() as fake:
        pass
    async with opened(fake.url) as asker:
        error = await asker.fail()
    assert (error.reason, error.retryable) == (Reason.BACKEND_UNREACHABLE, True)


async def test_redirect_is_not_followed(fake: FakeBackend, asker: Asker) -> None:
    """A redirect is an error that says where it points: following it would carry the key to another host."""
    fake.script(Script(status=307, headers={"Location": "http://elsewhere/"}))
    error = await asker.fail()
    assert error.reason is Reason.BACKEND_REJECTED
    assert "http://elsewhere/" in error.message


@pytest.mark.parametrize(
    "script",
    [
        Script(status=400, headers={"x-request-id": "r-\xff"}),
        Script(status=307, headers={"Location": "http://\xff/"}),
        Script(body=b"{}", headers={"Content-Type": "te\xffxt/plain", "request-id": "r-\xff"}),
        Script(wire=[event({"error": {"message": "boom"}})], headers={"x-request-id": "r-\xff"}),
    ],
)
async def test_headers_that_are_no_utf8(fake: FakeBackend, asker: Asker, script: Script) -> None:
    """Bytes in a header that are no text are shown as such: they must not keep the error from its caller."""
    fake.script(script)
    error = await asker.fail()
    shown = error.message + error.provider_request_id
    assert "\\udcff" in shown
    shown.encode()


async def test_connections_are_reused(fake: FakeBackend, asker: Asker) -> None:
    """A08: one connection serves one request after the other, and no more are open than run at once."""
    for _ in range(3):
        await asker.ask()
    assert fake.connections == 1
    await asyncio.gather(*(asker.ask(str(n)) for n in range(8)))
    assert fake.connections <= 8


async def test_each_gets_its_own_answer(fake: FakeBackend, asker: Asker) -> None:
    """A hundred at once each get their own answer."""
    answers = await asyncio.gather(*(asker.ask(f"prompt {n}") for n in range(100)))
    assert [answer.text for answer in answers] == [echo_of(f"prompt {n}") for n in range(100)]
    assert len(fake.generations) == 100


async def test_stale_connection(fake: FakeBackend, asker: Asker) -> None:
    """A kept connection that the server has closed is replaced at once, within the same attempt."""
    fake.script(Script(close_after=True))
    await asker.ask("one")
    assert (await asker.ask("two")).text == echo_of("two")
    assert len(fake.generations) == 2


class Clock:
    """Goes on by so many nanoseconds each time that it is read."""

    def __init__(self, by_ns: int) -> None:
        self._by_ns = by_ns
        self._now_ns = 0

    def __call__(self) -> int:
        self._now_ns += self._by_ns
        return self._now_ns


async def test_connection_that_dies_under_a_request(
    fake: FakeBackend, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept connection that dies before the first byte is replaced once, on a connection of its own."""
    await asker.ask("one")
    monkeypatch.setattr(http, "monotonic_ns", Clock(http.STALE_WINDOW_NS))
    fake.script(Script(cut_after=CUT_BEFORE_HEADERS))
    assert (await asker.ask("two")).text == echo_of("two")
    assert [seen.connection for seen in fake.generations] == [0, 0, 1]


async def test_second_death_is_an_error(fake: FakeBackend, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection that dies as well is an error, not another try."""
    await asker.ask("one")
    monkeypatch.setattr(http, "monotonic_ns", Clock(0))
    fake.script(Script(cut_after=CUT_BEFORE_HEADERS), Script(cut_after=CUT_BEFORE_HEADERS))
    assert (await asker.fail("two")).reason is Reason.BACKEND_DISCONNECTED
    assert len(fake.generations) == 3


async def test_late_death_is_no_stale_connection(
    fake: FakeBackend, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T10: a kept connection that dies later than a round trip is an error: the server may have taken the request."""
    await asker.ask("one")
    monkeypatch.setattr(http, "monotonic_ns", Clock(http.STALE_WINDOW_NS + 1))
    fake.script(Script(cut_after=CUT_BEFORE_HEADERS))
    assert (await asker.fail("two")).reason is Reason.BACKEND_DISCONNECTED
    assert len(fake.generations) == 2


@pytest.mark.parametrize(("after_ns", "sent"), [(200_000_000, 3), (200_000_001, 2)])
async def test_a_backend_far_away_has_longer(
    after_ns: int, sent: int, fake: FakeBackend, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T10: where connecting takes 100 ms, a kept connection that dies after 200 ms was stale; after more it was not."""
    monkeypatch.setattr(http._Protocol, "connect_ns", 100_000_000)
    await asker.ask("one")
    monkeypatch.setattr(http, "monotonic_ns", Clock(after_ns))
    fake.script(Script(cut_after=CUT_BEFORE_HEADERS))
    if sent == 3:
        assert (await asker.ask("two")).text == echo_of("two")
    else:
        assert (await asker.fail("two")).reason is Reason.BACKEND_DISCONNECTED
    assert len(fake.generations) == sent


@pytest.mark.parametrize("begun", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Type: te"])
async def test_an_answer_that_had_begun_is_no_stale_connection(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """T10: a server that has sent the first bytes of an answer has the request: it is not sent again unnoticed."""
    heads: list[bytes] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            if b"POST /" in line:  # behind the body of the one before, which has no end of line
                heads.append(line)
            if line == b"\r\n" and len(heads) == 1:
                body = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
            elif line == b"\r\n" and len(heads) > 1:
                writer.write(begun)
                writer.close()
                return

    monkeypatch.setattr(http, "monotonic_ns", Clock(0))
    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"http://127.0.0.1:{port}") as asker:
            await asker.ask("one")
            assert (await asker.fail("two")).reason is Reason.BACKEND_DISCONNECTED
    assert len(heads) == 2


async def test_restarted_server(fake: FakeBackend, asker: Asker) -> None:
    """A server that was restarted is reached on a new connection."""
    await asyncio.gather(*(asker.ask(str(n)) for n in range(4)))
    await fake.close()
    await fake.listen()
    assert (await asker.ask("again")).text == echo_of("again")


HELD: dict[str, Script] = {
    "before the headers": Script(before_headers=asyncio.Event()),
    "after the role chunk": Script(gates={1: asyncio.Event()}),
    "in the middle": Script(gates={2: asyncio.Event()}),
    "while it floods": Script(wire=[DELTA], endless=True),
}


@pytest.mark.parametrize("name", HELD)
async def test_cancellation_reaches_the_server(fake: FakeBackend, asker: Asker, name: str) -> None:
    """Cancelling an attempt closes its connection, so that the server stops; other attempts go on."""
    fake.script(Script(before_headers=asyncio.Event()) if name == "before the headers" else HELD[name])
    task = asyncio.create_task(asker.ask())
    (seen,) = await fake.wait_for_generations(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await seen.cancelled.wait()
    assert (await asker.ask("next")).text == echo_of("next")
    assert fake.cancelled == 1
    assert fake.in_flight == 0


async def test_server_that_never_ends_its_stream(
    fake: FakeBackend, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is complete at [DONE], also when the server forgets to end its stream; the connection is dropped."""
    monkeypatch.setattr(http, "LINGER_S", 0.01)
    fake.script(Script(hold_open=True))
    assert (await asker.ask("x")).text == echo_of("x")
    await fake.requests[0].cancelled.wait()


async def test_compressed_answer(fake: FakeBackend) -> None:
    """A server that compresses although it was asked not to is understood, within the size limit."""
    import gzip

    body = gzip.compress(b'{"choices":[{"message":{"content":"zip"},"finish_reason":"stop"}]}')
    bomb = gzip.compress(b" " * 10_000_000)
    fake.script(*(Script(body=data, headers={"Content-Encoding": "gzip"}) for data in (body, bomb)))
    async with opened(fake.url, streaming=False) as asker:
        assert (await asker.ask()).text == "zip"
        assert (await asker.fail()).reason is Reason.ANSWER_OVER_LIMIT
