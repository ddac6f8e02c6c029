"""What makes a model avoid a backend, what ends that, and what a move away from it costs (A18, A22, A26)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import Reason, Refuses
from expresslane.rate_limits import KEY_REFUSED, MODEL_NOT_FOUND, UNPAID_RUN, RateLimits
from expresslane.results import Outcome
from expresslane.retries import RetryPolicy

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.test_retries import SLOWEST, failing
from tests.unit.service.world import SECOND, Play, ScriptedBackend, World, prompt, say, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call

UNPAID = failing(Reason.BACKEND_QUOTA_EXHAUSTED, retryable=False, http_status=402)
NO_MODEL = failing(Reason.BACKEND_REJECTED, retryable=False, http_status=404, refuses=Refuses.MODEL)
FLAGGED = failing(Reason.BACKEND_UNAUTHORIZED, retryable=False, http_status=403)
A = 0
"""The number of the backend `a`: by their ids."""


def kind(world: World, backend: int = A) -> str | None:
    """As what the backend is avoided now, if it is."""
    limit = world.scheduling.limits.avoided(backend, now_ns())
    return limit.kind if limit is not None else None


def begun(end: Play) -> Play:
    """An answer that begins, then ends so."""

    async def play(call: Call, answer: Answer) -> None:
        await say(call, answer)
        await end(call, answer)

    return play


@virtual_time
async def test_an_empty_account_is_avoided_after_a_few_prompts() -> None:
    """Each prompt's 402 may be its own; a run of them is the account's, and it costs that much a minute, no more."""
    empty, working = ScriptedBackend("a", default=UNPAID), ScriptedBackend("z", default=second(1))
    async with World(empty, working, retries=SLOWEST) as world:
        for minute in range(1, 4):
            for number in range(20):
                assert (await world.one()).backend == "z"
                assert kind(world) == (None if number + 1 < UNPAID_RUN else KEY_REFUSED)
            assert len(empty.calls) == minute * UNPAID_RUN
            assert world.fleet.members[A].notices() == ["refuses prompts: BACKEND_QUOTA_EXHAUSTED (HTTP 402)"]
            await asyncio.sleep(61)
        empty.default = say
        assert (await world.one()).backend == "a"
        assert world.fleet.members[A].notices() == []


@virtual_time
async def test_a_burst_at_an_empty_account() -> None:
    """What was on its way when the run was long enough neither lengthens the minute nor begins another run."""
    empty, working = ScriptedBackend("a", default=UNPAID), ScriptedBackend("z", default=second(1))
    async with World(empty, working, settings={"cap": 8}, retries=SLOWEST) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(200)])
        assert {(one.outcome, one.backend) for one in results} == {(Outcome.SUCCEEDED, "z")}
        assert UNPAID_RUN <= len(empty.calls) <= UNPAID_RUN - 1 + 8


def test_an_answer_from_before_does_not_end_the_run() -> None:
    """What began while the account still had something ends when it will: it says nothing of what is left since."""
    limits = RateLimits()
    assert not limits.note_unpaid(A, 0, now_ns=10)
    for run in range(2, UNPAID_RUN + 1):
        limits.answered(A, 0, started_ns=9, raw=False)
        assert limits.note_unpaid(A, 0, now_ns=10 + run) == (run == UNPAID_RUN)
    assert not limits.note_unpaid(A, 0, now_ns=20)
    limits.answered(A, 0, started_ns=20, raw=False)
    assert not any(limits.note_unpaid(A, 0, now_ns=30) for _ in range(UNPAID_RUN - 1))


@virtual_time
async def test_an_answer_in_between_ends_the_run() -> None:
    """Beside others that are answered, one tenant's prompts that are too dear take no backend from them."""
    backend, other = ScriptedBackend("a"), ScriptedBackend("z")
    async with World(backend, other, retries=SLOWEST) as world:
        for _ in range(10):
            backend.plays = [UNPAID] * (UNPAID_RUN - 1) + [say]
            assert [(await world.one()).backend for _ in range(UNPAID_RUN)] == ["z"] * (UNPAID_RUN - 1) + ["a"]
            assert kind(world) is None


@virtual_time
async def test_prompts_too_dear_for_all_keep_nobody_waiting() -> None:
    """Where each backend has said so, none is another one: the next prompt goes at once, and who answers is free."""
    backends = [ScriptedBackend(name) for name in "az"]
    async with World(*backends, retries=SLOWEST) as world:
        for _ in range(30):
            for one in backends:
                one.plays = [UNPAID]
            refused = await world.one()
            assert (refused.outcome, refused.attempts) == (Outcome.FAILED, 2)
        after = await world.one()
        assert (after.outcome, after.attempts, after.timings.total_ns) == (Outcome.SUCCEEDED, 1, 0)
        assert [one.breaker.bad for one in world.core.snapshot().backends if one.breaker] == [0, 0]


@virtual_time
async def test_a_last_resort_does_not_lengthen_the_minute() -> None:
    """Dear prompts that come to an avoided backend last of all do not keep it from the others for longer."""
    backends = [ScriptedBackend("a", default=UNPAID), ScriptedBackend("z")]
    async with World(*backends, retries=SLOWEST) as world:
        for _ in range(UNPAID_RUN):
            await world.one()
        limit = world.scheduling.limits.avoided(A, now_ns())
        assert limit is not None
        for _ in range(UNPAID_RUN):
            await asyncio.sleep(10)
            backends[1].plays = [UNPAID]
            assert (await world.one()).outcome is Outcome.FAILED
            backends[1].plays = [say]
            await world.one()
        assert world.scheduling.limits.avoided(A, now_ns()) == limit
        await asyncio.sleep(31)
        backends[0].default = say
        assert (await world.one()).backend == "a"


@pytest.mark.parametrize("is_raw", [False, True])
@virtual_time
async def test_a_raw_answer_says_nothing_of_a_model_for_chats(is_raw: bool) -> None:
    """A model that chats do not find there may be there for completions: an answer to one of these finds it not."""
    backend, other = ScriptedBackend("a"), ScriptedBackend("z")
    backend.plays = [NO_MODEL]
    async with World(backend, other, retries=SLOWEST) as world:
        await world.one()
        assert kind(world) == MODEL_NOT_FOUND
        other.plays = [FLAGGED]  # so that the next one comes to the backend that is avoided
        results, _ = await world.run([prompt("x", raw=is_raw)])
        assert [one.backend for one in results] == ["a"]
        assert kind(world) == (MODEL_NOT_FOUND if is_raw else None)
        notices = ["refuses the model 'm': BACKEND_REJECTED (HTTP 404)"] if is_raw else []
        assert world.fleet.members[A].notices() == notices
        assert (await world.one()).backend == ("z" if is_raw else "a")


@pytest.mark.parametrize("is_raw", [False, True])
@virtual_time
async def test_any_answer_says_that_the_key_is_good(is_raw: bool) -> None:
    """Raw prompts and chats are paid with the same key."""
    backend, other = ScriptedBackend("a"), ScriptedBackend("z")
    backend.plays = [failing(Reason.BACKEND_UNAUTHORIZED, retryable=False, http_status=401, refuses=Refuses.KEY)]
    async with World(backend, other, retries=SLOWEST) as world:
        await world.one()
        assert kind(world) == KEY_REFUSED
        other.plays = [FLAGGED]
        results, _ = await world.run([prompt("x", raw=is_raw)])
        assert [one.backend for one in results] == ["a"]
        assert (kind(world), world.fleet.members[A].notices()) == (None, [])


@pytest.mark.parametrize(("attempts", "outcome"), [(1, Outcome.FAILED), (2, Outcome.SUCCEEDED)])
@virtual_time
async def test_a_refusal_inside_an_answer_counts_as_an_attempt(attempts: int, outcome: Outcome) -> None:
    """What had begun was run, and is run again elsewhere only if another attempt is allowed (A18)."""
    torn, working = ScriptedBackend("a", default=begun(FLAGGED)), ScriptedBackend("z")
    async with World(torn, working, retries=RetryPolicy(attempts=attempts, base_s=0.5, cap_s=30)) as world:
        result = await world.one()
        assert (result.outcome, result.attempts) == (outcome, attempts)


@virtual_time
async def test_a_refusal_inside_an_answer_is_paid_from_the_retry_budget() -> None:
    """One budget for all that is run again: a burst of ten, then one for a hundred first attempts (A22)."""
    for play, failed in ((FLAGGED, 0), (begun(FLAGGED), 40 - 10)):
        refusing, working = ScriptedBackend("a", default=play, default_cap=40), ScriptedBackend("z", default_cap=40)
        async with World(refusing, working, settings={"cap": 40}, retries=SLOWEST, retry_ratio=0.01) as world:
            results, _ = await world.run([prompt(str(number)) for number in range(80)])
            assert len(refusing.calls) == 40
            ended = [one for one in results if one.outcome is Outcome.FAILED]
            assert len(ended) == failed
            assert all(one.error is not None and "retry budget" in one.error.message for one in ended)
            assert {one.timings.total_ns for one in results} <= {0, SECOND}
