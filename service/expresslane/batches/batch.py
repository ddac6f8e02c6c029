"""A batch: the prompts of one call, what to do when one fails, and the way of their results to the caller."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane.batches.held import Held
from expresslane.batches.outbox import Outbox
from expresslane.batches.summary import BatchState, Summary, Tally
from expresslane.errors import Reason
from expresslane.results import MAX_RESULT_BYTES, Outcome, Result

if TYPE_CHECKING:
    from expresslane.rate_limits import Limit
    from expresslane.telemetry.spans import BatchTrace
    from expresslane.tenants import Tenant

__all__ = ["Batch", "BatchOptions"]

_ids = itertools.count(1)
JUDGED_FROM = 20
"""Results that an open batch must have before its failure rate says anything: one of the first two is not a half."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How to run a batch; zero means "no such limit" (`reorder_window` 0: results as they complete).

    `arrived_ns`: when its call came, before it was decoded and checked. `queue_limit_bytes`: the prompts of all batches
    together that are waiting or running. `keep_s`: how long a kept batch stays without a reader; 0: it is not kept.
    """

    request_id: str
    tenant: str = "default"
    keep_s: float = 0.0
    fail_fast: bool = False
    max_failure_rate: float = 0.0
    stream_deltas: bool = False
    reorder_window: int = 0
    outbox_limit: int = 1_024
    outbox_limit_bytes: int = 64 * 1024 * 1024
    result_limit_bytes: int = MAX_RESULT_BYTES
    queue_limit_bytes: int = 1024 * 1024 * 1024
    heartbeat_s: float = 15.0
    deadline_ns: int = 0
    arrived_ns: int | None = None


class Batch:
    """One batch. Counts what it was given and what has ended, and knows when it is over.

    `open`: more prompts may come (a session). `accepted_ns` is monotonic. `outbox`: where results go, unless it is one
    made by the options. `models`: the core's numbers of the models that prompts were accepted for. `limits`: the last
    one of each kind that its prompts waited for.
    """

    def __init__(
        self,
        options: BatchOptions,
        accepted_ns: int,
        trace: BatchTrace,
        tenant: Tenant,
        *,
        is_open: bool = False,
        held: Held | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self.id = next(_ids)
        self.options = options
        self.accepted_ns = accepted_ns
        self.trace = trace
        self.tenant = tenant
        self.outbox = outbox or Outbox(
            window=options.reorder_window,
            limit=options.outbox_limit,
            limit_bytes=options.outbox_limit_bytes,
            unread=tenant.unread,
        )
        self.held = held or Held()
        self.tally = Tally()
        self.total = 0
        self.open = is_open
        self.in_flight = 0
        self.horizon: int | None = None
        self.models: set[int] = set()
        self.limits: dict[tuple[str, str, str], Limit] = {}
        self.stopped: BatchState | None = None
        self.last_ns = accepted_ns
        self.cancel_reason = (Reason.CANCELLED, "cancelled by the caller")

    @property
    def unfinished(self) -> int:
        """Prompts without a result."""
        return self.total - self.tally.finished

    def expect(self, count: int) -> int:
        """Take `count` more prompts in; returns the index of the first."""
        first = self.total
        self.total += count
        return first

    def end_input(self) -> bool:
        """No more prompts will come. Returns True when, by that, too much has failed: then cancel what is left."""
        self.open = False
        self._close_if_over()
        return self.stopped is None and self._failed_too_much()

    def complete(self, result: Result, now_ns: int) -> bool:
        """Deliver a prompt's one result. Returns True when the batch must now cancel what is left."""
        self.tally.add(result, now_ns - self.accepted_ns)
        self.last_ns = now_ns
        if result.prompt_bytes:  # else it was never queued
            self.held.give_back(self.tenant.name, result.prompt_bytes)
        self.outbox.put(result)
        self._close_if_over()
        return self.stopped is None and self._failed_too_much()

    def note_limit(self, limit: Limit) -> None:
        """Prompts of this batch wait for a limit; its readers are woken to be told."""
        key = (limit.kind, limit.backend, limit.tenant)
        if self.limits.get(key) != limit:
            self.limits[key] = limit
            self.outbox.nudge()

    def stop(self, state: BatchState) -> None:
        """Take nothing more in, and remember why the batch was cut short; the first reason counts."""
        self.open = False
        if self.stopped is None:
            self.stopped = state

    def summary(self) -> Summary:
        """What has become of the batch so far."""
        state = self.stopped or BatchState.COMPLETED
        return self.tally.summary(self.options.request_id, state, self.total, self.last_ns - self.accepted_ns)

    def _failed_too_much(self) -> bool:
        failures = self.tally.outcomes[Outcome.FAILED] + self.tally.outcomes[Outcome.EXPIRED]
        if not failures:
            return False
        limit = self.options.max_failure_rate
        known = not self.open or self.tally.finished >= JUDGED_FROM
        return self.options.fail_fast or (limit > 0 and known and failures > limit * self.total)

    def _close_if_over(self) -> None:
        if not self.open and not self.unfinished:
            self.outbox.close()
