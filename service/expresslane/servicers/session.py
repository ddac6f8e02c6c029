"""A StreamPrompts session: prompts and cancels in, credits, acknowledgements and results out."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc.aio
import structlog

from expresslane.batches.summary import BatchState
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import FieldViolation, Reason, RefusedError
from expresslane.identity import tenant_of
from expresslane.servicers import encode
from expresslane.servicers.calls import batch_options
from expresslane.servicers.decode import PromptDecoder
from expresslane.servicers.delivery import Reader
from expresslane.servicers.session_line import SessionLine
from expresslane.servicers.status import abort
from expresslane.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from expresslane.arrivals import Arrivals
    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.intake import Intake
    from expresslane.interceptors.open_calls import OpenCalls
    from expresslane.scheduling import Scheduling
    from expresslane.session_places import SessionPlaces
    from expresslane.settings import Settings

__all__ = ["Session"]

ACKNOWLEDGED_AT_ONCE = 4_096
LAST_WORDS_S = 1.0
"""For how long a caller may go on sending after the summary before the call ends under it."""

log = structlog.get_logger(__name__)


class Session:
    """One session. It reads on while its prompts wait for room, so that cancels do not queue behind them.

    Credits bound what it must hold; with a MiB or more held back for want of room it is not read. Before it is accepted
    it has a place among those that are read.

    Its batch says how far it is. Cut short or over, it heeds its caller no more: what still comes is read and dropped,
    until the caller's input ends or LAST_WORDS_S after the summary. gRPC's Python tells a caller of a write that failed
    and no more of what came before it, its last results: the call must not end under one that sends.
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
        self._batch: Batch | None = None
        self._line: SessionLine
        self._quiet_since_ns: int
        self._writing = False
        self._credits = 0
        self._all_sent = False
        """Only cancels may come."""
        self._error: Exception | None = None
        """What ends the call in the place of a summary."""

    async def run(self, arrivals: Arrivals, sessions: OpenCalls, places: SessionPlaces) -> None:
        """Serve the session to its end. Its first message arrives among all others; then it counts as a session.

        What comes after that message is read once there is a place for it.
        """
        tenant = tenant_of(self._context)
        try:
            options = await arrivals.take_first(self._context, tenant, self._options)
            sessions.enter(tenant)
        except RefusedError as refusal:
            await abort(self._context, refusal)
        try:
            async with places.hold(self, tenant):
                await self._run(options)
        except RefusedError as refusal:
            await abort(self._context, refusal)
        finally:
            sessions.leave(tenant)

    def idle_s(self) -> float:
        """For how long the caller has said nothing and been owed nothing, in seconds. 0.0 of one that is ending."""
        batch = self._batch
        if batch is None or not batch.open or batch.unfinished:
            return 0.0
        if self._line.waiting or self._writing or not batch.outbox.empty:
            return 0.0
        return (self._clock() - self._quiet_since_ns) / 1e9

    def give_way(self, refusal: RefusedError) -> None:
        """End it with this refusal: others wait for its place."""
        self._fail(refusal)

    async def _run(self, options: BatchOptions) -> None:
        self._quiet_since_ns = self._clock()  # it could say nothing while it waited for its place
        try:
            batch = self._open(options)
        except RefusedError as refusal:
            await abort(self._context, refusal)
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._read(batch))
        ending = None
        if batch.options.deadline_ns:
            left_s = (batch.options.deadline_ns - self._clock()) / 1e9
            ending = loop.call_later(left_s, self._deadline, batch)
        try:
            accepted = pb.Accepted(request_id=batch.options.request_id)
            events = [pb.Event(accepted=accepted)]
            await self._context.write(pb.StreamPromptsResponse(events=events, credits=self._credits))
            self._quiet_since_ns = self._clock()
            await self._deliver(batch)
            if self._error is None:
                await self._end(batch, reading)
        finally:
            if ending is not None:
                ending.cancel()
            reading.cancel()
            self._line.drop()
            self._intake.close(batch)
            batch.outbox.leave()
        if isinstance(self._error, RefusedError):
            await abort(self._context, self._error)
        if self._error is not None:
            raise self._error

    @staticmethod
    def _deadline(batch: Batch) -> None:
        """The call's deadline is near: the core ends what is unfinished, nothing more is taken in."""
        if not batch.outbox.closed:  # else it has its summary, or is about to
            batch.stop(BatchState.PARTIAL_DEADLINE)
            batch.end_input()

    def _options(self, first: Any) -> BatchOptions:
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
        return batch_options(first.config, self._settings, self._context, self._clock())

    def _open(self, options: BatchOptions) -> Batch:
        batch = self._batch = self._intake.open(options, method="StreamPrompts", prompts=0, is_open=True)
        decoder = PromptDecoder(
            self._settings.max_prompt_bytes,
            batch.tenant.max_class,
            any_urls=self._settings.content_urls == "any",
            batch_class_from_chars=self._settings.batch_class_from_chars,
        )
        self._line = SessionLine(self._intake, self._scheduling, batch, decoder, partial(self._admit, batch))
        # More than may ever wait (and run, of the tenant's) would only be held back.
        bounds = (self._settings.stream_credits, self._settings.queue_limit_prompts, batch.tenant.queue_bounds.count)
        self._credits = min(bound for bound in bounds if bound)
        return batch

    async def _read(self, batch: Batch) -> None:
        """Read to the end of the caller's input."""
        try:
            while (message := await self._context.read()) is not grpc.aio.EOF:
                if self._heeds(batch):
                    self._quiet_since_ns = self._clock()
                    self._handle(message)
                del message  # or a session that says nothing more would keep its last one
                if self._line.acknowledged:  # not in vain: the reader's heartbeat counts from its last message
                    batch.outbox.nudge()
                await self._line.eased()
        except Exception as error:  # noqa: BLE001 - it ends the call, like any other of the handler's
            self._fail(error)
        else:
            self._line.end_input()

    @staticmethod
    def _heeds(batch: Batch) -> bool:
        """Whether what the caller sends still counts."""
        return batch.stopped is None and not batch.outbox.closed

    def _fail(self, error: Exception) -> None:
        """End the call with this error, unless there was one before, or a summary is due."""
        batch = self._batch
        if batch is not None and self._error is None and self._heeds(batch):
            self._error = error
            batch.outbox.nudge()
        elif not isinstance(error, RefusedError):
            log.error("defect in a session that is ending", exc_info=error)

    def _admit(self, batch: Batch) -> int:
        """Take in more of what was held back, as there is room now."""
        try:
            admitted = self._line.admit()
        except Exception as error:  # noqa: BLE001 - it ends this call, and nobody else's
            self._fail(error)
            self._line.drop()
            admitted = 0
        if self._line.acknowledged:
            batch.outbox.nudge()
        return admitted

    def _handle(self, message: pb.StreamPromptsRequest) -> None:
        if message.HasField("config"):
            raise RefusedError(Reason.PROTOCOL_VIOLATION, "the configuration may come in the first message only")
        for custom_id in message.cancel:
            self._line.cancel(custom_id)
        if self._all_sent and message.prompts:
            raise RefusedError(Reason.PROTOCOL_VIOLATION, "no prompts may come after no_more_prompts")
        self._credits -= len(message.prompts)
        if self._credits < 0:
            excess = f"{-self._credits} prompts more than credits were granted"
            raise RefusedError(Reason.CREDITS_EXCEEDED, f"{excess}; wait for `credits` in the responses")
        for prompt in message.prompts:
            self._line.take(prompt)
        self._line.admit()
        if message.no_more_prompts:
            self._all_sent = True
            self._line.end_input()

    async def _deliver(self, batch: Batch) -> None:
        reader = Reader(batch, self._scheduling, clock=self._clock)
        while not reader.over and self._error is None:
            parcel = await reader.next()
            if parcel is None:
                await self._context.write(pb.StreamPromptsResponse(events=[reader.progress()]))
                continue
            self._writing = True
            if news := reader.news():
                await self._context.write(pb.StreamPromptsResponse(events=news))
            for deltas in encode.in_parcels(encode.delta_messages(parcel.deltas)):
                await self._context.write(pb.StreamPromptsResponse(deltas=deltas))
            acknowledged, self._line.acknowledged = self._line.acknowledged, []
            for start in range(0, len(acknowledged), ACKNOWLEDGED_AT_ONCE):
                accepted = acknowledged[start : start + ACKNOWLEDGED_AT_ONCE]
                await self._context.write(pb.StreamPromptsResponse(accepted=accepted))
            self._credits += len(parcel.results)
            self._line.delivered(parcel.results)
            limit = batch.options.result_limit_bytes
            for response in encode.result_responses(parcel.results, pb.StreamPromptsResponse, limit):
                if self._heeds(batch):
                    response.credits = len(response.results)
                await self._context.write(response)
            self._writing = False
            self._quiet_since_ns = self._clock()

    async def _end(self, batch: Batch, reading: asyncio.Task[None]) -> None:
        """Give the caller its summary, and hear it out: it may not know yet that nothing more counts."""
        self._line.drop()  # the reading may wait for it to ease
        await self._context.write(pb.StreamPromptsResponse(summary=encode.summary_message(batch.summary())))
        left_s = self._context.time_remaining()
        await asyncio.wait({reading}, timeout=LAST_WORDS_S if left_s is None else min(LAST_WORDS_S, left_s / 2))
