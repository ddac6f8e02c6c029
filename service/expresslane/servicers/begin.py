"""How a call gets its batch: a new one that ends with it, a new one that is kept, or one that is kept already."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane.batches.call_cursor import CallCursor
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import RefusedError
from expresslane.servicers.delivery import Reader
from expresslane.servicers.payload import payload_digest
from expresslane.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.batches.summary import Summary
    from expresslane.intake import Intake
    from expresslane.kept_batches import KeptBatch, KeptBatches
    from expresslane.prompts import Prompt
    from expresslane.scheduling import Scheduling

__all__ = ["Beginnings", "Begun"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A call and its batch. `options` are the call's own; those of a batch it was attached to may differ."""

    batch: Batch
    options: BatchOptions
    kept: KeptBatch | None = None
    attached: bool = False

    @property
    def accepted(self) -> pb.Event:
        """The first event of the answer."""
        accepted = pb.Accepted(request_id=self.options.request_id, prompts=self.batch.total, attached=self.attached)
        return pb.Event(accepted=accepted)

    def summary(self) -> Summary:
        """What became of the batch, once everything is read."""
        return (self.kept and self.kept.summary) or self.batch.summary()

    def read_to_its_end(self) -> None:
        """The caller has everything, as far as can be known here."""
        if self.kept is not None:
            self.kept.spent = True


class Beginnings:
    """Opens batches for calls, and closes or keeps them when the call is over."""

    def __init__(self, intake: Intake, scheduling: Scheduling, kept: KeptBatches, clock: Clock = monotonic_ns) -> None:
        self._intake = intake
        self._scheduling = scheduling
        self._kept = kept
        self._clock = clock

    async def begin(
        self, prompts: Sequence[tuple[Prompt, int]], options: BatchOptions, method: str, *, named: bool
    ) -> Begun:
        """A batch for the call; `named`: the caller gave the request_id. Enter `reading` at once.

        Raises RefusedError (REQUEST_EXISTS, KEPT_FULL, and those of the intake).
        """
        if named and (options.keep_s or self._kept.find(options.tenant, options.request_id)):
            digest = await payload_digest(prompts, options)
            kept = self._kept.find(options.tenant, options.request_id)  # only now: others ran meanwhile
            if kept is not None:
                self._kept.attach(kept, digest)
                return Begun(kept.batch, options, kept, attached=True)
            if options.keep_s:
                kept = self._kept.create(options, prompts, digest, method=method)
                return Begun(kept.batch, options, kept)
        batch = self._intake.open(options, method=method, prompts=len(prompts))
        try:
            self._intake.accept(batch, prompts)
        except RefusedError:
            self._intake.close(batch)
            raise
        return Begun(batch, options)

    @contextmanager
    def reading(self, begun: Begun) -> Iterator[Reader]:
        """The reader of the call. In the end a batch that is not kept is closed: what is unfinished is cancelled."""
        options = begun.options
        if begun.kept is None:
            try:
                yield Reader(begun.batch, self._scheduling, clock=self._clock)
            finally:
                self._intake.close(begun.batch)
                begun.batch.outbox.leave()
            return
        with self._kept.attached(begun.kept):
            cursor = CallCursor(begun.kept.log, in_order=options.reorder_window > 0, deltas=options.stream_deltas)
            heartbeat_s = options.heartbeat_s
            yield Reader(begun.batch, self._scheduling, source=cursor, heartbeat_s=heartbeat_s, clock=self._clock)
