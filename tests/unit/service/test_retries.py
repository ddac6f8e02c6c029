"""Failed attempts are repeated off-slot, after a random wait, where that can help and nowhere else."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import BackendError, Reason, Refuses
from expresslane.results import Outcome
from expresslane.retries import Jitter, RetryPolicy, asked_ns

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, Play, ScriptedBackend, World, prompt, say, second

if TYPE_CHECKING:
    from expresslane.backends.base import Answer, Call


def failing(
    reason: Reason,
    *,
    retryable: bool = True,
    http_status: int = 0,
    retry_after_s: float | None = None,
    refuses: Refuses | None = None,
) -> Play:
    """Fail at once."""

    async def play(_: Call, __: Answer) -> None:
        raise BackendError(
            reason,
            f"it said {http_status}",
            retryable=retryable,
            http_status=http_status,
            retry_after_s=retry_after_s,
            refuses=refuses,
        )

    return play


class Highest(random.Random):
    """Always the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        """The upper bound."""
        return max(a, b)


SLOWEST = RetryPolicy(attempts=3, base_s=0.5, cap_s=30, random=Highest())


@virtual_time
async def test_third_attempt_succeeds() -> None:
    """Two failures cost at most 0.5 s and 1 s of back-off; waiting for them counts as queue wait (A18, G25)."""
    backend = ScriptedBackend()
    backend.plays = [
        failing(Reason.BACKEND_OVERLOADED, http_status=503),
        failing(Reason.BACKEND_ERROR, http_status=500),
    ]
    async with World(backend, retries=SLOWEST) as world:
        result = await world.one()
        assert (result.outcome, result.attempts, result.error) == (Outcome.SUCCEEDED, 3, None)
        assert [(one.backend, one.http_status) for one in result.history] == [("b", 503), ("b", 500)]
        assert result.timings.total_ns == result.timings.queue_wait_ns == 1.5 * SECOND
        assert world.scheduling.snapshot().retried == 2


@virtual_time
async def test_back_off_holds_no_slot() -> None:
    """While one prompt waits for its retry, its slot on a one-slot backend serves another (A18)."""
    backend = ScriptedBackend(default=second(1))
    backend.plays = [failing(Reason.BACKEND_OVERLOADED, retry_after_s=60)]
    async with World(backend, settings={"cap": 1}) as world:
        started = now_ns()
        results, _ = await world.run([prompt(str(number)) for number in range(5)])
        assert [result.outcome for result in results] == [Outcome.SUCCEEDED] * 5
        assert [result.custom_id for result in results][-1] == backend.asked[0]
        assert results[3].timings.total_ns == 4 * SECOND
        assert now_ns() - started == 61 * SECOND


@virtual_time
async def test_history_of_attempts() -> None:
    """After the last attempt the error is that attempt's, and the earlier ones are told, oldest first (A12, A21)."""
    backend = ScriptedBackend()
    backend.plays = [
        failing(Reason.BACKEND_ERROR, http_status=409),
        failing(Reason.BACKEND_OVERLOADED, http_status=503),
        failing(Reason.BACKEND_ERROR, http_status=500),
    ]
    async with World(backend) as world:
        result = await world.one()
        assert result.error is not None
        assert (result.outcome, result.error.reason, result.error.http_status) == (
            Outcome.FAILED,
            Reason.BACKEND_ERROR,
            500,
        )
        assert [(one.backend, one.reason, one.http_status) for one in result.history] == [
            ("b", Reason.BACKEND_ERROR, 409),
            ("b", Reason.BACKEND_OVERLOADED, 503),
        ]
    assert len(backend.calls) == 3


@virtual_time
async def test_no_retry_where_it_cannot_help() -> None:
    """A request that the backend refuses is sent once."""
    backend = ScriptedBackend(default=failing(Reason.BACKEND_REJECTED, retryable=False, http_status=400))
    async with World(backend) as world:
        result = await world.one()
        assert (result.outcome, result.attempts) == (Outcome.FAILED, 1)
        assert result.error is not None
        assert (result.error.retryable, result.history) == (False, ())


@virtual_time
async def test_retry_after_is_honoured_in_full() -> None:
    """A backend that asks for 45 s gets 45 s, above the cap of random back-offs."""
    backend = ScriptedBackend()
    backend.plays = [failing(Reason.BACKEND_RATE_LIMITED, retry_after_s=45)]
    async with World(backend) as world:
        result = await world.one()
        assert (result.outcome, result.attempts, result.turned_away) == (Outcome.SUCCEEDED, 1, 1)
        assert result.timings.total_ns == 45 * SECOND


@virtual_time
async def test_retry_after_beyond_the_callers_deadline() -> None:
    """A wait that would pass the caller's deadline is not begun: the prompt ends at once, with its own error."""
    backend = ScriptedBackend(default=failing(Reason.BACKEND_RATE_LIMITED, retry_after_s=45))
    async with World(backend) as world:
        results, _ = await world.run([prompt("a")], deadline_ns=now_ns() + 20 * SECOND)
        assert results[0].outcome is Outcome.FAILED
        assert results[0].error is not None
        assert results[0].error.reason is Reason.BACKEND_RATE_LIMITED
        assert results[0].timings.total_ns == 0


@virtual_time
async def test_timed_out_attempt_goes_elsewhere() -> None:
    """An attempt that timed out on one backend is repeated on another, not there."""
    slow, fast = ScriptedBackend("a", default=second(3_000)), ScriptedBackend("b", default=second(1))
    at_once = RetryPolicy(attempts=3, base_s=1e-9, cap_s=30)
    async with World(slow, fast, settings={"cap": 1, "attempt_timeout_s": 30.0}, retries=at_once) as world:
        results, _ = await world.run([prompt("x"), prompt("y")])
        assert {result.outcome for result in results} == {Outcome.SUCCEEDED}
        retried = next(result for result in results if result.attempts == 2)
        assert retried.backend == "b"
        assert retried.timings.total_ns == pytest.approx(31 * SECOND, abs=2)
    assert (len(slow.calls), slow.cancelled) == (1, 1)


@virtual_time
async def test_nothing_is_repeated_once_the_caller_has_seen_some() -> None:
    """A stream that breaks is repeated silently, unless its deltas went to the caller."""

    async def breaks(_: Call, answer: Answer) -> None:
        answer.push("half")
        raise BackendError(Reason.BACKEND_DISCONNECTED, "broken", retryable=True)

    for stream_deltas, outcome, text in ((False, Outcome.SUCCEEDED, "echo a"), (True, Outcome.FAILED, "half")):
        backend = ScriptedBackend()
        backend.plays = [breaks]
        async with World(backend) as world:
            results, _ = await world.run([prompt("a")], stream_deltas=stream_deltas)
            assert (results[0].outcome, results[0].text) == (outcome, text)


@virtual_time
async def test_a_defect_of_an_adapter_fails_one_prompt() -> None:
    """An exception that nobody foresaw becomes an INTERNAL error of its own prompt; the others go on."""

    async def defect(_: Call, __: Answer) -> None:
        raise ZeroDivisionError

    backend = ScriptedBackend()
    backend.plays = [defect]
    async with World(backend) as world:
        results, _ = await world.run([prompt("a"), prompt("b")])
        outcomes = sorted((result.outcome.value, result.attempts) for result in results)
        assert outcomes == [("failed", 1), ("success", 1)]


def test_full_jitter() -> None:
    """Back-offs are uniform from 0 to the bound, and the bound doubles up to its cap (A19)."""
    policy = RetryPolicy(attempts=9, base_s=0.5, cap_s=3, random=random.Random(7))
    error = BackendError(Reason.BACKEND_OVERLOADED, "", retryable=True)
    for attempt, bound_s in ((1, 0.5), (2, 1), (3, 2), (4, 3), (8, 3)):
        delays = sorted(policy.back_off_ns(attempt, error) or 0 for _ in range(4_000))
        assert 0 <= delays[0] < bound_s * 1e9 / 100
        assert bound_s * 1e9 * 0.99 < delays[-1] <= bound_s * 1e9
        for share in (0.25, 0.5, 0.75):
            assert delays[int(4_000 * share)] == pytest.approx(bound_s * 1e9 * share, rel=0.1)


@pytest.mark.parametrize(
    ("jitter", "attempt", "last_s", "low_s", "high_s"),
    [
        ("full", 2, 0, 0, 1),
        ("equal", 2, 0, 0.5, 1),
        ("equal", 9, 0, 1.5, 3),
        ("decorrelated", 1, 0, 0.5, 1.5),
        ("decorrelated", 2, 0.8, 0.5, 2.4),
        ("decorrelated", 3, 2.4, 0.5, 3),
        ("none", 2, 0, 1, 1),
        ("none", 9, 0, 3, 3),
    ],
)
def test_jitter(jitter: Jitter, attempt: int, last_s: float, low_s: float, high_s: float) -> None:
    """Each kind of jitter fills its own range, and none goes above the cap (A19)."""
    policy = RetryPolicy(20, 0.5, 3, jitter, random.Random(1))
    error = BackendError(Reason.BACKEND_OVERLOADED, "", retryable=True)
    delays = [(policy.back_off_ns(attempt, error, int(last_s * 1e9)) or 0) / 1e9 for _ in range(2_000)]
    assert low_s <= min(delays) <= low_s + (high_s - low_s) * 0.01
    assert high_s - (high_s - low_s) * 0.01 <= max(delays) <= high_s


@pytest.mark.parametrize(
    ("attempt", "retryable", "retry_after_s", "expected"),
    [(3, True, None, None), (1, False, None, None), (1, True, 7.0, 7 * SECOND), (1, True, 1e30, 86_400 * SECOND)],
)
def test_when_not_and_how_long(
    attempt: int, retryable: bool, retry_after_s: float | None, expected: int | None
) -> None:
    """The last attempt and hopeless errors are not repeated; what a backend asks for is bounded by a day."""
    error = BackendError(Reason.BACKEND_OVERLOADED, "", retryable=retryable, retry_after_s=retry_after_s)
    policy = RetryPolicy(3, 0.5, 30)
    back_off_ns = policy.back_off_ns(attempt, error)
    assert (None if back_off_ns is None else max(back_off_ns, asked_ns(error.retry_after_s))) == expected


@virtual_time
async def test_connect_failure_waits_for_the_probe() -> None:
    """After a failed connection nothing is released to a backend until a probe finds it again, then all goes on."""
    backend = ScriptedBackend()
    down = BackendError(Reason.BACKEND_UNREACHABLE, "refused", retryable=True)

    async def refuse(_: Call, __: Answer) -> None:
        backend.discovery = down
        raise down

    async def come_back() -> None:
        await asyncio.sleep(3.5)
        backend.discovery = type(backend)("x").discovery

    backend.plays = [refuse, say]
    async with World(backend) as world:
        back = asyncio.create_task(come_back())
        result = await world.one()
        assert (result.outcome, result.attempts) == (Outcome.SUCCEEDED, 2)
        assert result.timings.total_ns == 4 * SECOND
        await back
