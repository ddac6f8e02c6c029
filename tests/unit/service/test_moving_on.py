"""A prompt that a backend has failed goes to another one that works, and back where none does (A18, A26)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from expresslane.backends.rate_headers import Left, Told
from expresslane.errors import BackendError, Reason, Refuses
from expresslane.fleet import Change
from expresslane.rate_limits import KEY_REFUSED, Limit
from expresslane.results import Outcome
from expresslane.retries import RetryPolicy

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.test_retries import SLOWEST, Highest, failing
from tests.unit.service.world import SECOND, Play, ScriptedBackend, World, drain, prompt, say, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call

FAILURES = {
    "500": failing(Reason.BACKEND_ERROR, http_status=500),
    "503": failing(Reason.BACKEND_OVERLOADED, http_status=503),
    "disconnect": failing(Reason.BACKEND_DISCONNECTED),
    "503 for 3 s": failing(Reason.BACKEND_OVERLOADED, http_status=503, retry_after_s=3),
    "503 for 600 s": failing(Reason.BACKEND_OVERLOADED, http_status=503, retry_after_s=600),
}
NO_MODEL = failing(Reason.BACKEND_REJECTED, retryable=False, http_status=404, refuses=Refuses.MODEL)
NO_KEY = failing(Reason.BACKEND_UNAUTHORIZED, retryable=False, http_status=401, refuses=Refuses.KEY)
THIS_PROMPT = {
    "403": failing(Reason.BACKEND_UNAUTHORIZED, retryable=False, http_status=403),
    "404": failing(Reason.BACKEND_REJECTED, retryable=False, http_status=404),
    "307": failing(Reason.BACKEND_REJECTED, retryable=False, http_status=307),
}
"""Refusals that may be about the one prompt, however many there are (402: test_avoided.py)."""
BUSY = failing(Reason.BACKEND_OVERLOADED, http_status=503, retry_after_s=3)


@pytest.mark.parametrize("failure", FAILURES)
@virtual_time
async def test_to_the_backend_that_works(failure: str) -> None:
    """One always fails and one works: the second attempt is there, after the back-off alone (A18)."""
    failing_one, working = ScriptedBackend("a", default=FAILURES[failure]), ScriptedBackend("z")
    async with World(failing_one, working, retries=SLOWEST) as world:
        result = await world.one()
        assert (result.outcome, result.attempts, result.backend) == (Outcome.SUCCEEDED, 2, "z")
        assert result.timings.total_ns == SECOND // 2
        assert len(failing_one.calls) == 1


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.BACKEND_UNAUTHORIZED, 401),
        (Reason.BACKEND_QUOTA_EXHAUSTED, 429),
        (Reason.BACKEND_REJECTED, 404),
        (Reason.BACKEND_UNREACHABLE, 0),
        (Reason.BACKEND_MALFORMED, 200),
    ],
)
@virtual_time
async def test_what_one_will_never_answer_goes_to_the_other_at_once(reason: Reason, status: int) -> None:
    """A refused key, a spent quota, a model or a certificate that is wrong: the prompt meets that backend once."""
    never, working = (
        ScriptedBackend("a", default=failing(reason, retryable=False, http_status=status)),
        ScriptedBackend("z"),
    )
    working.plays = [FAILURES["500"], FAILURES["500"]]
    async with World(never, working, retries=SLOWEST) as world:
        result = await world.one()
        counted = 3 if reason is Reason.BACKEND_MALFORMED else 4
        assert len(never.calls) == 1
        assert result.attempts == min(counted, 3 if result.outcome is Outcome.FAILED else 4)
        assert (result.outcome is Outcome.SUCCEEDED) == (reason is not Reason.BACKEND_MALFORMED)
        assert [one.backend for one in result.history][:2] == ["a", "z"]


@virtual_time
async def test_a_prompt_waits_for_the_other_that_is_down() -> None:
    """A key that is refused here and a backend that is down there: the end names both."""
    refusing = ScriptedBackend("a", default=NO_KEY)
    down = ScriptedBackend("z")
    down.discovery = BackendError(Reason.BACKEND_UNREACHABLE, "nobody there", retryable=True)
    async with World(refusing, down, retries=SLOWEST) as world:
        result = await world.one()
        assert result.error is not None
        assert (result.outcome, result.error.reason) == (Outcome.EXPIRED, Reason.NO_BACKEND)
        assert "backends/a: the prompt's attempt there ended in BACKEND_UNAUTHORIZED" in result.error.message
        assert "backends/z: nobody there" in result.error.message
        assert world.fleet.members[0].notices() == ["refuses prompts: BACKEND_UNAUTHORIZED (HTTP 401)"]


@virtual_time
async def test_a_missing_model_is_avoided_there() -> None:
    """A model that is not there leaves the rest of the backend open, and is tried there again after a minute."""
    missing, working = ScriptedBackend("a", default_cap=1), ScriptedBackend("z", default=second(10), default_cap=1)
    missing.plays = [NO_MODEL]
    async with World(missing, working, retries=SLOWEST) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(12)])
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        ends = sorted(one.timings.total_ns // SECOND for one in results if one.backend == "z")
        assert ends == [10, 20, 30, 40, 50, 60, 70]
        assert {one.timings.total_ns // SECOND for one in results if one.backend == "a"} == {60}
        assert world.fleet.members[0].notices() == []


@pytest.mark.parametrize("answer", THIS_PROMPT)
@virtual_time
async def test_what_may_be_about_one_prompt_takes_no_backend_from_the_next(answer: str) -> None:
    """A flagged input, or one that the model does not take, is refused by both; the next prompt is not kept waiting."""
    backends = [ScriptedBackend(name) for name in "az"]
    async with World(*backends, retries=SLOWEST) as world:
        for _ in range(30):
            for one in backends:
                one.plays = [THIS_PROMPT[answer]]
            refused = await world.one()
            assert (refused.outcome, refused.attempts) == (Outcome.FAILED, 2)
        after = await world.one()
        assert (after.outcome, after.attempts, after.timings.total_ns) == (Outcome.SUCCEEDED, 1, 0)
        assert [one.breaker.bad for one in world.core.snapshot().backends if one.breaker] == [0, 0]
        assert [member.notices() for member in world.fleet.members] == [[], []]


@virtual_time
async def test_a_raw_prompt_does_not_have_a_model_avoided() -> None:
    """A backend that knows the model for chats alone may call it missing to a raw prompt."""
    chats_only, working = ScriptedBackend("a"), ScriptedBackend("z")
    chats_only.plays = [NO_MODEL]
    async with World(chats_only, working, retries=SLOWEST) as world:
        results, _ = await world.run([prompt("x", raw=True)])
        assert [(one.outcome, one.backend) for one in results] == [(Outcome.SUCCEEDED, "z")]
        assert world.scheduling.limits.avoided(0, now_ns()) is None
        assert world.fleet.members[0].notices() == []


@pytest.mark.parametrize("answer", [NO_MODEL, NO_KEY])
@virtual_time
async def test_all_of_them_refuse(answer: Play) -> None:
    """Each prompt of a batch meets each backend once, at once, and hears what is wrong; who is mended has the next."""
    first, last = ScriptedBackend("a", default=answer), ScriptedBackend("z", default=answer)
    async with World(first, last, settings={"cap": 4}, retries=SLOWEST) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(200)])
        assert {(one.outcome, one.attempts) for one in results} == {(Outcome.FAILED, 2)}
        assert {one.timings.total_ns for one in results} == {0}
        assert sorted(first.asked) == sorted(last.asked) == sorted(str(number) for number in range(200))
        assert {one.error.reason for one in results if one.error} != {Reason.NO_BACKEND}
        last.default = say
        results, _ = await world.run([prompt(str(number)) for number in range(200)])
        assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "z")}
        assert len(first.calls) <= 200 + 4


@pytest.mark.parametrize("answer", [NO_MODEL, NO_KEY])
@virtual_time
async def test_who_refused_once_may_be_mended(answer: Play) -> None:
    """One refused, and is mended; then the other begins to refuse: none of a batch fails, each meets that one once."""
    mended, spent = ScriptedBackend("a", default=answer), ScriptedBackend("z")
    async with World(mended, spent, settings={"cap": 4}, retries=SLOWEST) as world:
        assert (await world.one()).backend == "z"
        limit = world.scheduling.limits.avoided(0, now_ns())
        assert limit is not None
        assert limit.reset_ns == now_ns() + 60 * SECOND
        mended.default, spent.default, spent.calls = second(1), answer, []
        results, _ = await world.run([prompt(str(number)) for number in range(40)])
        assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "a")}
        assert max(Counter(spent.asked).values()) == 1
        assert max(one.timings.total_ns for one in results) == 10 * SECOND
        assert world.scheduling.limits.avoided(0, now_ns()) is None
        assert world.scheduling.limits.avoided(1, now_ns()) is not None


@virtual_time
async def test_one_refusal_of_the_last_good_one_fails_nobody() -> None:
    """One refuses for long, and one prompt gets a refusal from the other, which works: nobody else notices."""
    working, refusing = ScriptedBackend("a"), ScriptedBackend("z", default=NO_KEY)
    async with World(working, refusing, settings={"cap": 4}, retries=SLOWEST) as world:
        for _ in range(5):
            await asyncio.sleep(61)  # since when the refusing one has been avoided
            working.plays = [NO_KEY]
            odd = await world.one()
            assert (odd.outcome, odd.attempts) == (Outcome.FAILED, 2)
            results, _ = await world.run([prompt(str(number)) for number in range(20)])
            assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "a")}
            assert {one.timings.total_ns for one in results} == {0}


@virtual_time
async def test_an_answer_that_was_on_its_way_says_nothing() -> None:
    """The key was good when an answer began that ends after it was refused: the backend is avoided all the same."""
    backend, busy = ScriptedBackend("a", default_cap=2), ScriptedBackend("z", default=second(10), default_cap=1)
    backend.plays = [second(5), NO_KEY]
    async with World(backend, busy, retries=SLOWEST) as world:
        first = world.submit([prompt("x"), prompt("y")])
        await asyncio.sleep(1)
        later = world.submit([prompt("z")])
        ends = [*await drain(world, first), *await drain(world, later)]
        assert [(one.custom_id, one.backend) for one in ends] == [("x", "a"), ("y", "z"), ("z", "z")]
        limit = world.scheduling.limits.avoided(0, now_ns())
        assert limit == Limit(KEY_REFUSED, now_ns() + (1 + 60 - 20) * SECOND, "a")
        for batch in (first, later):
            world.intake.close(batch)


@virtual_time
async def test_callers_are_told_of_it_while_the_other_one_is_paused() -> None:
    """What waits for a rate limit hears why it is not sent to the one that is free; alone, that keeps nothing (T15)."""
    refusing, limited = ScriptedBackend("a", default=NO_KEY, default_cap=1), ScriptedBackend("z")

    async def late(call: Call, answer: Answer) -> None:
        await asyncio.sleep(2)
        await NO_KEY(call, answer)

    refusing.plays = [late]
    limited.plays = [failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=30)]
    async with World(refusing, limited, retries=SLOWEST) as world:
        batch = world.submit([prompt("x"), prompt("y")])
        await asyncio.sleep(1)
        assert not batch.limits
        await asyncio.sleep(2)
        assert {one.backend: one.kind for one in batch.limits.values()} == {"a": KEY_REFUSED, "z": "pause"}
        results = await drain(world, batch)
        assert {(one.backend, one.timings.total_ns) for one in results} == {("z", 30 * SECOND)}
        world.intake.close(batch)
        world.fleet.members[1].available = False
        world.fleet.update(world.fleet.members[1], Change())
        assert world.scheduling.limits.avoided(0, now_ns()) is None
        alone = world.submit([prompt("w")])
        assert not alone.limits
        world.intake.cancel(alone)


@virtual_time
async def test_refused_while_the_others_breaker_is_open() -> None:
    """A backend whose breaker is open is no other one: each prompt is refused at once, then waits for the breaker."""
    failing_one, refusing = ScriptedBackend("a"), ScriptedBackend("z", default=NO_KEY)
    failing_one.plays = [FAILURES["500"]]
    settings = {"breaker_min_samples": 1, "breaker_open_s": 5.0}
    once = RetryPolicy(attempts=1, base_s=0.5, cap_s=30)
    async with World(failing_one, refusing, settings=settings, retries=once) as world:
        assert (await world.one()).outcome is Outcome.FAILED
        results, _ = await world.run([prompt(name) for name in "xy"])
        assert {tuple(at.backend for at in one.history) for one in results} == {("z",)}
        assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "a")}
        assert {one.timings.total_ns for one in results} == {5 * SECOND}
        assert world.scheduling.limits.avoided(1, now_ns()) is not None
        assert (await world.one()).history == ()


@virtual_time
async def test_waits_for_the_busy_one() -> None:
    """An idle backend that fails is no reason to go there again while the one that works has no free slot."""
    failing_one, working = ScriptedBackend("a", default=FAILURES["500"]), ScriptedBackend("z", default=second(20))
    async with World(failing_one, working, settings={"cap": 1, "breaker_error_ratio": 0}, retries=SLOWEST) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(6)])
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert {one.backend for one in results} == {"z"}
        assert {one.attempts for one in results} <= {1, 2}
    assert working.peak == 1


@virtual_time
async def test_attempts_are_spread_over_backends_that_fail() -> None:
    """Two that fail: neither has two attempts in a row, and the prompt fails as it would with one."""
    backends = [ScriptedBackend(name, default=FAILURES["500"]) for name in "az"]
    async with World(*backends, retries=SLOWEST) as world:
        result = await world.one()
        assert (result.outcome, result.attempts) == (Outcome.FAILED, 3)
        assert [*(one.backend for one in result.history), result.backend] == ["a", "z", "a"]


@virtual_time
async def test_back_where_no_other_is_up() -> None:
    """The other one is down: the same backend is tried again, when it asked for."""
    recovering, down = ScriptedBackend("a"), ScriptedBackend("z")
    recovering.plays = [BUSY, FAILURES["500"]]
    async with World(recovering, down, retries=SLOWEST) as world:
        world.fleet.members[1].available = False
        world.fleet.update(world.fleet.members[1], Change())
        result = await world.one()
        assert (result.outcome, result.attempts, result.backend) == (Outcome.SUCCEEDED, 3, "a")
        assert result.timings.total_ns == 4 * SECOND


@pytest.mark.parametrize("is_paused", [False, True])
@virtual_time
async def test_back_when_the_other_goes_meanwhile(is_paused: bool) -> None:
    """What waits for the other one does not wait for it while it is down or paused: it goes back at once."""
    recovering, busy = ScriptedBackend("a"), ScriptedBackend("z")

    async def goes(call: Call, answer: Answer) -> None:
        await second(5)(call, answer)
        if is_paused:
            answer.told(Told(Left(0, 0, 200.0)))
        else:
            await failing(Reason.BACKEND_UNREACHABLE)(call, answer)

    recovering.plays, busy.plays = [FAILURES["500"], second(1)], [goes]
    settings = {"cap": 1, "breaker_error_ratio": 0}
    async with World(recovering, busy, settings=settings, retries=SLOWEST) as world:
        results, _ = await world.run([prompt("x"), prompt("y")])
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        failed_at_first = next(one for one in results if one.custom_id == "x")
        assert (failed_at_first.backend, failed_at_first.timings.total_ns) == ("a", 6 * SECOND)


@virtual_time
async def test_a_request_of_no_fault_of_the_backend_stays() -> None:
    """A 409 is about the request: what the backend asks for is waited for, though another one is idle."""
    first, other = ScriptedBackend("a"), ScriptedBackend("z")
    first.plays = [failing(Reason.BACKEND_ERROR, http_status=409, retry_after_s=3)]
    async with World(first, other, retries=SLOWEST) as world:
        result = await world.one()
        assert (result.outcome, result.backend, result.timings.total_ns) == (Outcome.SUCCEEDED, "a", 3 * SECOND)


@virtual_time
async def test_decorrelated_jitter_remembers_back_offs_only() -> None:
    """A Retry-After and a pause of a minute do not make the back-offs after them three times as long (A19)."""
    backend = ScriptedBackend()
    minute: list[Play] = [
        failing(Reason.BACKEND_OVERLOADED, http_status=503, retry_after_s=60),
        failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=60),
    ]
    backend.plays = [*minute, FAILURES["500"], FAILURES["500"]]
    policy = RetryPolicy(attempts=4, base_s=0.5, cap_s=100, jitter="decorrelated", random=Highest())
    async with World(backend, retries=policy) as world:
        result = await world.one()
        assert (result.outcome, result.attempts, result.turned_away) == (Outcome.SUCCEEDED, 4, 1)
        # Back-offs of 1.5 s (within the minute), 4.5 s and 13.5 s.
        assert result.timings.total_ns == int((60 + 60 + 4.5 + 13.5) * SECOND)


@virtual_time
async def test_another_answer_ends_a_run_of_refusals() -> None:
    """A backend that turned one away, answers 5xx since and is busy at last: a queue timeout is no rate limit."""
    backend = ScriptedBackend(default=second(500), default_cap=1)
    backend.plays = [failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=1), FAILURES["500"]]
    async with World(backend, retries=RetryPolicy(attempts=1, base_s=0.5, cap_s=30)) as world:
        results, _ = await world.run([prompt(name) for name in "abc"])
        reasons = {one.custom_id: one.error.reason for one in results if one.error is not None}
        assert reasons == {"a": Reason.BACKEND_ERROR, "c": Reason.QUEUE_TIMEOUT}


@virtual_time
async def test_a_missing_model_is_no_rate_limit() -> None:
    """Whether there are too many requests is said by the backends that have the model."""
    missing, other = ScriptedBackend("a"), ScriptedBackend("z", default=second(500), default_cap=1)
    missing.default = NO_MODEL
    async with World(missing, other) as world:
        batch = world.submit([prompt("x")])
        await asyncio.sleep(1)
        limits = world.scheduling.limits
        assert not limits.refused_everywhere(batch.models.copy().pop(), now_ns())
        other.plays = [failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=400)]
        await drain(world, batch)
        world.intake.close(batch)
        batch = world.submit([prompt("y")])
        await asyncio.sleep(1)
        assert limits.refused_everywhere(batch.models.copy().pop(), now_ns())
        world.intake.cancel(batch)


@virtual_time
async def test_told_when_the_rate_limit_ends() -> None:
    """A prompt that ends while its backend is paused is told when that ends (O16)."""
    backend = ScriptedBackend(default_cap=1)
    backend.plays = [failing(Reason.BACKEND_RATE_LIMITED, http_status=429, retry_after_s=400, retryable=False)]
    async with World(backend) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        error = next(one.error for one in results if one.custom_id == "b")
        assert error is not None
        assert (error.reason, error.retry_after_ns) == (Reason.BACKEND_RATE_LIMITED, 100 * SECOND)


@virtual_time
async def test_told_when_the_breaker_lets_one_try() -> None:
    """A prompt that ends for want of a backend is told when the breaker tries its backend again (O16)."""
    backend = ScriptedBackend(default=FAILURES["500"], default_cap=1)
    settings = {"breaker_min_samples": 1, "breaker_open_s": 50, "breaker_open_max_s": 50}
    async with World(backend, settings=settings, no_backend_timeout_ns=30 * SECOND) as world:
        result = await world.one()
        assert result.error is not None
        assert (result.error.reason, result.error.retry_after_ns) == (Reason.NO_BACKEND, 20 * SECOND)
