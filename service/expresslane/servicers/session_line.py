"""A session's prompts on their way into the queue: in their order, those at fault too, held back while it is full."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import structlog

from expresslane.errors import PromptError, Reason, RefusedError
from expresslane.results import Outcome
from expresslane.servicers.decode import MAX_ID_BYTES, PromptDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expresslane.batches.batch import Batch
    from expresslane.batches.ticket import Ticket
    from expresslane.intake import Intake
    from expresslane.prompts import Prompt
    from expresslane.results import Result
    from expresslane.room import Admit
    from expresslane.scheduling import Scheduling
    from expresslane.v1 import types_pb2

__all__ = ["SessionLine"]

HELD_BACK_BYTES = 1024 * 1024
"""With more than this held back a session is not read on: no bound counts what is not accepted yet."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Sent:
    """A prompt that is not accepted yet, or (without `prompt`, or with `error`) only will get a result."""

    custom_id: str
    prompt: Prompt | None = None
    size_bytes: int = 0
    error: PromptError | None = None
    outcome: Outcome = Outcome.FAILED


class SessionLine:
    """Takes prompts into a session's batch, first come first: their indexes are the order in which they were sent.

    Each gets its one result once it is `acknowledged`. What the batch's end finds here is dropped, unacknowledged.
    custom_ids must be unique among those that have no delivered result yet. `again` is called when there may be room,
    in place of `admit`.
    """

    def __init__(
        self, intake: Intake, scheduling: Scheduling, batch: Batch, decoder: PromptDecoder, again: Admit
    ) -> None:
        self._intake = intake
        self._scheduling = scheduling
        self._batch = batch
        self._decoder = decoder
        self._again = again
        self._live: dict[str, Ticket | _Sent] = {}
        self._sent: deque[_Sent] = deque()
        self._bytes = 0
        self._eased = asyncio.Event()
        self._ending = False
        self.acknowledged: list[str] = []

    @property
    def waiting(self) -> bool:
        """Whether any prompt is not accepted yet."""
        return bool(self._sent)

    async def eased(self) -> None:
        """Return once so little is held back that more may be read."""
        while self._bytes > HELD_BACK_BYTES:
            self._eased.clear()
            await self._eased.wait()

    def take(self, message: types_pb2.Prompt) -> None:
        """Check one prompt and put it at the end; a bad one gets a failed result and hurts no other."""
        try:
            decoded = self._decoder.decode(message, "prompt")
        except Exception:
            log.exception("defect while decoding a prompt")
            error = PromptError(Reason.INTERNAL, "a defect of the service; its log has the details")
            self._sent.append(_Sent(message.custom_id, error=error))
            return
        if decoded.prompt is None:
            fault = decoded.violations[0]
            echoed = message.custom_id.encode()[:MAX_ID_BYTES].decode(errors="ignore")
            error = PromptError(fault.reason, fault.description, field=fault.field.removeprefix("prompt."))
            self._sent.append(_Sent(echoed, error=error))
        elif decoded.prompt.custom_id in self._live:
            description = "another unfinished prompt of this session has the same custom_id"
            error = PromptError(Reason.DUPLICATE_CUSTOM_ID, description, field="custom_id")
            self._sent.append(_Sent(message.custom_id, error=error))
        else:
            one = _Sent(decoded.prompt.custom_id, decoded.prompt, decoded.size_bytes)
            self._live[one.custom_id] = one
            self._bytes += one.size_bytes
            self._sent.append(one)

    def cancel(self, custom_id: str) -> None:
        """Cancel a prompt, wherever it is; unknown and finished ones are ignored."""
        match self._live.get(custom_id):
            case None:
                pass
            case _Sent() as one:
                one.error = PromptError.cancelled(Reason.CANCELLED, "cancelled by the caller")
                one.outcome = Outcome.CANCELLED
            case ticket:
                self._scheduling.cancel(ticket)

    def admit(self) -> int:
        """Take in what there is room for, now and whenever room comes; returns how many that were."""
        before = len(self._sent)
        while self._sent and self._batch.open:
            first = self._sent[0]
            if first.error is not None:
                self._fail(first, first.error)
                continue
            good = takewhile(lambda one: one.error is None, self._sent)
            fitting = self._intake.fitting(self._batch, (one.size_bytes for one in good))
            if not self._accept(list(islice(self._sent, fitting))):
                break
        admitted = before - len(self._sent)
        if not self._batch.open:
            self.drop()
        elif self._sent:
            self._intake.room.wait(self._batch.tenant.name, self._again)
        else:
            self._intake.room.leave(self._batch.tenant.name, self._again)
            if self._ending:
                self._scheduling.end_input(self._batch)
        if self._bytes <= HELD_BACK_BYTES:
            self._eased.set()
        return admitted

    def end_input(self) -> None:
        """No more prompts will be sent: the batch is told once all of them are in."""
        self._ending = True
        self.admit()

    def drop(self) -> None:
        """Forget what is not accepted: the session takes nothing more in."""
        self._intake.room.leave(self._batch.tenant.name, self._again)
        while self._sent:
            self._next()
        self._eased.set()

    def delivered(self, results: Sequence[Result]) -> None:
        """Their custom_ids are free again."""
        for result in results:
            ticket = self._live.get(result.custom_id)
            if ticket is not None and not isinstance(ticket, _Sent) and ticket.index == result.index:
                del self._live[result.custom_id]

    def _accept(self, run: Sequence[_Sent]) -> bool:
        """Take in the first ones; False if the rest must wait."""
        pairs = [(one.prompt, one.size_bytes) for one in run if one.prompt is not None]
        if not pairs:
            return False
        try:
            tickets = self._intake.accept(self._batch, pairs)
        except RefusedError as refusal:
            if len(run) > 1:  # one of them is at fault: the others shall not pay
                return all(self._batch.open and self._accept([one]) for one in run)
            if refusal.reason is Reason.QUEUE_FULL:
                return False
            retryable = refusal.reason not in (Reason.BATCH_TOO_LARGE, Reason.ABOVE_RATE_LIMIT)
            retry_after_ns = refusal.retry_after_ns
            error = PromptError(refusal.reason, refusal.message, retryable=retryable, retry_after_ns=retry_after_ns)
            self._fail(run[0], error)
            return True
        for one in run:
            self._next()
            self.acknowledged.append(one.custom_id)
        for ticket in tickets:  # the others have failed already, in-band
            self._live[ticket.prompt.custom_id] = ticket
        return True

    def _fail(self, first: _Sent, error: PromptError) -> None:
        if first.prompt is not None:
            self.acknowledged.append(first.custom_id)
        self._next()
        self._intake.reject(self._batch, first.custom_id, error, first.outcome)

    def _next(self) -> None:
        one = self._sent.popleft()
        self._bytes -= one.size_bytes
        if self._live.get(one.custom_id) is one:
            del self._live[one.custom_id]
