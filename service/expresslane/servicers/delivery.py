"""The reader's side of a batch: waits for the outbox, gathers what is ready, keeps the connection alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expresslane.clock import Clock, monotonic_ns
from expresslane.servicers.encode import limited_event, progress_event

if TYPE_CHECKING:
    from expresslane.batches.batch import Batch
    from expresslane.batches.log import Cursor
    from expresslane.batches.outbox import Parcel
    from expresslane.rate_limits import Limit
    from expresslane.scheduling import Scheduling
    from expresslane.v1 import inference_pb2

__all__ = ["Reader", "progress_of"]

LINGER_NS = 2_000_000


class Reader:
    """Takes parcels out of one batch's outbox, or out of `source` in its place.

    A message costs far more than a result in it, so a parcel right behind another waits up to 2 ms for company.
    """

    def __init__(
        self,
        batch: Batch,
        scheduling: Scheduling,
        *,
        source: Cursor | None = None,
        heartbeat_s: float = 0.0,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._batch = batch
        self._source = source or batch.outbox
        self._heartbeat_s = heartbeat_s or batch.options.heartbeat_s
        self._scheduling = scheduling
        self._clock = clock
        self._last_ns = 0
        self._told: dict[tuple[str, str, str], Limit] = {}

    async def next(self) -> Parcel | None:
        """The next parcel, perhaps empty when the batch is over; None when a heartbeat is due.

        Ask when the last one is written: until then it counts as unread.
        """
        self._source.written()
        self._scheduling.reader_moved(self._batch)
        if not await self._source.wait(self._heartbeat_s):
            return None
        early_ns = self._last_ns + LINGER_NS - self._clock()
        if early_ns > 0 and not self._source.closed:
            await asyncio.sleep(early_ns / 1e9)
        parcel = self._source.take()
        self._last_ns = self._clock()
        self._scheduling.reader_moved(self._batch)
        return parcel

    def news(self) -> list[inference_pb2.Event]:
        """The limits that the batch's prompts have begun to wait for since the last call."""
        now = self._clock()
        fresh = {key: limit for key, limit in self._batch.limits.items() if self._told.get(key) != limit}
        self._told |= fresh
        return [limited_event(limit, now) for limit in fresh.values() if limit.reset_ns > now]

    @property
    def over(self) -> bool:
        """Whether everything has been taken and nothing more will come."""
        return self._source.closed and self._source.empty

    def progress(self) -> inference_pb2.Event:
        """How far the batch is."""
        return progress_of(self._batch, self._clock())


def progress_of(batch: Batch, now_ns: int) -> inference_pb2.Event:
    """How far a batch is, as an event."""
    return progress_event(
        queued=batch.unfinished - batch.in_flight,
        in_flight=batch.in_flight,
        finished=batch.tally.finished,
        elapsed_ns=now_ns - batch.accepted_ns,
    )
