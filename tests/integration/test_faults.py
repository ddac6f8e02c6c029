"""Every way in which a backend can fail one prompt, through the whole service, in the middle of a busy batch.

For each: the prompt ends once, for the right reason, after as many attempts as that reason allows; its slot is free
again; the prompts beside it do not notice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from expresslane_client import Deadlines, Outcome, Prompt

from tests.support.fake_backend import CUT_BEFORE_HEADERS, FakeBackend, Script, echo_of
from tests.support.fake_backend.adapter import until
from tests.support.fake_backend.openai_dialect import event
from tests.support.service import Service, backend
from tests.support.virtual_service import VirtualBackend, VirtualService
from tests.support.virtual_sockets import virtual_sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane_client import Result

CAP = 4
OTHERS = 20
ATTEMPTS = 3
DELTA = event({"choices": [{"delta": {"content": "x"}}]})
QUICK = Deadlines(first_token_s=0.2, idle_s=0.2, attempt_s=0.6)


@dataclass(frozen=True)
class Fault:
    """What a backend does, and what comes of it: `reason` where it does so always, after `attempts`.

    `passes`: one attempt more is made where it happens once, and succeeds.
    """

    play: Callable[[], Script]
    reason: str
    attempts: int
    passes: bool = True
    outcome: Outcome = Outcome.FAILED
    deadlines: Deadlines | None = None
    turned_away: int = 0
    """How often it is sent back without an attempt being counted, before its attempts are."""
    sends_more: bool = False
    """A request that dies on a kept connection is sent again within its attempt."""


def after(seconds: float) -> asyncio.Event:
    """An event that happens by itself."""
    gate = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, gate.set)
    return gate


def said(code: str) -> bytes:
    """An error body."""
    return orjson.dumps({"error": {"message": "no", "code": code}})


def dripping(pieces: int, every_s: float) -> Script:
    """A stream that never falls silent and takes its time."""
    return Script(wire=[DELTA] * pieces, gates={number: after(number * every_s) for number in range(pieces)})


def retried(play: Callable[[], Script], reason: str, attempts: int = ATTEMPTS, *, sends_more: bool = False) -> Fault:
    """A fault after which the prompt is tried again."""
    return Fault(play, reason, attempts, sends_more=sends_more)


def final(play: Callable[[], Script], reason: str) -> Fault:
    """A fault that ends the prompt at once."""
    return Fault(play, reason, 1, passes=False)


def turned_away(play: Callable[[], Script]) -> Fault:
    """A rate limit: at first it costs no attempts (A26)."""
    return Fault(play, "BACKEND_RATE_LIMITED", ATTEMPTS, turned_away=20)


def overdue(play: Callable[[], Script], reason: str) -> Fault:
    """A time-out: not tried again at the backend where it happened, and there is no other."""
    return Fault(play, reason, 1, passes=False, outcome=Outcome.EXPIRED, deadlines=QUICK)


def status(code: int, *, body: bytes = b"{}", **headers: str) -> Callable[[], Script]:
    """An answer with this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: Script(status=code, body=body, headers=named)


FAULTS: dict[str, Fault] = {
    "400": final(status(400), "BACKEND_REJECTED"),
    "400, to be retried": retried(status(400, x_should_retry="true"), "BACKEND_REJECTED"),
    "401": final(status(401), "BACKEND_UNAUTHORIZED"),
    "404": final(status(404), "BACKEND_REJECTED"),
    "408": retried(status(408), "BACKEND_OVERLOADED"),
    "409": retried(status(409), "BACKEND_ERROR"),
    "413": final(status(413), "BACKEND_REJECTED"),
    "500": retried(status(500), "BACKEND_ERROR"),
    "500, not to be retried": final(status(500, x_should_retry="false"), "BACKEND_ERROR"),
    "502": retried(status(502), "BACKEND_OVERLOADED"),
    "503": retried(status(503), "BACKEND_OVERLOADED"),
    "499, no registered status": final(status(499), "BACKEND_REJECTED"),
    "520, no registered status": retried(status(520), "BACKEND_OVERLOADED"),
    "529, no registered status": retried(status(529), "BACKEND_OVERLOADED"),
    "503 with seconds": retried(status(503, Retry_After="0.01"), "BACKEND_OVERLOADED"),
    "503 with milliseconds": retried(status(503, retry_after_ms="10"), "BACKEND_OVERLOADED"),
    "503 with a past date": retried(status(503, Retry_After="Mon, 01 Jan 2001 00:00:00 GMT"), "BACKEND_OVERLOADED"),
    "503 with nonsense": retried(
        status(503, Retry_After="Mon, 99999999999999999999 Jan 2024 00:00:00 GMT"), "BACKEND_OVERLOADED"
    ),
    "429": turned_away(status(429)),
    "429 with milliseconds": turned_away(status(429, retry_after_ms="1")),
    "429 with nonsense": turned_away(status(429, Retry_After="-1", retry_after_ms="nan")),
    "503, slow down": turned_away(status(503, body=said("slow_down"))),
    "429, quota spent": final(status(429, body=said("insufficient_quota")), "BACKEND_QUOTA_EXHAUSTED"),
    "307": final(status(307, Location="http://elsewhere/"), "BACKEND_REJECTED"),
    "headers that are no text": final(status(400, x_request_id="\xff", Location="\xfe"), "BACKEND_REJECTED"),
    "an error nested too deep": retried(
        status(500, body=b'{"error":{"message":' + b"[" * 500 + b"]" * 500 + b"}}"), "BACKEND_ERROR"
    ),
    "cut before the headers": retried(
        lambda: Script(cut_after=CUT_BEFORE_HEADERS), "BACKEND_DISCONNECTED", sends_more=True
    ),
    "cut after the headers": retried(lambda: Script(cut_after=0), "BACKEND_DISCONNECTED"),
    "cut in the middle": retried(lambda: Script(cut_after=2), "BACKEND_DISCONNECTED"),
    "ended in the middle": retried(lambda: Script(wire=[DELTA]), "BACKEND_DISCONNECTED"),
    "an error in the middle": retried(lambda: Script(wire=[DELTA, b"data: " + said("x") + b"\n\n"]), "BACKEND_ERROR"),
    "rubbish for gzip": retried(
        lambda: Script(body=b"garbage", headers={"Content-Encoding": "gzip"}), "BACKEND_DISCONNECTED"
    ),
    "truncated JSON": final(lambda: Script(wire=[b'data: {"choices":[\n\n']), "BACKEND_MALFORMED"),
    "truncated body": final(
        lambda: Script(body=b'{"choices":[{', headers={"Content-Type": "application/json"}), "BACKEND_MALFORMED"
    ),
    "a web page": final(lambda: Script(body=b"<html>", headers={"Content-Type": "text/html"}), "BACKEND_MALFORMED"),
    "a wrong type of content": final(
        lambda: Script(wire=[DELTA], headers={"Content-Type": "application/x-ndjson"}), "BACKEND_MALFORMED"
    ),
    "invalid UTF-8": final(
        lambda: Script(wire=[b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n']), "BACKEND_MALFORMED"
    ),
    "negative usage": final(
        lambda: Script(wire=[DELTA, event({"choices": [], "usage": {"prompt_tokens": -1}})]), "BACKEND_MALFORMED"
    ),
    "an endless stream": final(lambda: Script(wire=[DELTA], endless=True), "ANSWER_OVER_LIMIT"),
    "endless empty tool calls": final(
        lambda: Script(wire=[event({"choices": [{"delta": {"tool_calls": [{"id": "a"}] * 500}}]})], endless=True),
        "ANSWER_OVER_LIMIT",
    ),
    "a line without end": final(lambda: Script(wire=[b"data: " + b"x" * 65_536], endless=True), "ANSWER_OVER_LIMIT"),
    "a hang before the headers": overdue(lambda: Script(before_headers=asyncio.Event()), "FIRST_TOKEN_TIMEOUT"),
    "a hang after the role": overdue(lambda: Script(gates={1: asyncio.Event()}), "FIRST_TOKEN_TIMEOUT"),
    "a hang in the middle": overdue(lambda: Script(gates={2: asyncio.Event()}), "IDLE_TIMEOUT"),
    "a half-open connection": overdue(lambda: Script(half_open=True), "FIRST_TOKEN_TIMEOUT"),
    "a slow drip": overdue(lambda: dripping(50, 0.05), "ATTEMPT_TIMEOUT"),
    "latency": Fault(lambda: Script(before_headers=after(0.05)), "", 1, passes=False, outcome=Outcome.SUCCEEDED),
}


class World:
    """One backend that fails one prompt as a script says and answers all others, behind the service."""

    def __init__(self, fake: FakeBackend, service: Service) -> None:
        self.fake = fake
        self.service = service

    async def run(self, fault: Fault, *, times: int) -> Result:
        """The prompt's end where it meets the fault so many times; all others are checked."""
        scripts = deque(fault.play() for _ in range(min(times, 2 * ATTEMPTS)))
        met = 0

        def decide(request: object) -> Script | None:
            nonlocal met
            if b'"victim"' not in request.body:  # type: ignore[attr-defined]
                return None
            met += 1
            return (scripts.popleft() if scripts else fault.play()) if met <= times else None

        self.fake.on(decide)
        victim = Prompt("victim", "victim", deadlines=fault.deadlines)
        prompts = [Prompt(f"o{number}", f"other {number}") for number in range(OTHERS)]
        prompts.insert(OTHERS // 2, victim)
        results = {one.custom_id: one for one in await self.service.client.generate_batch(prompts).collect()}
        assert len(results) == len(prompts)
        found = results.pop("victim")
        for name, one in results.items():
            assert (one.error, one.text) == (None, echo_of(f"other {name[1:]}")), name
        await self.check(found, fault)
        return found

    async def check(self, found: Result, fault: Fault) -> None:
        """Nothing is left over, and the backend saw what the result says."""
        sends = self.fake.sends
        assert all(sends[f"other {number}"] == 1 for number in range(OTHERS))
        assert fault.sends_more or sends["victim"] == found.attempts + found.turned_away
        assert self.fake.peak <= CAP
        await until(lambda: self.fake.in_flight == 0)
        assert self.fake.doubles == set()
        now = await self.service.client.get_snapshot()
        assert (now.queued, now.in_flight, now.submitted) == (0, 0, OTHERS + 1)


async def meet(
    fault: Fault, *, times: int, fakes: type[FakeBackend] = FakeBackend, services: type[Service] = Service
) -> Result:
    """Meet a fault so many times in a world of its own."""
    async with fakes() as fake:
        pauses: dict[str, Any] = {"rate_limit_pause_s": 0.001, "rate_limit_pause_max_s": 0.005}
        served = backend(fake.url, cap=CAP, attempt_timeout_s=30.0, **pauses)
        settings = {"retry_attempts": ATTEMPTS, "retry_base_s": 0.005, "max_answer_bytes": 65_536}
        async with services(fake=served, **settings) as service:
            return await World(fake, service).run(fault, times=times)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.deadlines is None])
async def test_fault(name: str) -> None:
    """A18-A20, T13: a fault that lasts ends its prompt for its own reason, after the attempts it is worth."""
    ends_as_it_should(await meet(FAULTS[name], times=1_000), FAULTS[name])


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.deadlines is not None])
@virtual_sockets
async def test_fault_that_takes_too_long(name: str) -> None:
    """A18, T13: each kind of silence ends its prompt by its own deadline."""
    found = await meet(FAULTS[name], times=1_000, fakes=VirtualBackend, services=VirtualService)
    ends_as_it_should(found, FAULTS[name])


def ends_as_it_should(found: Result, fault: Fault) -> None:
    """The prompt's end is the one that the fault, which lasts, leads to."""
    assert (found.error.reason if found.error else "", found.outcome) == (fault.reason, fault.outcome)
    assert (found.attempts, found.turned_away) == (fault.attempts, fault.turned_away)
    assert len(found.history) == found.attempts + found.turned_away - 1


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.passes])
async def test_fault_that_passes(name: str) -> None:
    """A18, A20: a fault that passes costs an attempt and nothing else."""
    found = await meet(FAULTS[name], times=1)
    assert (found.error, found.text) == (None, echo_of("victim"))
    is_free = FAULTS[name].sends_more or FAULTS[name].turned_away
    assert found.attempts == (1 if is_free else 2)
    assert found.turned_away == (1 if FAULTS[name].turned_away else 0)
    earlier = [] if FAULTS[name].sends_more else [("backends/fake", FAULTS[name].reason)]
    assert [(one.backend, one.reason) for one in found.history] == earlier


async def test_connections_refused_for_a_while() -> None:
    """A20: prompts that meet a backend which refuses connections wait for it, and end well when it is back."""
    async with FakeBackend() as fake:
        served = backend(fake.url, cap=CAP)
        settings = {"probe_interval_s": 0.05, "no_backend_timeout_s": 30.0, "retry_base_s": 0.005}
        async with Service(fake=served, **settings) as service:
            await fake.close()
            call = service.client.generate_batch([Prompt(f"p{n}", f"prompt {n}") for n in range(OTHERS)])
            reading = asyncio.ensure_future(call.collect())
            while (await service.client.get_backend("fake")).available:
                pass
            assert not reading.done()
            await fake.listen()
            results = await reading
        assert [one.error for one in results if not one.ok] == []
        assert fake.peak <= CAP
        assert set(fake.sends.values()) == {1}
