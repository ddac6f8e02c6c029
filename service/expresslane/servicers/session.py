"""A StreamPrompts session: prompts and cancels in, credits, acknowledgements and results out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
import structlog

from expresslane.batches.summary import BatchState
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import FieldViolation, PromptError, Reason, RefusedError
from expresslane.servicers import encode
from expresslane.servicers.calls import batch_options, read_first
from expresslane.servicers.decode import MAX_ID_BYTES, PromptDecoder
from expresslane.servicers.delivery import Reader
from expresslane.servicers.status import abort
from expresslane.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expresslane.batches.batch import Batch
    from expresslane.batches.ticket import Ticket
    from expresslane.intake import Intake
    from expresslane.prompts import Prompt
    from expresslane.results import Result
    from expresslane.scheduling import Scheduling
    from expresslane.settings import Settings
    from expresslane.v1 import types_pb2

__all__ = ["Session"]

ACKNOWLEDGED_AT_ONCE = 4_096

log = structlog.get_logger(__name__)


class Session:
    """One session. It always reads, so that cancels never queue behind prompts; credits bound what it must hold.

    custom_ids must be unique among the session's prompts that have no delivered result yet.
    """

    def __init__(
        self,
        intake: Intake,
        scheduling: Scheduling,
        settings: Settings,
        context: Any,
        *,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._intake = intake
        self._scheduling = scheduling
        self._settings = settings
        self._context = context
        self._clock = clock
        self._decoder: PromptDecoder
        self._live: dict[str, Ticket | None] = {}
        self._acknowledged: list[str] = []
        self._credits = settings.stream_credits
        self._all_sent = False
        """Only cancels may come."""
        self._refusal: RefusedError | None = None
        self._defect: Exception | None = None

    async def run(self) -> None:
        """Serve the session to its end."""
        try:
            batch = await self._open()
        except RefusedError as refusal:
            await abort(self._context, refusal)
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._read(batch))
        ending = None
        if batch.options.deadline_ns:
            left_s = (batch.options.deadline_ns - self._clock()) / 1e9
            ending = loop.call_later(left_s, self._deadline, batch, reading)
        try:
            accepted = pb.Accepted(request_id=batch.options.request_id)
            events = [pb.Event(accepted=accepted)]
            await self._context.write(pb.StreamPromptsResponse(events=events, credits=self._credits))
            await self._deliver(batch)
        finally:
            if ending is not None:
                ending.cancel()
            reading.cancel()
            self._intake.close(batch)
            batch.outbox.leave()
        if self._defect is not None:
            raise self._defect
        if self._refusal is not None:
            await abort(self._context, self._refusal)

    @staticmethod
    def _deadline(batch: Batch, reading: asyncio.Task[None]) -> None:
        """The call's deadline is near: the core ends what is unfinished, nothing more is taken in."""
        reading.cancel()
        batch.stop(BatchState.PARTIAL_DEADLINE)
        batch.end_input()

    async def _open(self) -> Batch:
        first = await read_first(self._context, self._settings.first_message_timeout_s)
        alone = first is not grpc.aio.EOF and not (first.prompts or first.cancel or first.no_more_prompts)
        if not alone or not first.HasField("config"):
            message = "the first message must carry the configuration (it may be empty) and nothing else"
            raise RefusedError(Reason.PROTOCOL_VIOLATION, message)
        if first.config.on_disconnect == pb.ON_DISCONNECT_KEEP:
            description = "a session ends with its connection: what has no result yet goes into another one"
            raise RefusedError(
                Reason.UNSUPPORTED,
                f"config.on_disconnect: {description}",
                violations=[FieldViolation("config.on_disconnect", description, Reason.UNSUPPORTED)],
            )
        options = batch_options(first.config, self._settings, self._context, self._clock())
        batch = self._intake.open(options, method="StreamPrompts", prompts=0, is_open=True)
        self._decoder = PromptDecoder(
            self._settings.max_prompt_bytes,
            batch.tenant.max_class,
            any_urls=self._settings.content_urls == "any",
            batch_class_from_chars=self._settings.batch_class_from_chars,
        )
        return batch

    async def _read(self, batch: Batch) -> None:
        try:
            while (batch.open or self._all_sent) and (message := await self._context.read()) is not grpc.aio.EOF:
                self._handle(batch, message)
                if self._acknowledged:  # the reader is not woken in vain: its heartbeat counts from its last message
                    batch.outbox.nudge()
        except RefusedError as refusal:
            self._refusal = refusal
            batch.outbox.nudge()
        except Exception as error:  # noqa: BLE001 - it ends the call, like any other of the handler's
            self._defect = error
            batch.outbox.nudge()
        else:
            self._scheduling.end_input(batch)

    def _handle(self, batch: Batch, message: pb.StreamPromptsRequest) -> None:
        if message.HasField("config"):
            raise RefusedError(Reason.PROTOCOL_VIOLATION, "the configuration may come in the first message only")
        for custom_id in message.cancel:
            if (ticket := self._live.get(custom_id)) is not None:
                self._scheduling.cancel(ticket)
        if self._all_sent and message.prompts:
            raise RefusedError(Reason.PROTOCOL_VIOLATION, "no prompts may come after no_more_prompts")
        self._credits -= len(message.prompts)
        if self._credits < 0:
            excess = f"{-self._credits} prompts more than credits were granted"
            raise RefusedError(Reason.CREDITS_EXCEEDED, f"{excess}; wait for `credits` in the responses")
        good: list[tuple[Prompt, int]] = []
        for prompt in message.prompts:
            if not batch.open:  # a failure has just ended a FAIL_FAST session
                break
            self._take(batch, prompt, good)
        self._accept(batch, good)
        if message.no_more_prompts:
            self._all_sent = True
            self._scheduling.end_input(batch)

    def _take(self, batch: Batch, message: types_pb2.Prompt, good: list[tuple[Prompt, int]]) -> None:
        """Check one prompt; a bad one gets a failed result and hurts no other."""
        try:
            decoded = self._decoder.decode(message, "prompt")
        except Exception:
            log.exception("defect while decoding a prompt")
            self._accept(batch, good)
            error = PromptError(Reason.INTERNAL, "a defect of the service; its log has the details")
            self._intake.reject(batch, message.custom_id, error)
            return
        if decoded.prompt is None:
            fault = decoded.violations[0]
            field = fault.field.removeprefix("prompt.")
            self._accept(batch, good)
            echoed = message.custom_id.encode()[:MAX_ID_BYTES].decode(errors="ignore")
            self._intake.reject(batch, echoed, PromptError(fault.reason, fault.description, field=field))
        elif decoded.prompt.custom_id in self._live:
            self._accept(batch, good)
            description = "another unfinished prompt of this session has the same custom_id"
            error = PromptError(Reason.DUPLICATE_CUSTOM_ID, description, field="custom_id")
            self._intake.reject(batch, message.custom_id, error)
        else:
            self._live[decoded.prompt.custom_id] = None
            good.append((decoded.prompt, decoded.size_bytes))

    def _accept(self, batch: Batch, good: list[tuple[Prompt, int]]) -> None:
        if not good:
            return
        try:
            tickets = self._intake.accept(batch, good)
        except RefusedError as refusal:
            if refusal.reason is Reason.ABOVE_RATE_LIMIT and len(good) > 1:  # one of them is: the others shall not pay
                for one in good:
                    self._accept(batch, [one])
                good.clear()
                return
            for prompt, _ in good:
                del self._live[prompt.custom_id]
                retryable = refusal.reason not in (Reason.BATCH_TOO_LARGE, Reason.ABOVE_RATE_LIMIT)
                error = PromptError(
                    refusal.reason, refusal.message, retryable=retryable, retry_after_ns=refusal.retry_after_ns
                )
                self._intake.reject(batch, prompt.custom_id, error)
        else:
            queued = {ticket.prompt.custom_id: ticket for ticket in tickets}
            for prompt, _ in good:
                if (ticket := queued.get(prompt.custom_id)) is not None:
                    self._live[prompt.custom_id] = ticket
                else:  # it has failed already, in-band
                    del self._live[prompt.custom_id]
        self._acknowledged += [prompt.custom_id for prompt, _ in good]
        good.clear()

    async def _deliver(self, batch: Batch) -> None:
        reader = Reader(batch, self._scheduling, clock=self._clock)
        while not reader.over and not self._broken:
            parcel = await reader.next()
            if parcel is None:
                await self._context.write(pb.StreamPromptsResponse(events=[reader.progress()]))
                continue
            if news := reader.news():
                await self._context.write(pb.StreamPromptsResponse(events=news))
            for deltas in encode.in_parcels(encode.delta_messages(parcel.deltas)):
                await self._context.write(pb.StreamPromptsResponse(deltas=deltas))
            acknowledged, self._acknowledged = self._acknowledged, []
            for start in range(0, len(acknowledged), ACKNOWLEDGED_AT_ONCE):
                accepted = acknowledged[start : start + ACKNOWLEDGED_AT_ONCE]
                await self._context.write(pb.StreamPromptsResponse(accepted=accepted))
            self._delivered(parcel.results)
            limit = batch.options.result_limit_bytes
            for response in encode.result_responses(parcel.results, pb.StreamPromptsResponse, limit):
                response.credits = len(response.results)
                await self._context.write(response)
        if not self._broken:
            await self._context.write(pb.StreamPromptsResponse(summary=encode.summary_message(batch.summary())))

    @property
    def _broken(self) -> bool:
        return self._refusal is not None or self._defect is not None

    def _delivered(self, results: Sequence[Result]) -> None:
        self._credits += len(results)
        for result in results:
            ticket = self._live.get(result.custom_id)
            if ticket is not None and ticket.index == result.index:
                del self._live[result.custom_id]
