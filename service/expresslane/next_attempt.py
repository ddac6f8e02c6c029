"""After a failure: whether a ticket goes back to the queue for another attempt, when, and where.

It is decided here and waited for in the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.errors import AttemptError, BackendError, Reason
from expresslane.moves import AVOID_NS, avoid_kind, is_backends_fault, is_unpaid, may_go_elsewhere, was_refused
from expresslane.rate_limits import KEY_REFUSED, MODEL_NOT_FOUND
from expresslane.retries import asked_ns, plain_seconds
from expresslane.scheduling import QUEUED

if TYPE_CHECKING:
    from expresslane.attempt import Attempt
    from expresslane.batches.ticket import Ticket
    from expresslane.fleet import Fleet, Member
    from expresslane.retries import RetryPolicy
    from expresslane.scheduling import Scheduling

__all__ = ["NextAttempt"]

TURNED_AWAY_MAX = 20
"""Attempts of one prompt that a rate limit may turn away without being counted, so that it ends for certain."""


class NextAttempt:
    """Puts tickets whose attempt has failed back into the queue, where another attempt makes sense."""

    def __init__(self, scheduling: Scheduling, fleet: Fleet, retries: RetryPolicy) -> None:
        self._scheduling = scheduling
        self._fleet = fleet
        self._retries = retries

    def queue(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> bool:
        """Queue a ticket for its next attempt; False: there is none, and `error` says why where it was the core's word.

        A backend that has earned it is paused or avoided in either case.
        """
        serving, number = self._scheduling.serving, attempt.member.number
        if may_go_elsewhere(error) and serving.elsewhere(ticket.model_number, number):
            return self._elsewhere(ticket, attempt, error, now_ns)
        return self._retry(ticket, attempt, error, now_ns)

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
        if back_off_ns is None or _is_final(ticket, attempt):
            return False
        if is_backends_fault(error):
            self._scheduling.move_on(ticket, now_ns)
        # What one backend asks for says nothing about the others.
        moves = self._moves(ticket, attempt, error, now_ns)
        delay_ns = back_off_ns if moves else max(back_off_ns, wanted_ns)
        exclude = self._retries.excludes_backend(error)
        answer = self._scheduling.retry(ticket, now_ns, delay_ns, exclude_backend=exclude, asked=asked and not moves)
        if answer != QUEUED:
            error.message += _why_not(answer, ticket, now_ns, delay_ns)
            return False
        ticket.back_off_ns = back_off_ns or ticket.back_off_ns
        ticket.turned_away += paused_until_ns is not None
        self._queued_again(ticket, attempt, error, now_ns, excluded=exclude)
        return True

    def _elsewhere(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> bool:
        """Send a prompt that one backend will never answer to another that it has not met, at once.

        What was not run counts as no attempt of those allowed, nor as a retry of its tenant's budget. What had begun
        to be answered was run, whatever ended it.
        """
        self._avoid(ticket, attempt.member, error, now_ns)
        refused = was_refused(error) and not attempt.answer.started
        if _is_final(ticket, attempt) or not (refused or self._retries.allows(_counted(ticket, attempt))):
            return False
        if refused:
            self._scheduling.not_run(ticket, now_ns)
        answer = self._scheduling.retry(ticket, now_ns, 0, exclude_backend=True)
        if answer != QUEUED:
            if answer == "no_other_backend":
                error.message += " (not retried: each backend that serves the model was asked once)"
            else:
                error.message += _why_not(answer, ticket, now_ns, 0)
            return False
        ticket.refused += refused
        self._queued_again(ticket, attempt, error, now_ns, excluded=True)
        return True

    def _avoid(self, ticket: Ticket, member: Member, error: BackendError, now_ns: int) -> None:
        """Send a model for a while to a backend that refuses it, or the key, only where no other is left to a prompt.

        So each prompt is told at once what is wrong where all refuse it; and one that was refused elsewhere finds out
        whether this backend has been mended. A pause, or the breaker, would have it wait, or fail, untried.
        """
        kind = avoid_kind(error, raw=ticket.prompt.raw)
        if kind == MODEL_NOT_FOUND:
            self._fleet.refused(member, error, ticket.prompt.model)
        elif is_unpaid(error) and self._scheduling.limits.note_unpaid(member.number, ticket.model_number, now_ns):
            kind = KEY_REFUSED
            self._fleet.refused(member, error)
        if kind:
            self._scheduling.avoid(member.number, ticket.model_number, now_ns, now_ns + AVOID_NS, kind)

    def _queued_again(
        self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int, *, excluded: bool
    ) -> None:
        duration_ns = now_ns - attempt.started_ns
        failed = AttemptError(attempt.member.id, error.reason, error.message, error.http_status, duration_ns, excluded)
        attempt.end_trace("retry", error, now_ns)
        ticket.history = (*ticket.history, failed)
        ticket.attempt = None

    def _moves(self, ticket: Ticket, attempt: Attempt, error: BackendError, now_ns: int) -> bool:
        """Whether the next attempt goes to another backend, one that is open and that has not been excluded."""
        if not is_backends_fault(error) and error.reason is not Reason.BACKEND_RATE_LIMITED:
            return False
        excluded = (self._fleet.get(one.backend) for one in ticket.history if one.excluded)
        not_there = {attempt.member.number, *(member.number for member in excluded)}
        return self._scheduling.limits.open_elsewhere(ticket.model_number, not_there, now_ns)


def _counted(ticket: Ticket, attempt: Attempt) -> int:
    """How many attempts there were, of those allowed: none that was turned away or refused without being run."""
    return attempt.number - ticket.turned_away - ticket.refused


def _is_final(ticket: Ticket, attempt: Attempt) -> bool:
    """Whether nothing can come after an attempt: part of its answer has gone out, or its batch was cut short."""
    is_delivered = ticket.batch.options.stream_deltas and attempt.answer.shown
    return is_delivered or ticket.batch.stopped is not None


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
