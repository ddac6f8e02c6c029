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


def status(code: int, error: str = "") -> Callable[[], Script]:
    """An error answer."""
    body = orjson.dumps({"error": {"message": "not here", "code": error or None}})
    return lambda: Script(status=code, body=body)


REFUSED: dict[str, tuple[Callable[[], Script], str]] = {
    "401": (status(401), "BACKEND_UNAUTHORIZED"),
    "402": (status(402), "BACKEND_QUOTA_EXHAUSTED"),
    "403": (status(403), "BACKEND_UNAUTHORIZED"),
    "429, quota spent": (status(429, "insufficient_quota"), "BACKEND_QUOTA_EXHAUSTED"),
    "404": (status(404, "model_not_found"), "BACKEND_REJECTED"),
    "307": (lambda: Script(status=307, headers={"Location": "http://elsewhere/"}), "BACKEND_REJECTED"),
    "a web page": (lambda: Script(body=b"<html>", headers={"Content-Type": "text/html"}), "BACKEND_MALFORMED"),
}
PAUSED = {"404", "307"}
"""Where the model is paused, not the backend left alone."""


def prompts(count: int = PROMPTS) -> list[Prompt]:
    """So many prompts."""
    return [Prompt(f"p{number}", f"prompt {number}") for number in range(count)]


@pytest.mark.parametrize("name", REFUSED)
async def test_work_moves(name: str) -> None:
    """None fails, each meets the refusing backend once at most, and that is left alone soon (A18, A26)."""
    play, reason = REFUSED[name]
    async with FakeBackend() as refusing, FakeBackend() as well:
        refusing.on(lambda _: play())
        async with Service(a=backend(refusing.url, cap=CAP), b=backend(well.url, cap=CAP)) as service:
            results = await service.client.generate_batch(prompts()).collect()
            assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "backends/b")}
            assert {one.reason for result in results for one in result.history} == {reason}
            assert {len(one.history) for one in results} == {0, 1}
            assert max(refusing.sends.values()) == 1
            limit = CAP if name in PAUSED else BREAKER_SAMPLES + CAP
            assert 1 <= len(refusing.generations) <= limit
            shown = await service.client.get_backend("a")
            assert shown.breaker is not None
            assert (shown.breaker.state == "open") == (name not in PAUSED)
            assert name == "a web page" or any(notice.startswith("refuses") for notice in shown.notices)


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
