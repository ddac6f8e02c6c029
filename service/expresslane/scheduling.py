"""The asyncio driver of the Rust core: one timer, tickets by number; nobody else calls the core."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from expresslane import _scheduler
from expresslane.batches.summary import BatchState
from expresslane.clock import Clock, monotonic_ns
from expresslane.core_settings import put_backend, put_policy, put_tenant_limits
from expresslane.core_words import Entry, prompt_of, refused, used
from expresslane.end_rate import FirstEnds
from expresslane.errors import PromptError, Reason, RefusedError
from expresslane.expiry import Expiry
from expresslane.no_backend import Serving
from expresslane.open_backends import OpenBackends
from expresslane.policies import Scope
from expresslane.rate_limits import PAUSE, Limit, RateLimits
from expresslane.results import Outcome, Result
from expresslane.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from expresslane._scheduler import Limited, Snapshot, TenantLimitSnapshot, TenantSnapshot
    from expresslane.backends.rate_headers import Told
    from expresslane.batches.batch import Batch
    from expresslane.batches.ticket import Ticket
    from expresslane.fleet import Member
    from expresslane.tenants import Tenant

__all__ = ["QUEUED", "Releaser", "Scheduling"]

log = structlog.get_logger(__name__)

QUEUED = "queued"
"""The answer to a retry that will be."""


class Releaser(Protocol):
    """Carries out what the core decides about tickets in flight."""

    def release(self, ticket: Ticket, backend: int, attempt_number: int) -> None:
        """Start an attempt, by its number from 1, at a backend."""

    def overdue(self, ticket: Ticket, reason: str) -> None:
        """A deadline of the running attempt has passed."""

    def abort(self, ticket: Ticket) -> None:
        """Cancel the running attempt."""


class Scheduling:
    """Drives the core: passes events in, carries decisions out, keeps the one timer. Lives on one event loop.

    A ticket that the core ends is completed here, exactly once, into its batch.
    """

    def __init__(
        self,
        core: _scheduler.Scheduler,
        *,
        queue_timeout_s: float,
        backend_name: Callable[[int], str] = str,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._core = core
        self._backend_name = backend_name
        self.limits = RateLimits()
        self.policies: dict[Scope, str] = {}
        self._clock = clock
        self._queue_timeout_ns = int(queue_timeout_s * 1e9)
        self._tickets: dict[int, Ticket] = {}
        self._batches: dict[int, Batch] = {}
        self.serving = Serving()
        self.backends = OpenBackends(self.serving, self.limits, core.tripped_breakers)
        self._releaser: Releaser | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._pump_due = False
        self._ending_sessions = False
        self._first_ends = FirstEnds()
        self.room = Room()
        """Who waits for room is called after each poll: that is when prompts have been released or have ended."""
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    def start(self, releaser: Releaser) -> None:
        """Attach to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._releaser = releaser

    def stop(self) -> None:
        """Forget the timer; nothing is released any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._releaser = None

    def apply(self, member: Member, models: Sequence[tuple[int, int]]) -> None:
        """Tell the core what a backend is now. Raises RefusedError (INVALID_FIELD), and nothing has changed."""
        put_backend(self._core, self._clock(), member, models)
        self.serving.note(member, (model for model, _ in models))
        served = [model for model, _ in models] if member.available else []
        self.limits.describe(member.number, served, (member.requests_per_min, member.tokens_per_min))
        self._wake()

    def limit_tenant(self, tenant: Tenant) -> None:
        """Put a tenant's limits in force. Raises RefusedError (INVALID_FIELD), and nothing has changed."""
        put_tenant_limits(self._core, self._clock(), tenant)
        self._wake()

    def pause(self, backend: int, model: int, now_ns: int, until_ns: int) -> None:
        """Release nothing of one model to a backend before `until_ns`; a time that is past changes nothing."""
        if until_ns <= now_ns:
            return
        self._core.pause(now_ns, backend, until_ns=until_ns, model=model)
        self.limits.pause(backend, model, Limit(PAUSE, until_ns, backend=self._backend_name(backend)), now_ns)
        self._wake()

    def avoid(self, backend: int, model: int, now_ns: int, until_ns: int, kind: str) -> None:
        """Release prompts of a model to a backend that refuses it, or the key (`kind`), only as their last resort."""
        self._core.avoid(now_ns, backend, model=model, until_ns=until_ns)
        limit = Limit(kind, until_ns, backend=self._backend_name(backend))
        if self.limits.avoid(backend, model, limit, now_ns):
            self._tell_limits(now_ns)
        self._wake()

    def answered(self, ticket: Ticket, backend: int, started_ns: int, now_ns: int) -> None:
        """A backend has answered a prompt: it does not refuse its model, as far as that prompt can tell."""
        if self.limits.answered(backend, ticket.model_number, started_ns, raw=ticket.prompt.raw):
            self._core.avoid(now_ns, backend, model=ticket.model_number, until_ns=now_ns)
            self._wake()

    def set_policy(self, scope: Scope, policy: str | None, model: int | None = None) -> None:
        """Order what waits and what comes in a scope by a policy; None: by what holds around it. No ticket is lost.

        `model`: the core's number of the scope's model. Raises RefusedError (INVALID_FIELD).
        """
        put_policy(self._core, self._clock(), scope, policy, model)
        self.policies.pop(scope, None)
        if policy is not None and scope != Scope():
            self.policies[scope] = policy
        self._wake()

    def submit(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Queue all prompts of a batch or none.

        Raises RefusedError (QUEUE_FULL, BATCH_TOO_LARGE, ABOVE_RATE_LIMIT).
        """
        if not entries:
            return
        now = self._clock()
        prompts = [prompt_of(entry) for entry in entries]
        batch.horizon = batch.outbox.horizon()
        if batch.horizon is not None:
            self._core.hold_batch(now, batch.id, batch.horizon)
        try:
            numbers = self._core.submit(
                now,
                batch.id,
                prompts,
                queue_timeout_ns=self._queue_timeout_ns,
                deadline_ns=batch.options.deadline_ns,
                tenant=batch.tenant.number,
                weight=batch.tenant.weight,
                may_wait=batch.open,
            )
        except _scheduler.SchedulerError as error:
            if batch.id not in self._batches:
                self._core.release_batch(now, batch.id)
            raise self._delayed(refused(error), now, len(prompts)) from None
        self._first_ends.began(now)
        for entry, number in zip(entries, numbers, strict=True):
            ticket = entry.ticket
            ticket.id = number
            ticket.model_number = entry.model.number
            ticket.submitted_ns = ticket.queued_ns = now
            ticket.trace = batch.trace.start_prompt(
                ticket.prompt.custom_id, ticket.index, ticket.prompt.model, now, ticket.prompt.prompt_class
            )
            self._tickets[number] = ticket
        batch.models.update(entry.model.number for entry in entries)
        self._batches[batch.id] = batch
        self._idle.clear()
        self._wake()

    def queue_room(self) -> int:
        """How many more prompts may wait now."""
        return self._core.queue_room()

    def tell_limits(self, batch: Batch) -> None:
        """Note on a batch what its prompts have to wait for from the start."""
        self.limits.tell(batch, self._clock())

    def refuse(self, prompts: int, places: int) -> int:
        """Count prompts that never get here; returns the nanoseconds until `places` others will have ended."""
        now = self._clock()
        hint_ns = self._core.refuse(now, prompts, min(places, 2**32 - 1))
        return self._first_ends.retry_after_ns(now, hint_ns, places, self._in_flight)

    def _delayed(self, error: Exception, now_ns: int, prompts: int) -> Exception:
        """What the core says of prompts that it did not take, with a delay that fits while it has measured none."""
        if isinstance(error, RefusedError) and error.retry_after_ns is not None:
            missing = max(1, prompts - self._core.queue_room())
            hint_ns = error.retry_after_ns
            error.retry_after_ns = self._first_ends.retry_after_ns(now_ns, hint_ns, missing, self._in_flight)
        return error

    def _in_flight(self) -> int:
        return self._core.snapshot().in_flight

    def first_token(self, ticket: Ticket, now_ns: int) -> None:
        """The first token of the running attempt has come."""
        self._core.first_token(now_ns, ticket.id)
        own = ticket.prompt.options.deadlines.idle_ns
        if own:
            self._core.rearm(now_ns, ticket.id, "idle", now_ns + own)
        self._wake()

    def rearm(self, ticket: Ticket, reason: str, at_ns: int) -> None:
        """Move one deadline of the running attempt."""
        self._core.rearm(self._clock(), ticket.id, reason, at_ns)
        self._wake()

    def blame(self, ticket: Ticket, now_ns: int) -> None:
        """What has just ended the running attempt speaks against its backend."""
        self._core.blame(now_ns, ticket.id)

    def turned_away(self, ticket: Ticket, backend: int, now_ns: int, until_ns: int) -> None:
        """A backend's rate limit has just ended the running attempt; it is left alone for the model until a time."""
        self._core.turned_away(now_ns, ticket.id)
        self.pause(backend, ticket.model_number, now_ns, until_ns)

    def told(self, ticket: Ticket, backend: int, left: Told) -> None:
        """The answer to a running attempt says what its backend has left of its own limits."""
        now = self._clock()
        requests, tokens = (
            one and (one.amount, one.limit, now + int(one.reset_s * 1e9)) for one in (left.requests, left.tokens)
        )
        closed = self._core.told(now, ticket.id, requests=requests, tokens=tokens)
        limit = Limit(*closed, backend=self._backend_name(backend)) if closed is not None else None
        self.limits.spent(backend, ticket.model_number, limit)
        self._wake()

    def not_run(self, ticket: Ticket, now_ns: int) -> None:
        """The backend of the running attempt has run nothing of it: a move costs no retry budget."""
        self._core.not_run(now_ns, ticket.id)

    def move_on(self, ticket: Ticket, now_ns: int) -> None:
        """The next attempt goes to another backend, as long as one is open."""
        self._core.move_on(now_ns, ticket.id)

    def retry(self, ticket: Ticket, now_ns: int, delay_ns: int, *, exclude_backend: bool, asked: bool = False) -> str:
        """Put the ticket back in the queue, off-slot. `asked`: the backend wants the delay, it is no time in the queue.

        Returns QUEUED, or why that makes no sense, as `_scheduler` says it: then end it with `finish`.
        """
        answer = self._core.retry(
            now_ns, ticket.id, not_before_ns=now_ns + delay_ns, exclude_backend=exclude_backend, asked=asked
        )
        if answer == QUEUED:
            ticket.batch.in_flight -= 1
            ticket.queued_ns = now_ns
            self._wake()
        return answer

    def finish(self, ticket: Ticket, result: Result, now_ns: int) -> None:
        """The running attempt was the last, and the ticket ends with this result."""
        self._core.finish(now_ns, ticket.id, result.outcome, usage=used(result))
        ticket.batch.in_flight -= 1
        self._complete(ticket, result, now_ns)
        self._wake()

    def complete_unqueued(self, batch: Batch, result: Result) -> None:
        """Deliver the result of a prompt that never became a ticket."""
        if batch.complete(result, self._clock()):
            self._fail_fast(batch)
        self._end_session(batch)
        self.reader_moved(batch)

    def end_input(self, batch: Batch) -> None:
        """No more prompts will come into a session; what has failed by now may be too much of it."""
        if batch.end_input():
            self._fail_fast(batch)

    def cancel(self, ticket: Ticket) -> None:
        """Cancel one ticket: at once when it waits, by aborting its attempt when it runs."""
        self._cancelled(self._core.cancel(self._clock(), ticket.id), Reason.CANCELLED, "cancelled by the caller")

    def refuse_models(self, errors: Mapping[str, PromptError]) -> None:
        """Fail what waits for a model that nobody serves after all: name -> error. The core counts it as cancelled."""
        now = self._clock()
        for ticket in [ticket for ticket in self._tickets.values() if ticket.prompt.model in errors]:
            if ticket.id in self._tickets:  # a FAIL_FAST batch may have ended it meanwhile
                self._core.cancel(now, ticket.id)
                error = errors[ticket.prompt.model]
                self._complete(ticket, ticket.result(Outcome.FAILED, now, error), now)
        self._wake()

    def cancel_batch(self, batch: Batch, state: BatchState, reason: Reason, message: str) -> None:
        """Cancel what is left of a batch."""
        batch.stop(state)
        batch.cancel_reason = (reason, message)
        self._cancelled(self._core.cancel_batch(self._clock(), batch.id), reason, message)

    def reader_moved(self, batch: Batch) -> None:
        """The reader took something or fell behind: tell the core if the batch's horizon changed."""
        if batch.id not in self._batches:
            return
        horizon = batch.outbox.horizon()
        if horizon == batch.horizon:
            return
        batch.horizon = horizon
        now = self._clock()
        if horizon is None:
            self._core.release_batch(now, batch.id)
        else:
            self._core.hold_batch(now, batch.id, horizon)
        self._wake()

    def readers_moved(self, tenant: Tenant | None) -> None:
        """What waits for the readers of a tenant, or of all, has filled its bound or has room again."""
        for batch in list(self._batches.values()):
            if tenant is None or batch.tenant is tenant:
                self.reader_moved(batch)

    def snapshot(self) -> Snapshot:
        """A consistent copy of the core's counters."""
        return self._core.snapshot()

    def tenant_limits(self) -> Sequence[TenantLimitSnapshot]:
        """Limits and retry budgets of tenants that have any, by number."""
        return self._core.tenant_limits()

    def tenants(self) -> Sequence[TenantSnapshot]:
        """What each tenant has and had, by class and number."""
        return self._core.tenants()

    @property
    def open_batches(self) -> Sequence[Batch]:
        """Batches with unfinished prompts."""
        return list(self._batches.values())

    @property
    def unfinished(self) -> int:
        """How many tickets are."""
        return len(self._tickets)

    async def idle(self) -> None:
        """Return once no ticket is left."""
        await self._idle.wait()

    def end_sessions(self, batches: Iterable[Batch]) -> None:
        """End each open session, those of `batches` and later ones, once nothing of it is unfinished."""
        self._ending_sessions = True
        for batch in batches:
            self._end_session(batch)

    def _end_session(self, batch: Batch) -> None:
        if self._ending_sessions and batch.open and not batch.unfinished:
            batch.stop(BatchState.CANCELLED)
            batch.end_input()

    def _cancelled(self, cancelled: _scheduler.CancelResult, reason: Reason, message: str) -> None:
        now = self._clock()
        for number in cancelled.removed:
            ticket = self._tickets[number]
            error = PromptError.cancelled(reason, message)
            self._complete(ticket, ticket.result(Outcome.CANCELLED, now, error), now)
        if self._releaser is not None:
            for number in cancelled.in_flight:
                self._releaser.abort(self._tickets[number])
        self._wake()

    def _complete(self, ticket: Ticket, result: Result, now_ns: int) -> None:
        del self._tickets[ticket.id]
        batch = ticket.batch
        if ticket.trace is not None:
            if not ticket.attempt:
                ticket.trace.queued(ticket.queued_ns, now_ns)
            ticket.trace.end(result, now_ns, ticket.prompt)
        ticket.attempt = None
        must_cancel = batch.complete(result, now_ns)
        if not batch.unfinished:
            self._batches.pop(batch.id, None)
            self._end_session(batch)
            if not self._tickets:
                self._idle.set()
        self._first_ends.ended(idle=not self._tickets)
        self.reader_moved(batch)
        if must_cancel:
            self._fail_fast(batch)

    def _fail_fast(self, batch: Batch) -> None:
        batch.end_input()
        self.cancel_batch(batch, BatchState.FAILED_FAST, Reason.BATCH_FAILED, "other prompts of the batch failed")

    def _wake(self) -> None:
        """Poll once, soon: events of one loop turn are decided on together."""
        if not self._pump_due and self._loop is not None:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        releaser = self._releaser
        if releaser is None:
            return
        now = self._clock()
        decisions = self._core.poll(now)
        defects: list[Ticket] = []
        for number, backend, attempt in zip(*decisions.dispatches, strict=True):
            ticket = self._tickets[number]
            ticket.batch.in_flight += 1
            self.limits.opened(backend, ticket.model_number)
            try:
                releaser.release(ticket, backend, attempt)
            except Exception:
                log.exception("defect at release", backend=backend)
                ticket.attempt = None
                defects.append(ticket)
        for ticket in defects:  # only now: a failure may abort others of its batch, which must have been started
            error = PromptError(Reason.INTERNAL, "a defect of the service; its log has the details")
            self.finish(ticket, ticket.result(Outcome.FAILED, now, error), now)
        self._expire(decisions.expired, now)
        for number, reason in decisions.overdue:
            self._overdue(self._tickets.get(number), reason, releaser)
        if decisions.limited:
            self._limited(decisions.limited, now)
        self._arm(now)
        self.room.freed()

    def _expire(self, expiring: Sequence[tuple[int, str]], now_ns: int) -> None:
        is_without = any(why == "no_backend" for _, why in expiring)
        tripped = self._core.tripped_breakers() if is_without else {}
        expiry = Expiry(self.limits, self.serving, tripped, now_ns)
        for number, why in expiring:
            ticket = self._tickets[number]
            if why == "batch":
                ticket.batch.stop(BatchState.PARTIAL_DEADLINE)
            error = expiry.error(ticket, why)
            ticket.attempt = None
            self._complete(ticket, ticket.result(Outcome.EXPIRED, now_ns, error), now_ns)

    @staticmethod
    def _overdue(ticket: Ticket | None, reason: str, releaser: Releaser) -> None:
        if ticket is not None:
            if reason == "batch":
                ticket.batch.stop(BatchState.PARTIAL_DEADLINE)
            releaser.overdue(ticket, reason)

    def _limited(self, limited: Sequence[Limited], now_ns: int) -> None:
        tenants = {batch.tenant.number: batch.tenant for batch in self._batches.values()}
        for one in limited:
            if one.backend is not None:
                limit = Limit(one.limit, one.reset_at_ns, backend=self._backend_name(one.backend))
                self.limits.closed(one.backend, limit, now_ns, one.model)
            elif one.tenant in tenants:
                tenant = tenants[one.tenant]
                tenant.limited(Limit(one.limit, one.reset_at_ns, tenant=tenant.name), now_ns)
        self._tell_limits(now_ns)

    def _tell_limits(self, now_ns: int) -> None:
        for batch in self._batches.values():
            self.limits.tell(batch, now_ns)

    def _arm(self, now_ns: int) -> None:
        """One timer, for the next deadline; one that is armed too early fires in vain and is cheaper than re-arming."""
        deadline = self._core.next_deadline()
        if deadline is None or self._loop is None:
            return
        if self._timer is not None:
            if self._timer_ns <= deadline and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer_ns = deadline
        self._timer = self._loop.call_later(max(0, deadline - now_ns) / 1e9, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._pump()
