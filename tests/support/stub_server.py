"""A scripted in-process service that speaks the contract, to test client and CLI without scheduler or engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from expresslane_client.v1 import admin_pb2, admin_pb2_grpc, inference_pb2, inference_pb2_grpc, types_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped,unused-ignore]
from grpc import aio
from grpc_status import rpc_status  # type: ignore[import-untyped,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from google.protobuf.message import Message

__all__ = ["Refusal", "StubService", "serve_stub"]

_Context: TypeAlias = "aio.ServicerContext[Any, Any]"

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


@dataclass
class Refusal:
    """A status error, with details as the service sends them when `reason` is set."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    retry_after_s: int = 0

    async def abort(self, context: _Context) -> None:
        """End the call with this status."""
        if not self.reason:
            await context.abort(self.code, self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="expresslane.dev")
        details: list[Message] = [info]
        if self.fields:
            violations = [{"field": name, "description": text} for name, text in self.fields.items()]
            details.append(error_details_pb2.BadRequest(field_violations=violations))
        if self.retry_after_s:
            details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=self.retry_after_s)))
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        await context.abort_with_status(rpc_status.to_status(status))


def answer(prompt: types_pb2.Prompt, index: int) -> types_pb2.Result:
    """A successful result that repeats the prompt's text."""
    result = types_pb2.Result(
        custom_id=prompt.custom_id,
        index=index,
        outcome=types_pb2.OUTCOME_SUCCEEDED,
        usage=types_pb2.Usage(input_tokens=3, output_tokens=2),
        attempts=1,
        backend="backends/stub",
        model=prompt.model or "stub-model",
        simulated=True,
    )
    text = prompt.text or prompt.raw_prompt or prompt.chat.messages[0].content[0].text
    result.choices.add(text=f"echo {text}", finish_reason=types_pb2.FINISH_REASON_STOP, finish_reason_raw="stop")
    result.timings.queue_wait.FromMilliseconds(10)
    result.timings.ttft.FromMilliseconds(30)
    result.timings.attempt_ttft.FromMilliseconds(20)
    result.timings.total.FromMilliseconds(50)
    result.timings.attempt.FromMilliseconds(40)
    return result


@dataclass
class StubService(inference_pb2_grpc.InferenceServicer, admin_pb2_grpc.AdminServicer):
    """What the stub does and what it has seen. By default every prompt succeeds, the last one first.

    `failing` custom_ids fail, `twice` are answered twice and `never` not at all; those in `cut_off` end as in a
    stopping service, the first time. `refusal` ends every inference and admin call; of batches
    so many are refused because the queue is `full`, and may be sent again after `full_for_s`. With `keeps` it has the
    whole of the batch it was first asked for, and refuses any other. `break_after` ends a stream with
    UNAVAILABLE after so many results, `hold_after` keeps it open and silent until the caller gives up. A session ends
    by itself after `session_results`; with `last` its input is read to the end after the summary (`half_closed`), and
    its status is what `last` makes of it.
    """

    failing: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)
    never: set[str] = field(default_factory=set)
    cut_off: set[str] = field(default_factory=set)
    refusal: Refusal | None = None
    full: int = 0
    full_for_s: int = 1
    keeps: bool = False
    break_after: int | None = None
    hold_after: int | None = None
    session_results: int | None = None
    last: Callable[[_Context], Awaitable[object]] | None = None
    batch_limit: int = 1_000_000
    credits: int = 4
    health: bytes = SERVING
    requests: list[object] = field(default_factory=list)
    prompts: list[types_pb2.Prompt] = field(default_factory=list)
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    time_remaining_s: float | None = None
    unfinished_max: int = 0
    uptime_s: int = 90
    succeeded: int = 9
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    half_closed: asyncio.Event = field(default_factory=asyncio.Event)
    backends: dict[str, admin_pb2.Backend] = field(default_factory=dict)
    tenants: list[admin_pb2.Tenant] = field(default_factory=list)
    policies: dict[tuple[int, str], admin_pb2.Policy] = field(
        default_factory=lambda: {(0, ""): admin_pb2.Policy(policy="hrrn")}
    )

    def __post_init__(self) -> None:
        for name, slots in (("hosted", 0), ("local", 4)):
            self.backends[f"backends/{name}"] = admin_pb2.Backend(
                name=f"backends/{name}",
                kind="llamacpp" if slots else "openai",
                models=[admin_pb2.BackendModel(model=f"{name}-model", backend_model=f"{name}-model.gguf")],
                can_run_concurrently=True,
                concurrency_enabled=True,
                cap=10,
                effective_cap=10,
                discovered_slots=slots,
                available=True,
                notices=["cap 10 is above the 4 slots"] if slots else [],
            )

    # Inference

    async def GenerateBatch(  # noqa: N802
        self, request: inference_pb2.GenerateBatchRequest, context: _Context
    ) -> AsyncIterator[inference_pb2.GenerateBatchResponse]:
        """Results last to first, or in order, one message each."""
        await self._enter(request, context)
        if self.keeps and len(request.prompts) < len(self.requests[0].prompts):  # type: ignore[attr-defined]
            await Refusal(grpc.StatusCode.ALREADY_EXISTS, "other prompts", "REQUEST_EXISTS").abort(context)
        if self.keeps and len(self.requests) > 1:
            self.break_after = None
        if self.full:
            self.full -= 1
            code, wait_s = grpc.StatusCode.RESOURCE_EXHAUSTED, self.full_for_s
            await Refusal(code, "no room", "QUEUE_FULL", retry_after_s=wait_s).abort(context)
        if len(request.prompts) > self.batch_limit:
            message = f"at most {self.batch_limit} prompts: use StreamPrompts"
            await Refusal(grpc.StatusCode.INVALID_ARGUMENT, message, "BATCH_TOO_LARGE").abort(context)
        yield inference_pb2.GenerateBatchResponse(events=[_accepted(request)])
        results = self._results(request.prompts)
        if request.config.delivery != inference_pb2.DELIVERY_IN_ORDER:
            results.reverse()
        for sent, result in enumerate(results):
            await self._interrupt(sent, context)
            deltas = [_delta(result)] if request.config.stream_deltas else []
            yield inference_pb2.GenerateBatchResponse(deltas=deltas, results=[result])
        await self._interrupt(len(results), context)
        yield inference_pb2.GenerateBatchResponse(summary=_summary(request.config, results))

    async def CollectBatch(  # noqa: N802
        self, request: inference_pb2.CollectBatchRequest, context: _Context
    ) -> inference_pb2.CollectBatchResponse:
        """All results at once, in request order."""
        await self._enter(request, context)
        await context.send_initial_metadata((("x-expresslane-accepted", str(len(request.prompts))),))
        results = self._results(request.prompts)
        await self._interrupt(len(results), context)
        return inference_pb2.CollectBatchResponse(results=results, summary=_summary(request.config, results))

    async def Generate(  # noqa: N802
        self, request: inference_pb2.GenerateRequest, context: _Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """The acceptance, two deltas and a result."""
        await self._enter(request, context)
        yield inference_pb2.GenerateResponse(events=[inference_pb2.Event(accepted=inference_pb2.Accepted(prompts=1))])
        await self._interrupt(0, context)
        result = self._results([request.prompt])[0]
        for piece in result.choices[0].text.split(" ", 1) if result.choices else ():
            delta = inference_pb2.Delta(custom_id=result.custom_id, text=piece)
            yield inference_pb2.GenerateResponse(deltas=[delta])
        await self._interrupt(1, context)
        yield inference_pb2.GenerateResponse(result=result)

    async def StreamPrompts(  # noqa: N802
        self, request_iterator: AsyncIterator[inference_pb2.StreamPromptsRequest], context: _Context
    ) -> AsyncIterator[inference_pb2.StreamPromptsResponse]:
        """Answers each message of prompts at once and grants as many credits again."""
        results: list[types_pb2.Result] = []
        config = inference_pb2.BatchConfig()
        async for request in request_iterator:
            if request.HasField("config"):
                config = request.config
                await self._enter(request, context)
                yield inference_pb2.StreamPromptsResponse(credits=self.credits)
            if request.cancel:
                self.requests.append(request)
            if request.no_more_prompts:
                break
            if not request.prompts:
                continue
            self.unfinished_max = max(self.unfinished_max, len(request.prompts))
            finished = self._results(request.prompts, first=len(results))
            for result in finished:
                await self._interrupt(len(results), context)
                results.append(result)
                accepted = [result.custom_id]
                yield inference_pb2.StreamPromptsResponse(results=[result], credits=1, accepted=accepted)
            if len(results) == self.session_results:
                break
        yield inference_pb2.StreamPromptsResponse(summary=_summary(config, results))
        if self.last is not None:
            async for _ in request_iterator:
                pass
            self.half_closed.set()
            await self.last(context)

    async def CancelBatch(  # noqa: N802
        self, request: inference_pb2.CancelBatchRequest, context: _Context
    ) -> inference_pb2.CancelBatchResponse:
        """Nothing is kept here."""
        await self._enter(request, context)
        await Refusal(grpc.StatusCode.NOT_FOUND, "nothing is kept", "UNKNOWN_REQUEST").abort(context)
        raise AssertionError("abort always raises")

    def _results(self, prompts: Iterable[types_pb2.Prompt], first: int = 0) -> list[types_pb2.Result]:
        results = []
        for index, prompt in enumerate(prompts, first):
            self.prompts.append(prompt)
            if prompt.custom_id in self.cut_off:
                self.cut_off.discard(prompt.custom_id)
                results.append(_stopped(prompt, index))
                continue
            result = _failure(prompt, index) if prompt.custom_id in self.failing else answer(prompt, index)
            results += [result] * ((prompt.custom_id not in self.never) + (prompt.custom_id in self.twice))
        return results

    async def _enter(self, request: object, context: _Context) -> None:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata() or ())
        self.time_remaining_s = context.time_remaining()
        if self.refusal is not None:
            await self.refusal.abort(context)

    async def _interrupt(self, sent: int, context: _Context) -> None:
        if sent == self.break_after:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        if sent == self.hold_after:
            self.held.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()

    # Admin

    async def ListBackends(  # noqa: N802
        self, request: admin_pb2.ListBackendsRequest, context: _Context
    ) -> admin_pb2.ListBackendsResponse:
        """One backend a page, to make clients follow the tokens."""
        await self._enter(request, context)
        names = sorted(self.backends)
        position = int(request.page_token or 0)
        following = str(position + 1) if position + 1 < len(names) else ""
        page = [self.backends[names[position]]]
        return admin_pb2.ListBackendsResponse(backends=page, next_page_token=following)

    async def GetBackend(  # noqa: N802
        self, request: admin_pb2.GetBackendRequest, context: _Context
    ) -> admin_pb2.Backend:
        """The backend, or NOT_FOUND."""
        await self._enter(request, context)
        return await self._backend(request.name, context)

    async def UpdateBackend(  # noqa: N802
        self, request: admin_pb2.UpdateBackendRequest, context: _Context
    ) -> admin_pb2.Backend:
        """Sets what the mask names."""
        await self._enter(request, context)
        backend = await self._backend(request.backend.name, context)
        for path in request.update_mask.paths:
            setattr(backend, path, getattr(request.backend, path))
        backend.effective_cap = backend.cap if backend.concurrency_enabled else 1
        return backend

    async def GetSnapshot(  # noqa: N802
        self, request: admin_pb2.GetSnapshotRequest, context: _Context
    ) -> admin_pb2.Snapshot:
        """A busy service: up for `uptime_s`, with so many `succeeded`. `looked` is set each time."""
        await self._enter(request, context)
        self.looked.set()
        depth = admin_pb2.ClassDepth(queued=7)
        setattr(depth, "class", types_pb2.PROMPT_CLASS_STANDARD)
        return admin_pb2.Snapshot(
            version="0.1.0",
            uptime=Duration(seconds=self.uptime_s),
            policy="hrrn",
            queue_limit=200_000,
            queued=7,
            in_flight=3,
            queued_tokens=1234,
            queued_by_class=[depth],
            queued_by_model={"stub-model": 7},
            submitted=20,
            succeeded=self.succeeded,
            failed=1,
            drain_rate_per_s=8.5,
            finish_rate_per_s=2.5,
            open_batches=1,
            backends=[self.backends[name] for name in sorted(self.backends)],
            tenants=self.tenants,
        )

    async def UpdateTenant(  # noqa: N802
        self, request: admin_pb2.UpdateTenantRequest, context: _Context
    ) -> admin_pb2.Tenant:
        """Answers with what was asked for."""
        await self._enter(request, context)
        return request.tenant

    async def SetPolicy(  # noqa: N802
        self, request: admin_pb2.SetPolicyRequest, context: _Context
    ) -> admin_pb2.SetPolicyResponse:
        """Remembers the scope's policy."""
        await self._enter(request, context)
        scope = (getattr(request.policy, "class"), request.policy.model)
        self.policies.pop(scope, None)
        if request.policy.policy:
            self.policies[scope] = request.policy
        return admin_pb2.SetPolicyResponse(policies=self.policies.values())

    async def Drain(  # noqa: N802
        self, request: admin_pb2.DrainRequest, context: _Context
    ) -> admin_pb2.DrainResponse:
        """Reports what is left."""
        await self._enter(request, context)
        return admin_pb2.DrainResponse(queued=7, in_flight=3)

    async def _backend(self, name: str, context: _Context) -> admin_pb2.Backend:
        if name not in self.backends:
            message = f"there is no backend {name!r}; there are backends/hosted, backends/local"
            await Refusal(grpc.StatusCode.NOT_FOUND, message, "UNKNOWN_BACKEND").abort(context)
        return self.backends[name]

    async def check_health(self, _request: bytes, _context: _Context) -> bytes:
        """The standard health check."""
        return self.health


@asynccontextmanager
async def serve_stub(service: StubService) -> AsyncIterator[str]:
    """Serve on a free port of loopback; yields the address."""
    server = aio.server(options=[("grpc.max_receive_message_length", 64 * 1024 * 1024)])
    inference_pb2_grpc.add_InferenceServicer_to_server(service, server)
    admin_pb2_grpc.add_AdminServicer_to_server(service, server)
    check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(service.check_health)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=None)


def _accepted(request: inference_pb2.GenerateBatchRequest) -> inference_pb2.Event:
    accepted = inference_pb2.Accepted(request_id=request.config.request_id or "made-up", prompts=len(request.prompts))
    return inference_pb2.Event(accepted=accepted)


def _delta(result: types_pb2.Result) -> inference_pb2.Delta:
    text = result.choices[0].text if result.choices else ""
    return inference_pb2.Delta(custom_id=result.custom_id, index=result.index, text=text)


def _failure(prompt: types_pb2.Prompt, index: int) -> types_pb2.Result:
    result = types_pb2.Result(custom_id=prompt.custom_id, index=index, outcome=types_pb2.OUTCOME_FAILED, attempts=3)
    result.error.MergeFrom(
        types_pb2.PromptError(code=14, reason="BACKEND_UNREACHABLE", message="no route to backend", retryable=True)
    )
    result.history.add(backend="backends/stub", reason="BACKEND_UNREACHABLE", message="refused")
    result.timings.total.FromMilliseconds(5)
    return result


def _stopped(prompt: types_pb2.Prompt, index: int) -> types_pb2.Result:
    error = types_pb2.PromptError(code=14, reason="DRAINING", message="the service is stopping", retryable=True)
    error.retry_delay.FromMilliseconds(1)
    result = types_pb2.Result(custom_id=prompt.custom_id, index=index, outcome=types_pb2.OUTCOME_CANCELLED)
    result.error.CopyFrom(error)
    return result


def _summary(config: inference_pb2.BatchConfig, results: list[types_pb2.Result]) -> inference_pb2.BatchSummary:
    succeeded = sum(result.outcome == types_pb2.OUTCOME_SUCCEEDED for result in results)
    failed = len(results) - succeeded
    stopped = any(result.error.reason == "DRAINING" for result in results)
    summary = inference_pb2.BatchSummary(
        request_id=config.request_id or "made-up",
        state=inference_pb2.BATCH_STATE_CANCELLED if stopped else inference_pb2.BATCH_STATE_COMPLETED,
        total=len(results),
        succeeded=succeeded,
        failed=failed,
        reasons={"BACKEND_UNREACHABLE": failed} if failed else {},
        speed_up=2.5,
        simulated=succeeded > 0,
    )
    if failed:
        error = {
            "reason": "BACKEND_UNREACHABLE",
            "code": 14,
            "http_status": 502,
            "backend": "backends/stub",
            "count": failed,
        }
        summary.errors.add(outcome=types_pb2.OUTCOME_FAILED, **error)
    summary.wall_time.FromMilliseconds(100)
    summary.sequential_estimate.FromMilliseconds(250)
    summary.queue_wait.count = succeeded
    summary.queue_wait.p50.FromMilliseconds(10)
    summary.queue_wait.p99.FromMilliseconds(12)
    return summary
