"""A backend that refuses the key, has spent its quota or lacks the model takes no work from one that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from expresslane_client import Outcome, Prompt

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import Callable

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
PAUSED = {
    "401": "key_refused",
    "402, quota spent": "key_refused",
    "429, quota spent": "key_refused",
    "404, no such model": "model_not_found",
}
"""Where the backend is left alone for the model, because it says that it will refuse the next prompt too; as what."""
THIS_PROMPT = {"402", "403", "404", "307"}
"""What may be about the one prompt: each goes there and moves."""


QUOTE = "your input was flagged: 'my private words'"


def prompts(count: int = PROMPTS) -> list[Prompt]:
    """So many prompts."""
    return [Prompt(f"p{number}", f"prompt {number}", model="m") for number in range(count)]


@pytest.mark.parametrize("name", REFUSED)
async def test_work_moves(name: str) -> None:
    """None fails, and each meets the refusing backend once at most; that is left alone if it says so (A18, A26)."""
    play, reason = REFUSED[name]
    async with FakeBackend() as refusing, FakeBackend() as well:
        refusing.on(lambda _: play())
        async with Service(a=backend(refusing.url, cap=CAP), b=backend(well.url, cap=CAP)) as service:
            results = await service.client.generate_batch(prompts()).collect()
            assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/b")}
            assert {one.reason for result in results for one in result.history} == {reason}
            assert {len(one.history) for one in results} == {0, 1}
            assert max(refusing.sends.values()) == 1
            limit = CAP if name in PAUSED else PROMPTS if name in THIS_PROMPT else BREAKER_SAMPLES + CAP
            assert 1 <= len(refusing.generations) <= limit
            shown = await service.client.get_backend("a")
            assert shown.breaker is not None
            assert (shown.breaker.state == "open") == (name == "a web page")
            assert any(notice.startswith("refuses") for notice in shown.notices) == (name in PAUSED)
            if reason != "BACKEND_MALFORMED":
                assert (shown.limited_by.limit if shown.limited_by else None) == PAUSED.get(name)


@pytest.mark.parametrize("name", sorted({*PAUSED, *THIS_PROMPT}))
async def test_moves_cost_no_retry_budget(name: str) -> None:
    """However little a tenant may retry, nothing fails beside a backend that serves: nothing was run twice (A22)."""
    play, _ = REFUSED[name]
    async with FakeBackend() as refusing, FakeBackend() as well:
        refusing.on(lambda _: play())
        backends = {"a": backend(refusing.url, cap=2 * PROMPTS), "b": backend(well.url, cap=2 * PROMPTS)}
        async with Service(**backends, retry_ratio=0.01) as service:
            results = await service.client.generate_batch(prompts()).collect()
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert len(refusing.generations) > PROMPTS / 10


async def test_one_tenants_prompt_takes_no_backend_from_another() -> None:
    """A gateway calls one prompt too dear for the credits that are left: others go on at both backends (A18, A26)."""
    dear = status(402, message="This request requires more credits, or fewer max_tokens")
    async with FakeBackend() as one, FakeBackend() as other:
        for fake in (one, other):
            fake.on(lambda request: dear() if b"dear" in request.body else Script())
        async with Service(a=backend(one.url, cap=CAP), b=backend(other.url, cap=CAP)) as service:
            refused = (await service.client.generate_batch([Prompt("x", "dear", model="m")]).collect())[0]
            assert refused.error is not None
            assert (refused.error.reason, refused.attempts) == ("BACKEND_QUOTA_EXHAUSTED", 2)
            results = await service.client.generate_batch(prompts()).collect()
            assert {(one.outcome, one.attempts) for one in results} == {(Outcome.SUCCEEDED, 1)}
            assert {one.backend for one in results} == {"backends/a", "backends/b"}
            assert [one.limited_by for one in await service.client.list_backends()] == [None, None]


@pytest.mark.parametrize("name", PAUSED)
async def test_a_mended_backend_is_asked_before_a_prompt_fails(name: str) -> None:
    """One refused and is mended; the other begins to refuse while that one is left alone: nothing fails (A26)."""
    play, _ = REFUSED[name]
    async with FakeBackend() as mended, FakeBackend() as spent:
        mended.on(lambda _: play())
        async with Service(a=backend(mended.url, cap=CAP), b=backend(spent.url, cap=CAP)) as service:
            await service.client.generate_batch(prompts(BREAKER_SAMPLES)).collect()
            mended.on(lambda _: Script())
            spent.on(lambda _: play())
            results = await service.client.generate_batch(prompts()).collect()
            assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/a")}
            limits = {one.id: one.limited_by and one.limited_by.limit for one in await service.client.list_backends()}
            assert limits == {"a": None, "b": PAUSED[name]}


@pytest.mark.parametrize("name", REFUSED)
async def test_alone_it_says_the_truth_at_once(name: str) -> None:
    """With no other backend of the model each prompt fails for its own reason, after one attempt (A12, O16)."""
    play, reason = REFUSED[name]
    async with FakeBackend() as refusing:
        refusing.on(lambda _: play())
        settings: dict[str, Any] = {"breaker_error_ratio": 0} if reason == "BACKEND_MALFORMED" else {}
        async with Service(a=backend(refusing.url, cap=CAP, **settings)) as service:
            results = await service.client.generate_batch(prompts(3 * BREAKER_SAMPLES)).collect()
    assert {(one.outcome, one.attempts) for one in results} == {(Outcome.FAILED, 1)}
    assert {one.error.reason for one in results if one.error} == {reason}


@pytest.mark.parametrize("name", REFUSED)
async def test_all_of_them_refuse(name: str) -> None:
    """Each backend is asked once, though one attempt is allowed, and the last one's answer is the prompt's end."""
    play, reason = REFUSED[name]
    async with FakeBackend() as one, FakeBackend() as other:
        one.on(lambda _: play())
        other.on(lambda _: play())
        async with Service(a=backend(one.url), b=backend(other.url), retry_attempts=1) as service:
            result = (await service.client.generate_batch(prompts(1)).collect())[0]
        assert result.error is not None
        is_counted = reason == "BACKEND_MALFORMED"
        assert (result.outcome, result.error.reason, result.attempts) == (
            Outcome.FAILED,
            reason,
            1 if is_counted else 2,
        )
        assert len(one.generations) + len(other.generations) == result.attempts


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_what_the_caller_did_wrong_does_not_move(code: int) -> None:
    """A 4xx about the prompt ends it where it was met (A18)."""
    async with FakeBackend() as refusing, FakeBackend() as well:
        refusing.on(lambda _: status(code)())
        well.on(lambda _: status(code)())
        async with Service(a=backend(refusing.url), b=backend(well.url)) as service:
            results = await service.client.generate_batch(prompts(3 * BREAKER_SAMPLES)).collect()
            breakers = [one.breaker.state for one in await service.client.list_backends() if one.breaker]
        assert {(one.outcome, one.attempts) for one in results} == {(Outcome.FAILED, 1)}
        assert breakers == ["closed", "closed"]


async def test_a_web_page_after_a_delta_does_not_move() -> None:
    """Nothing is repeated once part of an answer has reached the caller."""
    async with FakeBackend() as torn, FakeBackend() as well:
        torn.on(lambda _: Script(wire=[b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: {[\n\n"]))
        well.on(lambda _: Script(wire=[b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: {[\n\n"]))
        async with Service(a=backend(torn.url), b=backend(well.url)) as service:
            call = service.client.generate_batch(prompts(1), stream_deltas=True)
            result = (await call.collect())[0]
        assert result.error is not None
        assert (result.error.reason, result.attempts) == ("BACKEND_MALFORMED", 1)
        assert len(torn.generations) + len(well.generations) == 1


@pytest.mark.parametrize("name", sorted({*PAUSED, *THIS_PROMPT}))
async def test_a_model_served_there_alone_keeps_its_own_answers(name: str) -> None:
    """What a backend refuses of one model takes none of its others, nor hides what it says of them (A18, O16)."""
    play, reason = REFUSED[name]
    async with FakeBackend() as refusing, FakeBackend() as well:
        refusing.on(lambda _: play())
        both = backend(refusing.url, cap=CAP, models=(("m", "m"), ("n", "n")))
        async with Service(a=both, b=backend(well.url, cap=CAP)) as service:
            results = await service.client.generate_batch(prompts(2 * BREAKER_SAMPLES)).collect()
            assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
            alone = (await service.client.generate_batch([Prompt("n", "n", model="n")]).collect())[0]
            assert alone.error is not None
            assert (alone.error.reason, alone.attempts) == (reason, 1)
            refusing.on(lambda _: Script())
            again = (await service.client.generate_batch([Prompt("n", "n", model="n")]).collect())[0]
            assert again.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("code", [401, 402, 403])
async def test_a_callers_words_reach_no_other_caller(code: int) -> None:
    """What a backend quotes of a prompt is for its caller alone: who finds the backend shut later reads none of it."""
    async with FakeBackend() as refusing:
        refusing.on(lambda _: status(code, message=QUOTE)())
        shut = backend(refusing.url, breaker_min_samples=1)
        async with Service(a=shut, retry_attempts=1, no_backend_timeout_s=0.2) as service:
            ends: list[tuple[str, str]] = []
            plays = [status(code, message=QUOTE), status(500), status(500)]
            for _ in range(3):
                refusing.on(lambda _: plays[len(ends)]())
                error = (await service.client.generate_batch(prompts(1)).collect())[0].error
                assert error is not None
                ends.append((error.reason, error.message))
            (_, own), _, (reason, message) = ends
            assert QUOTE in own
            assert (reason, "private" in message) == ("NO_BACKEND", False)
            assert ("prompts were refused" in message) == (code == 401)


@pytest.mark.parametrize(("code", "name"), [(401, ""), (403, ""), (404, ""), (404, "model_not_found")])
async def test_a_callers_words_are_no_notice(code: int, name: str) -> None:
    """Admin shows what is refused, by the service's own name and the status."""
    async with FakeBackend() as one, FakeBackend() as other:
        one.on(lambda _: status(code, name, QUOTE)())
        other.on(lambda _: status(code, name, QUOTE)())
        async with Service(a=backend(one.url), b=backend(other.url)) as service:
            await service.client.generate_batch(prompts(1)).collect()
            notices = [notice for one in await service.client.list_backends() for notice in one.notices]
    assert "private" not in str(notices)
    assert any(notice.startswith("refuses") for notice in notices) == (code == 401 or bool(name))
