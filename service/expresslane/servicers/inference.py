"""The Inference service: decodes, submits, encodes; policy is elsewhere.

Methods that take prompts read their request themselves: grpc would keep a request that it passes as an argument, and
with it every prompt of the batch, alive until the call ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import RefusedError
from expresslane.identity import tenant_of
from expresslane.refused import bringing
from expresslane.servicers import encode
from expresslane.servicers.begin import Beginnings, Begun
from expresslane.servicers.calls import batch_options, decode_batch
from expresslane.servicers.collect import Collector, check_collectable
from expresslane.servicers.delivery import progress_of
from expresslane.servicers.session import Session
from expresslane.servicers.status import abort, invalid
from expresslane.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from expresslane.arrivals import Arrivals
    from expresslane.intake import Intake
    from expresslane.interceptors.open_calls import OpenCalls
    from expresslane.kept_batches import KeptBatches
    from expresslane.scheduling import Scheduling
    from expresslane.session_places import SessionPlaces
    from expresslane.settings import Settings

__all__ = ["InferenceServicer"]

ACCEPTED_METADATA = "x-expresslane-accepted"


class InferenceServicer:
    """Serves expresslane.v1.Inference."""

    def __init__(
        self,
        intake: Intake,
        scheduling: Scheduling,
        kept: KeptBatches,
        settings: Settings,
        *,
        arrivals: Arrivals,
        sessions: OpenCalls,
        session_places: SessionPlaces,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._arrivals = arrivals
        self._sessions = sessions
        self._session_places = session_places
        self._beginnings = Beginnings(intake, scheduling, kept, clock)
        self._kept = kept
        self._intake = intake
        self._scheduling = scheduling
        self._settings = settings
        self._clock = clock

    async def GenerateBatch(self, _: object, context: Any) -> None:  # noqa: N802
        """Run a batch and stream each result back as it finishes."""
        try:
            begun = await self._arrivals.take_in(context, tenant_of(context), self._begin)
        except RefusedError as refusal:
            await abort(context, refusal)
        with self._beginnings.reading(begun) as reader:
            await context.write(pb.GenerateBatchResponse(events=[begun.accepted]))
            while not reader.over:
                parcel = await reader.next()
                if parcel is None:
                    await context.write(pb.GenerateBatchResponse(events=[reader.progress()]))
                    continue
                if news := reader.news():
                    await context.write(pb.GenerateBatchResponse(events=news))
                for deltas in encode.in_parcels(encode.delta_messages(parcel.deltas)):
                    await context.write(pb.GenerateBatchResponse(deltas=deltas))
                limit = begun.options.result_limit_bytes
                for response in encode.result_responses(parcel.results, pb.GenerateBatchResponse, limit):
                    await context.write(response)
            await context.write(pb.GenerateBatchResponse(summary=encode.summary_message(begun.summary())))
            begun.read_to_its_end()

    async def _begin(self, request: pb.GenerateBatchRequest, context: Any) -> Begun:
        config = request.config
        with bringing(len(request.prompts)):
            options = batch_options(config, self._settings, context, self._clock())
            prompts = await decode_batch(request.prompts, self._settings, self._intake.tenants.find(options.tenant))
            return await self._beginnings.begin(prompts, options, "GenerateBatch", named=bool(config.request_id))

    async def CollectBatch(self, _: object, context: Any) -> None:  # noqa: N802
        """Run a batch and answer once, in request order."""
        try:
            begun = await self._arrivals.take_in(context, tenant_of(context), self._begin_collected)
        except RefusedError as refusal:
            await abort(context, refusal)
        with self._beginnings.reading(begun) as reader:
            await context.send_initial_metadata(((ACCEPTED_METADATA, str(begun.batch.total)),))
            collector = Collector(self._settings.collect_limit_bytes)
            while not reader.over:
                parcel = await reader.next()
                if parcel is not None:
                    collector.add(parcel.results)
            begun.read_to_its_end()
            await context.write(collector.response(begun.summary()))

    async def _begin_collected(self, request: pb.CollectBatchRequest, context: Any) -> Begun:
        config = request.config
        with bringing(len(request.prompts)):
            options = batch_options(config, self._settings, context, self._clock())
            options = replace(options, stream_deltas=False, reorder_window=0)
            prompts = await decode_batch(request.prompts, self._settings, self._intake.tenants.find(options.tenant))
            check_collectable(prompts, self._settings.collect_limit_bytes)
            return await self._beginnings.begin(prompts, options, "CollectBatch", named=bool(config.request_id))

    async def Generate(self, _: object, context: Any) -> None:  # noqa: N802
        """Run one prompt, token by token."""
        try:
            begun = await self._arrivals.take_in(context, tenant_of(context), self._begin_one)
        except RefusedError as refusal:
            await abort(context, refusal)
        with self._beginnings.reading(begun) as reader:
            await context.write(pb.GenerateResponse(events=[begun.accepted]))
            while not reader.over:
                parcel = await reader.next()
                if parcel is None:
                    await context.write(pb.GenerateResponse(events=[reader.progress()]))
                    continue
                if news := reader.news():
                    await context.write(pb.GenerateResponse(events=news))
                for response in encode.generate_responses(parcel, begun.options.result_limit_bytes):
                    await context.write(response)
            begun.read_to_its_end()

    async def _begin_one(self, request: pb.GenerateRequest, context: Any) -> Begun:
        config = pb.BatchConfig(
            request_id=request.request_id,
            stream_deltas=True,
            on_disconnect=request.on_disconnect,
            keep_for=request.keep_for if request.HasField("keep_for") else None,
        )
        with bringing(1):
            options = batch_options(config, self._settings, context, self._clock(), path="")
            tenant = self._intake.tenants.find(options.tenant)
            prompts = await decode_batch([request.prompt], self._settings, tenant, path="prompt", id_required=False)
            return await self._beginnings.begin(prompts, options, "Generate", named=bool(request.request_id))

    async def StreamPrompts(self, _: object, context: Any) -> None:  # noqa: N802
        """Run prompts as they are sent."""
        session = Session(self._intake, self._scheduling, self._settings, context, clock=self._clock)
        await session.run(self._arrivals, self._sessions, self._session_places)

    async def CancelBatch(self, request: pb.CancelBatchRequest, context: Any) -> pb.CancelBatchResponse:  # noqa: N802
        """Cancel what is unfinished of a kept batch."""
        try:
            if not request.request_id:
                raise invalid("request_id", "required: the name that the batch is kept under")
            kept = self._kept.cancel_named(tenant_of(context), request.request_id)
        except RefusedError as refusal:
            await abort(context, refusal)
        batch = kept.batch
        progress = progress_of(batch, self._clock()).progress
        summary = None if batch.unfinished else encode.summary_message(batch.summary())
        return pb.CancelBatchResponse(progress=progress, summary=summary)
