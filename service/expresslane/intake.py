"""Intake: turns checked prompts into tickets of a batch, all queued or none, and refuses when it must."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING

from expresslane.batches.batch import Batch, BatchOptions
from expresslane.batches.held import Amount, Bounds, Held
from expresslane.batches.summary import BatchState
from expresslane.batches.ticket import Ticket
from expresslane.clock import Clock, monotonic_ns
from expresslane.core_words import Entry
from expresslane.end_rate import EndRate
from expresslane.errors import DRAIN_RETRY_NS, PromptError, Reason, RefusedError
from expresslane.models import ModelRegistry, UnknownModelError
from expresslane.refused import Refused
from expresslane.results import Outcome, Result, Timings
from expresslane.telemetry import names
from expresslane.tenants import Tenants
from expresslane.token_estimates import TokenEstimates
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from expresslane.batches.outbox import Outbox
    from expresslane.prompts import Prompt
    from expresslane.scheduling import Scheduling
    from expresslane.telemetry.spans import Tracer
    from expresslane.tenants import Tenant

__all__ = ["Intake"]


class Intake:
    """The one door into the service, for every RPC. Counts the open batches and closes when the service drains."""

    def __init__(
        self,
        scheduling: Scheduling,
        registry: ModelRegistry,
        tracer: Tracer,
        *,
        max_open_batches: int,
        may_use: Callable[..., bool] = lambda *_: True,
        tenants: Tenants | None = None,
        estimates: TokenEstimates | None = None,
        refused: Refused | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self.tenants = tenants or Tenants()
        self.estimates = estimates or TokenEstimates()
        self.refused = refused or Refused()
        self._scheduling = scheduling
        self._registry = registry
        self._tracer = tracer
        self._max_open = max_open_batches
        self._may_use = may_use
        self._clock = clock
        self._open: set[Batch] = set()
        self._rate = EndRate(clock)
        self._held = Held()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self.room = scheduling.room
        self.draining = False

    @property
    def open_batches(self) -> int:
        """Batches of calls and of running jobs."""
        return len(self._open)

    def open(
        self, options: BatchOptions, *, method: str, prompts: int, is_open: bool = False, outbox: Outbox | None = None
    ) -> Batch:
        """Begin a batch. Every batch that was opened must be closed.

        Raises RefusedError (DRAINING, QUEUE_FULL; UNREAD_FULL where the tenant does not read what it has).
        """
        if self.draining:
            message = "the service is draining; send the batch elsewhere"
            raise RefusedError(Reason.DRAINING, message, retry_after_ns=DRAIN_RETRY_NS)
        if len(self._open) >= self._max_open:
            message = (
                f"{self._max_open:,} calls and jobs are open, the most this service serves at once "
                "(EXPRESSLANE_MAX_OPEN_BATCHES)"
            )
            raise RefusedError(Reason.QUEUE_FULL, message, retry_after_ns=self._rate.retry_after_ns())
        if outbox is None:
            self._check_unread(self.tenants.find(options.tenant))
        trace = self._tracer.start_batch(
            request_id=options.request_id, prompts=prompts, method=method, arrived_ns=options.arrived_ns
        )
        tenant = self.tenants.enter(options.tenant)
        batch = Batch(options, self._clock(), trace, tenant, is_open=is_open, held=self._held, outbox=outbox)
        self._open.add(batch)
        self._none_open.clear()
        return batch

    def accept(self, batch: Batch, prompts: Sequence[tuple[Prompt, int]]) -> list[Ticket]:
        """Queue (prompt, size in bytes) pairs, all or none; those whose model cannot be had fail at once, in-band.

        Returns the queued tickets, none when the batch has been cut short: it takes nothing more in. Raises
        RefusedError (QUEUE_FULL only where room would help: NO_BACKEND where no backend is open).
        """
        if batch.stopped is not None:
            return []
        if self.draining:
            raise RefusedError(Reason.DRAINING, "the service is draining", retry_after_ns=DRAIN_RETRY_NS)
        first = batch.total
        entries: list[Entry] = []
        failures: list[tuple[int, str, PromptError]] = []
        taken_bytes = 0
        may_use = partial(self._may_use, batch.options.tenant)
        for index, (prompt, size_bytes) in enumerate(prompts, first):
            try:
                model = self._registry.resolve(prompt.model, may_use)
            except UnknownModelError as unknown:
                failures.append((index, prompt.custom_id, unknown.error))
                continue
            named = prompt if prompt.model == model.name else prompt.with_model(model.name)
            read_bytes = size_bytes - prompt.options.other_bytes
            tokens = self.estimates.input_tokens(model.number, read_bytes, model.bytes_per_token)
            output_tokens = self.estimates.output_tokens(model.number, prompt.options.sampling.max_tokens)
            held_bytes = max(1, size_bytes)
            ticket = Ticket(named, batch, index, tokens, held_bytes)
            taken_bytes += held_bytes
            entries.append(Entry(ticket, model, output_tokens))
        try:
            self._check_room(batch, Amount(len(entries), taken_bytes))
            self._scheduling.submit(batch, entries)
        except RefusedError as refusal:
            # A session waits for room: it is told of each prompt in-band.
            if refusal.reason is not Reason.QUEUE_FULL or batch.open:
                raise
            models = {entry.model.number: entry.model.name for entry in entries}
            raise self._scheduling.backends.none_open(models, self._clock()) or refusal from None
        if entries:
            self._held.take(batch.tenant.name, len(entries), taken_bytes)
        if batch.options.arrived_ns is not None and not batch.open:
            batch.trace.stage(names.SPAN_INGEST, batch.options.arrived_ns, self._clock())
        batch.expect(len(prompts))
        self._scheduling.tell_limits(batch)
        for index, custom_id, error in failures:
            self._refuse(batch, _failure(custom_id, index, error), error.reason)
        return [entry.ticket for entry in entries]

    def _refuse(self, batch: Batch, result: Result, reason: Reason) -> None:
        """End a prompt in-band that is never queued."""
        self.refused.prompt(reason)
        self._scheduling.complete_unqueued(batch, result)

    def _check_unread(self, tenant: Tenant) -> None:
        """Nothing more for a tenant that does not read what it has; others are not kept out by it."""
        unread = tenant.unread
        if not (unread.full or unread.over_share):
            return
        full, whose, variable = (
            (unread, "of this tenant", partial(self.tenants.variable_of, tenant.name))
            if unread.full
            else (self.tenants.unread, "of all tenants, many of them this one's,", environment_name)
        )
        limit = full.bounds.count if full.fullest == "results" else full.bounds.bytes
        setting = variable(f"unread_limit_{full.fullest}")
        message = (
            f"{full.results:,} results of {full.bytes:,} bytes {whose} wait for slow readers, the bound is {limit:,} "
            f"{full.fullest} ({setting}); read what other calls have brought"
        )
        raise RefusedError(Reason.UNREAD_FULL, message, retry_after_ns=full.retry_after_ns())

    def _check_room(self, batch: Batch, more: Amount) -> None:
        """The bounds that the core does not know: bytes, and what one tenant may have."""
        bounds = Bounds(bytes=batch.options.queue_limit_bytes)
        name = batch.tenant.name
        own = partial(self.tenants.variable_of, name)
        shortage = self._held.shortage(name, more, bounds, batch.tenant.queue_bounds, own)
        if shortage is None:
            return
        retry_after_ns = self._scheduling.refuse(more.count, shortage.places or 0)
        if shortage.places is None:
            advice = "; send them through StreamPrompts" if more.count > 1 else ""
            raise RefusedError(Reason.BATCH_TOO_LARGE, shortage.message + advice)
        raise RefusedError(Reason.QUEUE_FULL, shortage.message, retry_after_ns=retry_after_ns)

    def fitting(self, batch: Batch, sizes_bytes: Iterable[int]) -> int:
        """How many prompts of these sizes, from the first on, fit into a batch now; one that never will counts."""
        bounds = Bounds(self._held.total.count + self._scheduling.queue_room(), batch.options.queue_limit_bytes)
        sizes_bytes = (max(1, size_bytes) for size_bytes in sizes_bytes)
        return self._held.fitting(batch.tenant.name, sizes_bytes, bounds, batch.tenant.queue_bounds)

    def reject(self, batch: Batch, custom_id: str, error: PromptError, outcome: Outcome = Outcome.FAILED) -> None:
        """Take a prompt of a session in only to end it, in-band, unless the batch has been cut short."""
        if batch.stopped is None:
            result = _failure(custom_id, batch.expect(1), error, outcome)
            if outcome is Outcome.FAILED:
                self._refuse(batch, result, error.reason)
            else:
                self._scheduling.complete_unqueued(batch, result)

    def close(self, batch: Batch) -> None:
        """The call is over: whatever is unfinished is cancelled."""
        if batch.unfinished or batch.open:
            self._end(batch, Reason.CANCELLED, "the caller went away")
        state = batch.stopped or BatchState.COMPLETED
        batch.trace.stage(names.SPAN_DELIVER, batch.last_ns, self._clock())
        counts = {outcome.value: count for outcome, count in batch.tally.outcomes.items() if count}
        batch.trace.end(state.name, counts, state is BatchState.CANCELLED)
        if batch in self._open:
            self._open.discard(batch)
            self._rate.ended()
            self.tenants.leave(batch.tenant)
        if not self._open:
            self._none_open.set()

    def drain(self) -> None:
        """Accept nothing more. Each session is ended in-band as soon as nothing of it is unfinished."""
        self.draining = True
        self._scheduling.end_sessions(self._open)

    async def idle(self) -> None:
        """Return once every batch has been delivered to its end, or its caller has gone."""
        await self._none_open.wait()

    def cancel(self, batch: Batch) -> None:
        """Cancel whatever is unfinished, as the caller wants it."""
        self._end(batch, Reason.CANCELLED, "cancelled by the caller")

    def stop_all(self, message: str) -> None:
        """Cancel every open batch that is not over: their callers are told in-band."""
        for batch in list(self._open):
            if batch.unfinished or batch.open:
                self._end(batch, Reason.DRAINING, message)

    def _end(self, batch: Batch, reason: Reason, message: str) -> None:
        self._scheduling.cancel_batch(batch, BatchState.CANCELLED, reason, message)
        batch.end_input()

    @staticmethod
    def request_id(given: str) -> str:
        """The caller's request id, or a new one."""
        return given or uuid.uuid4().hex


def _failure(custom_id: str, index: int, error: PromptError, outcome: Outcome = Outcome.FAILED) -> Result:
    return Result(custom_id, index, outcome, Timings(), error=error)
