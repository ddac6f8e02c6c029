"""Attempts as tasks: each at one backend, with its stream and its outcome."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from expresslane.attempt import Attempt
from expresslane.backend_failures import BackendFailures
from expresslane.backends.base import Answer, Call
from expresslane.backends.idempotency import Keys
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import BackendError, PromptError, Reason, Refuses
from expresslane.moves import is_backends_fault
from expresslane.next_attempt import NextAttempt
from expresslane.results import Outcome
from expresslane.token_estimates import TokenEstimates

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane.batches.ticket import Ticket
    from expresslane.fleet import Fleet, Member
    from expresslane.retries import RetryPolicy
    from expresslane.scheduling import Scheduling

__all__ = ["Dispatcher"]

log = structlog.get_logger(__name__)

_OVERDUE = {
    "first_token": (Reason.FIRST_TOKEN_TIMEOUT, "no first token in time"),
    "idle": (Reason.IDLE_TIMEOUT, "the answer fell silent"),
    "attempt": (Reason.ATTEMPT_TIMEOUT, "the attempt took too long"),
}
RETRY_AFTER_MAX_S = 10_000 * 365 * 86_400.0
"""The longest that a protobuf duration may be, about."""
_DOWN = frozenset({Reason.BACKEND_UNREACHABLE})


class Dispatcher:
    """Runs attempts as tasks: as many as the core releases, never more."""

    def __init__(
        self,
        scheduling: Scheduling,
        fleet: Fleet,
        retries: RetryPolicy,
        *,
        estimates: TokenEstimates | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._scheduling = scheduling
        self._estimates = estimates or TokenEstimates()
        self._fleet = fleet
        self._next = NextAttempt(scheduling, fleet, retries)
        self._clock = clock
        self._keys = Keys()
        self.failures = BackendFailures(clock)
        self._tasks: set[asyncio.Task[None]] = set()

    def release(self, ticket: Ticket, backend: int, attempt_number: int) -> None:
        """Start an attempt, by its number from 1, at a backend."""
        now = self._clock()
        member = self._fleet.members[backend]
        attempt = Attempt(member, member.own_name(ticket.prompt.model), attempt_number, now)
        ticket.attempts = attempt_number
        ticket.queue_wait_ns += now - ticket.queued_ns
        ticket.attempt = attempt
        on_delta = self._on_delta(ticket) if ticket.batch.options.stream_deltas else None
        on_first_token = (lambda: self._first_token(ticket, attempt)) if member.streams else None
        on_told = partial(self._scheduling.told, ticket, member.number)
        attempt.answer = Answer(on_first_token, on_delta, on_told=on_told, clock=self._clock)
        headers = ticket.batch.trace.headers
        if ticket.trace is not None:
            ticket.trace.queued(ticket.queued_ns, now)
            attempt.trace = ticket.trace.start_attempt(
                attempt.number,
                member.id,
                member.settings.kind,
                member.settings.url,
                attempt.model,
                ticket.prompt.options.sampling,
                now,
                raw=ticket.prompt.raw,
            )
            headers = attempt.trace.headers
        self._own_deadlines(ticket, member, now)
        key = self._keys.key(ticket.id, member.id, ticket.history)
        call = Call(ticket.prompt, attempt.model, headers, key)
        attempt.task = asyncio.get_running_loop().create_task(self._run(ticket, attempt, call))
        self._tasks.add(attempt.task)

    def overdue(self, ticket: Ticket, reason: str) -> None:
        """A deadline of the running attempt has passed; a stream that is alive only moves its idle deadline."""
        attempt = ticket.attempt
        if attempt is None or attempt.stopped:
            return
        if reason == "idle":
            idle_ns = ticket.prompt.options.deadlines.idle_ns or int(attempt.member.settings.idle_timeout_s * 1e9)
            until = attempt.answer.active_ns + idle_ns
            if until > self._clock():
                self._scheduling.rearm(ticket, "idle", until)
                return
        if attempt.answer.complete:
            attempt.task.cancel()  # it only waits for the end of its connection
        else:
            attempt.stop(reason)

    def abort(self, ticket: Ticket) -> None:
        """Cancel the running attempt; its connection is closed."""
        if ticket.attempt is not None:
            ticket.attempt.stop("cancelled")

    async def settled(self) -> None:
        """Return once every running attempt has ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _own_deadlines(self, ticket: Ticket, member: Member, now_ns: int) -> None:
        own = ticket.prompt.options.deadlines
        if own.first_token_ns and member.streams:
            self._scheduling.rearm(ticket, "first_token", now_ns + own.first_token_ns)
        if own.attempt_ns:
            self._scheduling.rearm(ticket, "attempt", now_ns + own.attempt_ns)

    def _first_token(self, ticket: Ticket, attempt: Attempt) -> None:
        attempt.first_token_ns = now = self._clock()
        self._scheduling.first_token(ticket, now)
        if attempt.trace is not None:
            attempt.trace.first_token(now)

    @staticmethod
    def _on_delta(ticket: Ticket) -> Callable[[str, str], None]:
        outbox, custom_id, index = ticket.batch.outbox, ticket.prompt.custom_id, ticket.index
        return lambda text, reasoning: outbox.put_delta(custom_id, index, text, reasoning)

    async def _run(self, ticket: Ticket, attempt: Attempt, call: Call) -> None:
        error: BackendError | None = None
        attempt.begun = True
        try:
            if not attempt.stopped:
                await attempt.member.adapter.generate(call, attempt.answer)
        except BackendError as failure:
            error = failure
        except asyncio.CancelledError:
            if not (attempt.stopped or attempt.answer.complete):
                attempt.stopped = "cancelled"
        except Exception:
            log.exception("defect in an adapter", backend=attempt.member.id)
            error = BackendError(Reason.INTERNAL, "a defect of the service; its log has the details")
        try:
            self._settle(ticket, attempt, error)
        finally:
            # In its last step, not in a callback: that would be another step of the loop for each attempt.
            self._tasks.discard(attempt.task)
            # Both refer back to what holds them: else a failed prompt would stay until the next full collection.
            del attempt.answer, error

    def _settle(self, ticket: Ticket, attempt: Attempt, error: BackendError | None) -> None:
        """Turn an attempt's end into exactly one of: a result, or a place in the queue for the next attempt."""
        now = self._clock()
        stopped = attempt.stopped
        if stopped in ("cancelled", "batch"):
            outcome, prompt_error = self._ended_early(ticket, stopped)
        elif error is None and not stopped:
            outcome, prompt_error = Outcome.SUCCEEDED, None
            self._answered(ticket, attempt)
            self._fleet.answered(attempt.member, ticket.prompt.model, raw=ticket.prompt.raw)
            self._scheduling.answered(ticket, attempt.member.number, attempt.started_ns, now)
        else:
            expired = ""
            if stopped:
                reason, message = _OVERDUE[stopped]
                error = BackendError(reason, f"{message} (backends/{attempt.member.id})", retryable=True)
                expired = stopped
            assert error is not None
            if not (stopped and self._is_own(ticket, stopped)):
                self.failures.note(attempt.member.id, error)
            self._note_health(attempt.member, error)
            is_answer = error.http_status > 0 or attempt.answer.started
            if is_answer and error.reason is not Reason.BACKEND_RATE_LIMITED:
                self._answered(ticket, attempt)
            if is_backends_fault(error) or (stopped and not self._is_own(ticket, stopped)):
                self._scheduling.blame(ticket, now)
            if self._next.queue(ticket, attempt, error, now):
                return
            outcome = Outcome.EXPIRED if expired else Outcome.FAILED
            prompt_error = self._prompt_error(error, expired)
        attempt.end_trace(outcome, prompt_error, now)
        result = ticket.result(outcome, now, prompt_error)
        if result.usage is not None and outcome is Outcome.SUCCEEDED:
            self._estimates.learn(ticket, result.usage)
        self._scheduling.finish(ticket, result, now)

    @staticmethod
    def _is_own(ticket: Ticket, deadline: str) -> bool:
        """Whether the prompt has set this deadline itself: a caller in a hurry says nothing about the backend."""
        own = ticket.prompt.options.deadlines
        return bool({"first_token": own.first_token_ns, "idle": own.idle_ns, "attempt": own.attempt_ns}[deadline])

    def _note_health(self, member: Member, error: BackendError) -> None:
        if error.reason in _DOWN:
            self._fleet.unreachable(member, error)
        if error.refuses is Refuses.KEY:
            self._fleet.refused(member, error)

    def _answered(self, ticket: Ticket, attempt: Attempt) -> None:
        """The backend has answered, be it with another error than a rate limit."""
        self._scheduling.limits.refusals.answered(attempt.member.number, ticket.model_number, attempt.started_ns)

    @staticmethod
    def _ended_early(ticket: Ticket, stopped: str) -> tuple[Outcome, PromptError]:
        if stopped == "batch":
            message = "the call's deadline was near and the answer was not complete"
            return Outcome.EXPIRED, PromptError(Reason.CALLER_DEADLINE, message, retryable=True, deadline="caller")
        reason, message = ticket.batch.cancel_reason
        return Outcome.CANCELLED, PromptError.cancelled(reason, message)

    @staticmethod
    def _prompt_error(error: BackendError, deadline: str) -> PromptError:
        return PromptError(
            reason=error.reason,
            message=error.message,
            retryable=error.retryable,
            deadline=deadline,
            http_status=error.http_status,
            provider_code=error.provider_code,
            provider_body=error.provider_body,
            provider_request_id=error.provider_request_id,
            field=error.field,
            retry_after_ns=_retry_after_ns(error),
        )


def _retry_after_ns(error: BackendError) -> int | None:
    """What the backend asked for; a caller has to know it too, when it is the caller who tries again (O16)."""
    if not error.retryable or error.retry_after_s is None:
        return None
    return int(min(error.retry_after_s, RETRY_AFTER_MAX_S) * 1e9)
