"""A backend that refuses the key, has spent its quota or lacks the model takes no work from one that serves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from expresslane.rate_limits import UNPAID_RUN
from expresslane_client import Outcome, Prompt

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

PROMPTS = 200
BREAKER_SAMPLES = 20
CAP = 4


def status(code: int, error: str = "", message: str = "not here") -> Callable[[], Script]:
    """An error answer."""
    body = orjson.dumps({"error": {"message": message, "code": error or None}})
    return lambda: Script(status=code, body=body)


REFUSED: dict[str, tuple[Callable[[], Script], str]] = {
    "401": (status(401), "BACKEND_UNAUTHORIZED"),
    "402": (status(402), "BACKEND_QUOTA_EXHAUSTED"),
    "402, quota spent": (status(402, "insufficient_quota"), "BACKEND_QUOTA_EXHAUSTED"),
    "403": (status(403), "BACKEND_UNAUTHORIZED"),
    "429, quota spent": (status(429, "insufficient_quota"), "BACKEND_QUOTA_EXHAUSTED"),
    "404": (status(404), "BACKEND_REJECTED"),
    "404, no such model": (status(404, "model_not_found"), "BACKEND_REJECTED"),
    "307": (lambda: Script(status=307, headers={"Location": "http://elsewhere/"}), "BACKEND_REJECTED"),
    "a web page": (lambda: Script(body=b"<html>", headers={"Content-Type": "text/html"}), "BACKEND_MALFORMED"),
}
AVOIDED = {
    "401": "key_refused",
    "402": "key_refused",
    "402, quota spent": "key_refused",
    "429, quota spent": "key_refused",
    "404, no such model": "model_not_found",
}
"""Where the model avoids the backend, because the next prompt will be refused too; as what."""
THIS_PROMPT = {"403", "404", "307"}
"""What may be about the one prompt: each goes there and moves."""
MOST_ASKED = {
    **dict.fromkeys(AVOIDED, CAP),
    **dict.fromkeys(THIS_PROMPT, PROMPTS),
    "402": UNPAID_RUN - 1 + CAP,
    "a web page": BREAKER_SAMPLES + CAP,
}
"""How many of `PROMPTS` go there at most, with what is on its way when it is known: a 402 must come a few times."""

QUOTE = "your input was flagged: 'my private words'"


@dataclass
class Two:
    """Two backends, and the service in front of them: its `a` and `b`."""

    a: FakeBackend = field(default_factory=FakeBackend)
    b: FakeBackend = field(default_factory=FakeBackend)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def serve(
        self, *, cap: int = CAP, of_a: Mapping[str, Any] | None = None, is_alone: bool = False, **settings: Any
    ) -> Service:
        """Start it; `of_a`: more settings of `a`, which may be the only one; all others are of the service."""
        backends = {"a": backend(self.a.url, **{"cap": cap, **(of_a or {})})}
        if not is_alone:
            backends["b"] = backend(self.b.url, cap=cap)
        return await self.stack.enter_async_context(Service(**backends, **settings))


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    """Both are there; what `serve` has started ends before they do."""
    made = Two()
    async with made.a, made.b, made.stack:
        yield made


def prompts(count: int = PROMPTS) -> list[Prompt]:
    """So many prompts."""
    return [Prompt(f"p{number}", f"prompt {number}", model="m") for number in range(count)]


@pytest.mark.parametrize("name", REFUSED)
async def test_work_moves(two: Two, name: str) -> None:
    """None fails, and each meets the refusing backend once at most; that is avoided if it says so (A18, A26)."""
    play, reason = REFUSED[name]
    two.a.on(lambda _: play())
    service = await two.serve()
    results = await service.client.generate_batch(prompts()).collect()
    assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/b")}
    assert {one.reason for result in results for one in result.history} == {reason}
    assert {len(one.history) for one in results} == {0, 1}
    assert max(two.a.sends.values()) == 1
    assert 1 <= len(two.a.generations) <= MOST_ASKED[name]
    shown = await service.client.get_backend("a")
    assert shown.breaker is not None
    assert (shown.breaker.state == "open") == (name == "a web page")
    assert any(notice.startswith("refuses") for notice in shown.notices) == (name in AVOIDED)
    if reason != "BACKEND_MALFORMED":
        assert (shown.limited_by.limit if shown.limited_by else None) == AVOIDED.get(name)


@pytest.mark.parametrize("name", sorted({*AVOIDED, *THIS_PROMPT}))
async def test_moves_cost_no_retry_budget(two: Two, name: str) -> None:
    """However little a tenant may retry, nothing fails beside a backend that serves: nothing was run twice (A22)."""
    play, _ = REFUSED[name]
    two.a.on(lambda _: play())
    service = await two.serve(cap=2 * PROMPTS, retry_ratio=0.01)
    results = await service.client.generate_batch(prompts()).collect()
    assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
    assert len(two.a.generations) > PROMPTS / 10


async def test_one_tenants_prompt_takes_no_backend_from_another(two: Two) -> None:
    """A gateway calls one prompt too dear for the credits that are left: others go on at both backends (A18, A26)."""
    dear = status(402, message="This request requires more credits, or fewer max_tokens")
    for fake in (two.a, two.b):
        fake.on(lambda request: dear() if b"dear" in request.body else Script())
    service = await two.serve()
    refused = (await service.client.generate_batch([Prompt("x", "dear", model="m")]).collect())[0]
    assert refused.error is not None
    assert (refused.error.reason, refused.attempts) == ("BACKEND_QUOTA_EXHAUSTED", 2)
    results = await service.client.generate_batch(prompts()).collect()
    assert {(one.outcome, one.attempts) for one in results} == {(Outcome.SUCCEEDED, 1)}
    assert {one.backend for one in results} == {"backends/a", "backends/b"}
    assert [one.limited_by for one in await service.client.list_backends()] == [None, None]


@pytest.mark.parametrize("name", AVOIDED)
async def test_a_mended_backend_is_asked_before_a_prompt_fails(two: Two, name: str) -> None:
    """One refused and is mended; the other begins to refuse while that one is avoided: nothing fails (A26)."""
    play, _ = REFUSED[name]
    two.a.on(lambda _: play())
    service = await two.serve()
    await service.client.generate_batch(prompts(BREAKER_SAMPLES)).collect()
    two.a.on(lambda _: Script())
    two.b.on(lambda _: play())
    results = await service.client.generate_batch(prompts()).collect()
    assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/a")}
    limits = {one.id: one.limited_by and one.limited_by.limit for one in await service.client.list_backends()}
    assert limits == {"a": None, "b": AVOIDED[name]}


@pytest.mark.parametrize("name", REFUSED)
async def test_alone_it_says_the_truth_at_once(two: Two, name: str) -> None:
    """With no other backend of the model each prompt fails for its own reason, after one attempt (A12, O16)."""
    play, reason = REFUSED[name]
    two.a.on(lambda _: play())
    without = {"breaker_error_ratio": 0} if reason == "BACKEND_MALFORMED" else {}
    service = await two.serve(is_alone=True, of_a=without)
    results = await service.client.generate_batch(prompts(3 * BREAKER_SAMPLES)).collect()
    assert {(one.outcome, one.attempts) for one in results} == {(Outcome.FAILED, 1)}
    assert {one.error.reason for one in results if one.error} == {reason}


@pytest.mark.parametrize("name", REFUSED)
async def test_all_of_them_refuse(two: Two, name: str) -> None:
    """Each backend is asked once, though one attempt is allowed, and the last one's answer is the prompt's end."""
    play, reason = REFUSED[name]
    for fake in (two.a, two.b):
        fake.on(lambda _: play())
    service = await two.serve(retry_attempts=1)
    result = (await service.client.generate_batch(prompts(1)).collect())[0]
    assert result.error is not None
    asked = 1 if reason == "BACKEND_MALFORMED" else 2
    assert (result.outcome, result.error.reason, result.attempts) == (Outcome.FAILED, reason, asked)
    assert len(two.a.generations) + len(two.b.generations) == asked


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_what_the_caller_did_wrong_does_not_move(two: Two, code: int) -> None:
    """A 4xx about the prompt ends it where it was met (A18)."""
    for fake in (two.a, two.b):
        fake.on(lambda _: status(code)())
    service = await two.serve()
    results = await service.client.generate_batch(prompts(3 * BREAKER_SAMPLES)).collect()
    breakers = [one.breaker.state for one in await service.client.list_backends() if one.breaker]
    assert {(one.outcome, one.attempts) for one in results} == {(Outcome.FAILED, 1)}
    assert breakers == ["closed", "closed"]


@pytest.mark.parametrize("end", [b"data: {[\n\n", b'data: {"error":{"message":"no credit","code":402}}\n\n'])
async def test_nothing_moves_after_a_delta(two: Two, end: bytes) -> None:
    """Nothing is repeated once part of an answer has reached the caller."""
    for fake in (two.a, two.b):
        fake.on(lambda _: Script(wire=[b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', end]))
    service = await two.serve()
    result = (await service.client.generate_batch(prompts(1), stream_deltas=True).collect())[0]
    assert result.error is not None
    reason = "BACKEND_QUOTA_EXHAUSTED" if b"402" in end else "BACKEND_MALFORMED"
    assert (result.error.reason, result.attempts) == (reason, 1)
    assert len(two.a.generations) + len(two.b.generations) == 1


async def test_a_refusal_inside_an_answer_is_an_attempt(two: Two) -> None:
    """The account was empty in the middle of an answer: what was run is not run again for nothing (A18, A22)."""
    begun, spent = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b'data: {"error":{"code":402}}\n\n'
    for fake in (two.a, two.b):
        fake.on(lambda _: Script(wire=[begun, spent]))
    service = await two.serve(retry_attempts=1)
    result = (await service.client.generate_batch(prompts(1)).collect())[0]
    assert result.error is not None
    assert (result.error.reason, result.attempts) == ("BACKEND_QUOTA_EXHAUSTED", 1)


@pytest.mark.parametrize("name", sorted({*AVOIDED, *THIS_PROMPT}))
async def test_a_model_served_there_alone_keeps_its_own_answers(two: Two, name: str) -> None:
    """What a backend refuses of one model takes none of its others, nor hides what it says of them (A18, O16)."""
    play, reason = REFUSED[name]
    two.a.on(lambda _: play())
    service = await two.serve(of_a={"models": (("m", "m"), ("n", "n"))})
    results = await service.client.generate_batch(prompts(2 * BREAKER_SAMPLES)).collect()
    assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
    alone = (await service.client.generate_batch([Prompt("n", "n", model="n")]).collect())[0]
    assert alone.error is not None
    assert (alone.error.reason, alone.attempts) == (reason, 1)
    two.a.on(lambda _: Script())
    again = (await service.client.generate_batch([Prompt("n", "n", model="n")]).collect())[0]
    assert again.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("code", [401, 402, 403])
async def test_a_callers_words_reach_no_other_caller(two: Two, code: int) -> None:
    """What a backend quotes of a prompt is for its caller alone: who finds the backend shut later reads none of it."""
    shut = {"breaker_min_samples": 1}
    service = await two.serve(is_alone=True, of_a=shut, retry_attempts=1, no_backend_timeout_s=0.2)
    ends: list[tuple[str, str]] = []
    plays = [status(code, message=QUOTE), status(500), status(500)]
    two.a.on(lambda _: plays[len(ends)]())
    for _ in plays:
        error = (await service.client.generate_batch(prompts(1)).collect())[0].error
        assert error is not None
        ends.append((error.reason, error.message))
    (_, own), _, (reason, message) = ends
    assert QUOTE in own
    assert (reason, "private" in message) == ("NO_BACKEND", False)
    assert ("prompts were refused" in message) == (code == 401)


@pytest.mark.parametrize(
    ("code", "name", "is_told"),
    [(401, "", True), (402, "", True), (403, "", False), (404, "", False), (404, "model_not_found", True)],
)
async def test_a_callers_words_are_no_notice(two: Two, code: int, name: str, is_told: bool) -> None:
    """Admin shows what is refused, by the service's own name and the status."""
    for fake in (two.a, two.b):
        fake.on(lambda _: status(code, name, QUOTE)())
    service = await two.serve()
    await service.client.generate_batch(prompts(UNPAID_RUN)).collect()
    notices = [notice for one in await service.client.list_backends() for notice in one.notices]
    assert "private" not in str(notices)
    assert any(notice.startswith("refuses") for notice in notices) == is_told
