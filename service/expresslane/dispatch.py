"""One attempt at one backend, its stream and its outcome; retries are decided here and waited for in the core."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from expresslane.backend_failures import BackendFailures
from expresslane.backends.base import Answer, Call
from expresslane.backends.idempotency import Keys
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import AttemptError, BackendError, PromptError, Reason, Refuses
from expresslane.moves import REFUSED_PAUSE_NS, may_go_elsewhere, pause_kind, was_refused
from expresslane.rate_limits import MODEL_NOT_FOUND
from expresslane.results import Outcome
from expresslane.retries import asked_ns, plain_seconds
from expresslane.scheduling import QUEUED
from expresslane.token_estimates import TokenEstimates

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane.batches.ticket import Ticket
    from expresslane.fleet import Fleet, Member
    from expresslane.retries import RetryPolicy
    from expresslane.scheduling import Scheduling
    from expresslane.telemetry.spans import AttemptTrace

__all__ = ["Attempt", "Dispatcher"]

log = structlog.get_logger(__name__)

_OVERDUE = {
    "first_token": (Reason.FIRST_TOKEN_TIMEOUT, "no first token in time"),
    "idle": (Reason.IDLE_TIMEOUT, "the answer fell silent"),
    "attempt": (Reason.ATTEMPT_TIMEOUT, "the attempt took too long"),
}
TURNED_AWAY_MAX = 20
"""Attempts of one prompt that a rate limit may turn away without being counted, so that it ends for certain."""
RETRY_AFTER_MAX_S = 10_000 * 365 * 86_400.0
"""The longest that a protobuf duration may be, about."""
_BACKENDS_FAULT = frozenset(
    {
        Reason.BACKEND_UNREACHABLE,
        Reason.BACKEND_DISCONNECTED,
        Reason.BACKEND_OVERLOADED,
        Reason.BACKEND_ERROR,
        Reason.BACKEND_MALFORMED,
    }
)
"""What a breaker counts, beside time-outs that the service itself has set; never a 4xx, which is about the request, or
about the key for one model."""
_DOWN = frozenset({Reason.BACKEND_UNREACHABLE})


class Attempt:
    """One release of one ticket to one backend. `stopped` says why it was aborted: cancelled, batch or a deadline."""

    __slots__ = (
        "answer",
        "begun",
        "first_token_ns",
        "member",
        "model",
        "number",
        "started_ns",
        "stopped",
        "task",
        "trace",
    )

    def __init__(self, member: Member, model: str, number: int, started_ns: int) -> None:
        self.member = member
        self.model = model
        self.number = number
        self.started_ns = started_ns
        self.first_token_ns = 0
        self.begun = False
        self.stopped = ""
        self.answer: Answer
        self.task: asyncio.Task[None]
        self.trace: AttemptTrace | None = None


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
        self._retries = retries
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
        self._stop(attempt, reason)

    def abort(self, ticket: Ticket) -> None:
        """Cancel the running attempt; its connection is closed."""
        if ticket.attempt is not None:
            self._stop(ticket.attempt, "cancelled")

    async def settled(self) -> None:
        """Return once every running attempt has ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    @staticmethod
    def _stop(attempt: Attempt, reason: str) -> None:
        if not attempt.stopped:
            attempt.stopped = reason
            if attempt.begun:  # a task cancelled before its first step would never run, and never settle
                attempt.task.cancel()

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
            if not attempt.stopped:
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
            self._fleet.answered(attempt.member, ticket.prompt.model)
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
            if self._is_backends_fault(error) or (stopped and not self._is_own(ticket, stopped)):
                self._scheduling.blame(ticket, now)
            if may_go_elsewhere(error) and self._scheduling.backends.serves_elsewhere(
                ticket, attempt.member.number, now
            ):
                is_queued = self._elsewhere(ticket, attempt, error, now)
            else:
                is_queued = self._retry(ticket, attempt, error, now)
            if is_queued:
                return
            outcome = Outcome.EXPIRED if expired else Outcome.FAILED
            prompt_error = self._prompt_error(error, expired)
        self._end_trace(attempt, outcome, prompt_error, now)
        result = ticket.result(outcome, now, prompt_error)
        if result.usage is not None and outcome is Outcome.SUCCEEDED:
            self._estimates.learn(ticket, result.usage)
        self._scheduling.finish(ticket, result, now)

    @staticmethod
    def _is_backends_fault(error: BackendError) -> bool:
        """Whether the failure speaks against the backend.

        A 408 and a 409 do not, though they are worth another attempt: what one caller sends slowly, or twice, must not
        take the backend from the others.
        """
        return error.reason in _BACKENDS_FAULT and not 400 <= error.http_status < 500

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

    def _pause(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> int | None:
        """Leave a backend alone after a rate limit of its, with all prompts of the model, not this one only.

        That is so too where this prompt is not to be repeated. Returns until when; None: this attempt counts. It does
        not if it was turned away at the door, as others would have been in its place, and may be repeated.
        """
        if error.reason is not Reason.BACKEND_RATE_LIMITED or attempt.stopped:
            return None
        member = attempt.member
        until_ns = self._scheduling.limits.refusals.refused(
            member.number,
            ticket.model_number,
            started_ns=attempt.started_ns,
            now_ns=now_ns,
            asked_s=error.retry_after_s,
            base_s=member.settings.rate_limit_pause_s,
            max_s=member.settings.rate_limit_pause_max_s,
        )
        if attempt.answer.started:
            self._scheduling.pause(member.number, ticket.model_number, now_ns, until_ns)
            return None
        self._scheduling.turned_away(ticket, member.number, now_ns, until_ns)
        return until_ns if error.retryable and ticket.turned_away < TURNED_AWAY_MAX else None

    def _retry(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> bool:
        paused_until_ns = self._pause(ticket, attempt, error, now_ns)
        back_off_ns: int | None = 0
        wanted_ns = asked_ns(error.retry_after_s)
        asked = wanted_ns > 0
        if paused_until_ns is not None:
            wanted_ns = max(0, paused_until_ns - now_ns)
            asked = self._scheduling.limits.refusals.is_asked(attempt.member.number, ticket.model_number)
        else:
            back_off_ns = self._retries.back_off_ns(_counted(ticket, attempt), error, ticket.back_off_ns)
        if back_off_ns is None or self._is_final(ticket, attempt):
            return False
        if self._is_backends_fault(error):
            self._scheduling.move_on(ticket, now_ns)
        # What one backend asks for says nothing about the others.
        moves = self._moves(ticket, attempt, error, now_ns)
        delay_ns = back_off_ns if moves else max(back_off_ns, wanted_ns)
        exclude = self._retries.excludes_backend(error)
        answer = self._scheduling.retry(ticket, now_ns, delay_ns, exclude_backend=exclude, asked=asked and not moves)
        if answer != QUEUED:
            error.message += self._why_not(answer, ticket, now_ns, delay_ns)
            return False
        ticket.back_off_ns = back_off_ns or ticket.back_off_ns
        ticket.turned_away += paused_until_ns is not None
        self._queued_again(ticket, attempt, error, now_ns, excluded=exclude)
        return True

    def _elsewhere(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> bool:
        """Send a prompt that one backend will never answer to another that it has not met, at once.

        What was not run counts as no attempt of those allowed.
        """
        self._leave_alone(ticket, attempt.member, error, now_ns)
        refused = was_refused(error)
        if self._is_final(ticket, attempt) or not (refused or self._retries.allows(_counted(ticket, attempt))):
            return False
        answer = self._scheduling.retry(ticket, now_ns, 0, exclude_backend=True)
        if answer != QUEUED:
            if answer == "no_other_backend":
                error.message += " (not retried: each backend that serves the model was asked once)"
            else:
                error.message += self._why_not(answer, ticket, now_ns, 0)
            return False
        ticket.refused += refused
        self._queued_again(ticket, attempt, error, now_ns, excluded=True)
        return True

    def _leave_alone(self, ticket: Ticket, member: Member, error: BackendError, now_ns: int) -> None:
        """Send nothing more of a model for a while to a backend that refuses it, or the key, whatever the prompt.

        Not so where no other backend is open: there each prompt is told at once what is wrong, and a pause, or the
        breaker, which would shut the backend's other models too, would say less.
        """
        kind = pause_kind(error, raw=ticket.prompt.raw)
        if kind == MODEL_NOT_FOUND:
            self._fleet.refused(member, error, ticket.prompt.model)
        if kind and self._scheduling.backends.is_open_elsewhere(ticket, member.number, now_ns):
            until_ns = now_ns + REFUSED_PAUSE_NS
            self._scheduling.pause(member.number, ticket.model_number, now_ns, until_ns, kind)

    @staticmethod
    def _is_final(ticket: Ticket, attempt: Attempt) -> bool:
        """Whether nothing can come after an attempt: part of its answer has gone out, or its batch was cut short."""
        is_delivered = ticket.batch.options.stream_deltas and attempt.answer.shown
        return is_delivered or ticket.batch.stopped is not None

    def _queued_again(
        self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int, *, excluded: bool
    ) -> None:
        duration_ns = now_ns - attempt.started_ns
        failed = AttemptError(attempt.member.id, error.reason, error.message, error.http_status, duration_ns, excluded)
        self._end_trace(attempt, "retry", error, now_ns)
        ticket.history = (*ticket.history, failed)
        ticket.attempt = None

    def _moves(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> bool:
        """Whether the next attempt goes to another backend, one that is open and that has not been excluded."""
        if not self._is_backends_fault(error) and error.reason is not Reason.BACKEND_RATE_LIMITED:
            return False
        excluded = (self._fleet.get(one.backend) for one in ticket.history if one.excluded)
        not_there = {attempt.member.number, *(member.number for member in excluded)}
        return self._scheduling.limits.open_elsewhere(ticket.model_number, not_there, now_ns)

    @staticmethod
    def _why_not(answer: str, ticket: Ticket, now_ns: int, delay_ns: int) -> str:
        """What the error of an attempt that is not repeated says about that."""
        match answer:
            case "budget_exhausted":
                return " (not retried: the tenant's retry budget is used up, EXPRESSLANE_RETRY_RATIO)"
            case "past_deadline":
                which = _deadline_within(ticket, now_ns, delay_ns)
                return f" (not retried: a wait of {plain_seconds(delay_ns)} s would end after {which})"
            case "no_other_backend":
                return " (not retried: no other backend serves the model, and none is asked again after a time-out)"
        return ""

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

    @staticmethod
    def _end_trace(attempt: Attempt, outcome: str, error: PromptError | BackendError | None, now_ns: int) -> None:
        if attempt.trace is None:
            return
        answer = attempt.answer
        attempt.trace.end(
            now_ns,
            outcome=outcome,
            usage=answer.usage,
            finish_reason=answer.finish_reason_raw,
            error=error,
            simulated=attempt.member.capabilities.simulated,
        )


def _counted(ticket: Ticket, attempt: Attempt) -> int:
    """How many attempts there were, of those allowed: none that was turned away or refused without being run."""
    return attempt.number - ticket.turned_away - ticket.refused


def _deadline_within(ticket: Ticket, now_ns: int, delay_ns: int) -> str:
    """The first of the deadlines that a wait from now on would pass, with what sets it."""
    queue_ns = ticket.prompt.options.deadlines.queue_ns
    own_ns, caller_ns = queue_ns and ticket.submitted_ns + queue_ns, ticket.batch.options.deadline_ns
    passed = [at_ns for at_ns in (own_ns, caller_ns) if 0 < at_ns <= now_ns + delay_ns]
    if not passed:
        return "the queue timeout, EXPRESSLANE_QUEUE_TIMEOUT_S"
    left = f"{plain_seconds(max(0, min(passed) - now_ns))} s away"
    if min(passed) == caller_ns:
        return f"the call's deadline, {left}"
    return f"the prompt's own queue timeout, deadlines.queue, {left}"


def _retry_after_ns(error: BackendError) -> int | None:
    """What the backend asked for; a caller has to know it too, when it is the caller who tries again (O16)."""
    if not error.retryable or error.retry_after_s is None:
        return None
    return int(min(error.retry_after_s, RETRY_AFTER_MAX_S) * 1e9)
