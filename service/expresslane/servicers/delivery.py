"""The reader's side of a batch: waits for the outbox, gathers what is ready, keeps the connection alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expresslane.clock import Clock, monotonic_ns
from expresslane.servicers.encode import progress_event

if TYPE_CHECKING:
    from expresslane.batches.batch import Batch
    from expresslane.batches.outbox import Parcel
    from expresslane.scheduling import Scheduling
    from expresslane.v1 import inference_pb2

__all__ = ["Reader"]

LINGER_NS = 2_000_000


class Reader:
    """Takes parcels out of one batch's outbox.

    A message costs far more than a result in it, so a parcel right behind another waits up to 2 ms for company.
    """

    def __init__(self, batch: Batch, scheduling: Scheduling, *, clock: Clock = monotonic_ns) -> None:
        self._batch = batch
        self._scheduling = scheduling
        self._clock = clock
        self._last_ns = 0

    async def next(self) -> Parcel | None:
        """The next parcel, perhaps empty when the batch is over; None when a heartbeat is due."""
        batch = self._batch
        if not await batch.outbox.wait(batch.options.heartbeat_s):
            return None
        early_ns = self._last_ns + LINGER_NS - self._clock()
        if early_ns > 0 and not batch.outbox.closed:
            await asyncio.sleep(early_ns / 1e9)
        parcel = batch.outbox.take()
        self._last_ns = self._clock()
        self._scheduling.reader_moved(batch)
        return parcel

    @property
    def over(self) -> bool:
        """Whether everything has been taken and nothing more will come."""
        return self._batch.outbox.closed and self._batch.outbox.empty

    def progress(self) -> inference_pb2.Event:
        """How far the batch is."""
        batch = self._batch
        return progress_event(
            queued=batch.unfinished - batch.in_flight,
            in_flight=batch.in_flight,
            finished=batch.tally.finished,
            elapsed_ns=self._clock() - batch.accepted_ns,
        )
