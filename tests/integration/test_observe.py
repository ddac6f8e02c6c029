"""The observing interceptor on a real grpc.aio server: each call's span, status, metric and log line."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest
from expresslane.errors import FieldViolation, Reason, RefusedError
from expresslane.interceptors.observe import ObserveInterceptor
from expresslane.telemetry.spans import Tracer
from expresslane_client import RefusedError as ToldError
from expresslane_client.errors import from_rpc_error
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Context = grpc.aio.ServicerContext[bytes, bytes]

SERVICE = "expresslane.v1.Test"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER_TRACE = 0x0AF7651916CD43DD8448EB211C80319C
SECRET = "the prompt's own words"


class EndedSpans(SpanProcessor):
    """Hands out spans as they end, so that a test waits for one and never sleeps."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[ReadableSpan] = asyncio.Queue()

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.put_nowait(span)


class Handlers:
    """One handler for each way a call can go."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.running = asyncio.Event()
        self.cleaned_up = asyncio.Event()

    async def echo(self, request: bytes, _context: Context) -> bytes:
        return request

    async def child(self, request: bytes, _context: Context) -> bytes:
        self.tracer.start_batch(request_id="", prompts=1, method="Child").end("COMPLETED", {}, cancelled=False)
        return request

    async def refuse(self, _request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        raise AssertionError

    async def raise_refusal(self, _request: bytes, _context: Context) -> bytes:
        raise RefusedError(Reason.EMPTY_BATCH, "no prompts", violations=[FieldViolation("prompts", "at least one")])

    async def set_code(self, request: bytes, context: Context) -> bytes:
        context.set_code(grpc.StatusCode.UNAVAILABLE)
        context.set_details("draining")
        return request

    async def crash(self, _request: bytes, _context: Context) -> bytes:
        raise RuntimeError(SECRET)

    async def unsendable(self, _request: bytes, _context: Context) -> bytes:
        raise grpc.aio.InternalError('Failed "execute_batch"')

    async def wait(self, request: bytes, _context: Context) -> bytes:
        try:
            self.running.set()
            await asyncio.Event().wait()
        finally:
            self.cleaned_up.set()
        return request

    async def write(self, request: bytes, context: Context) -> None:
        for _ in range(3):
            await context.write(request)

    async def generate(self, request: bytes, _context: Context) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield request

    async def generate_and_crash(self, request: bytes, _context: Context) -> AsyncIterator[bytes]:
        yield request
        raise RuntimeError(SECRET)

    async def generate_and_wait(self, request: bytes, _context: Context) -> AsyncIterator[bytes]:
        try:
            yield request
            self.running.set()
            await asyncio.Event().wait()
        finally:
            self.cleaned_up.set()

    async def converse(self, _requests: AsyncIterator[bytes], context: Context) -> None:
        while isinstance(message := await context.read(), bytes):
            await context.write(message)

    async def count(self, requests: AsyncIterator[bytes], _context: Context) -> bytes:
        return str(len([request async for request in requests])).encode()

    def generic(self) -> grpc.GenericRpcHandler:
        unary = ("echo", "child", "refuse", "raise_refusal", "set_code", "crash", "unsendable", "wait")
        stream = ("write", "generate", "generate_and_crash", "generate_and_wait")
        handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(getattr(self, name)) for name in unary}
        handlers |= {name: grpc.unary_stream_rpc_method_handler(getattr(self, name)) for name in stream}
        handlers["converse"] = grpc.stream_stream_rpc_method_handler(self.converse)
        handlers["count"] = grpc.stream_unary_rpc_method_handler(self.count)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)


class Observed:
    """A server under observation, a channel to it, and what was observed."""

    def __init__(self) -> None:
        self.spans = EndedSpans()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.spans)
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.handlers = Handlers(Tracer(provider))
        self.observer = ObserveInterceptor(provider, meters, "1")
        self.server = grpc.aio.server(interceptors=[self.observer])
        self.server.add_generic_rpc_handlers((self.handlers.generic(),))
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self.server)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}")

    def unary(self, method: str, **options: Any) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return call(b"x", **options)

    def stream(self, method: str) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self.channel.unary_stream(f"/{SERVICE}/{method}")
        return call(b"x")

    async def span(self) -> ReadableSpan:
        """The next span to end."""
        return await asyncio.wait_for(self.spans.ended.get(), 10)

    def recorded(self) -> list[tuple[str, str, int]]:
        """(method, code, calls) of the duration metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        (metric,) = (metric for metric in metrics if metric.name == "rpc.server.call.duration")
        assert metric.unit == "s"
        points = [point for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]
        return [(str(_of(p)["rpc.method"]), str(_of(p)["rpc.response.status_code"]), p.count) for p in points]


def _of(observed: ReadableSpan | HistogramDataPoint) -> dict[str, object]:
    return dict(observed.attributes or {})


@pytest.fixture
async def observed() -> AsyncIterator[Observed]:
    """A running server with every handler."""
    running = Observed()
    await running.server.start()
    yield running
    await running.channel.close()
    await running.server.stop(None)


async def test_a_message_that_cannot_be_sent_is_a_cancelled_call(observed: Observed) -> None:
    """A write fails when the caller goes away in the middle of it: that is no defect, and no error of ours."""
    with capture_logs() as logs, contextlib.suppress(grpc.aio.AioRpcError):
        await observed.unary("unsendable")
    span = await observed.span()
    assert span.status.status_code is StatusCode.UNSET
    assert _of(span)["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []


async def test_a_call_has_a_server_span_below_its_callers(observed: Observed) -> None:
    """The span is named by the method, continues the caller's trace and follows the rpc conventions."""
    await observed.unary("echo", metadata=(("traceparent", CALLER),))
    span = await observed.span()
    assert span.name == f"{SERVICE}/echo"
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (CALLER_TRACE, 0xB7AD6B7169203331)
    assert span.status.status_code is StatusCode.UNSET
    assert _of(span) == {
        "rpc.system.name": "grpc",
        "rpc.system": "grpc",
        "rpc.method": f"{SERVICE}/echo",
        "rpc.service": SERVICE,
        "rpc.response.status_code": "OK",
        "rpc.grpc.status_code": 0,
    }


async def test_open_calls_are_counted_to_their_end(observed: Observed) -> None:
    """A call is open from its arrival until its answer is out or its caller has gone; health is not counted."""
    stub: Any = health_pb2_grpc.HealthStub(observed.channel)
    watching = stub.Watch(health_pb2.HealthCheckRequest())
    await anext(aiter(watching))
    assert observed.observer.open_calls == 0
    waiting = observed.unary("wait")
    await observed.handlers.running.wait()
    assert observed.observer.open_calls == 1
    await observed.unary("echo")
    waiting.cancel()
    await asyncio.wait_for(observed.observer.idle(), 10)
    assert observed.observer.open_calls == 0
    watching.cancel()


async def test_calls_that_are_cut_are_unavailable(observed: Observed) -> None:
    """A call that is cut is UNAVAILABLE in its span and to its caller, who learns why and when to come back."""
    waiting = observed.unary("wait")
    await observed.handlers.running.wait()
    observed.observer.cut()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await waiting
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    error = from_rpc_error(raised.value)
    assert isinstance(error, ToldError)
    assert (error.reason, error.retry_after_s) == ("DRAINING", 1.0)
    await asyncio.wait_for(observed.observer.idle(), 10)
    assert _of(await observed.span())["rpc.response.status_code"] == "UNAVAILABLE"


async def test_what_a_handler_starts_is_below_the_call(observed: Observed) -> None:
    """The call's span is the current one inside the handler, and no longer after it."""
    await observed.unary("child", metadata=(("traceparent", CALLER),))
    batch, call = await observed.span(), await observed.span()
    assert batch.parent is not None
    assert call.context is not None
    assert batch.parent.span_id == call.context.span_id


@pytest.mark.parametrize("metadata", [(), (("traceparent", "nonsense"),), (("traceparent-bin", b"\x00"),)])
async def test_a_call_without_usable_context_starts_a_trace(
    observed: Observed, metadata: tuple[tuple[str, str | bytes], ...]
) -> None:
    """Missing or broken trace context is no error."""
    await observed.unary("echo", metadata=metadata)
    assert (await observed.span()).parent is None


@pytest.mark.parametrize("method", ["write", "generate"])
async def test_streamed_answers_pass_whichever_way_they_are_written(observed: Observed, method: str) -> None:
    """A handler may write to the context or yield; both arrive whole and are one span."""
    assert [message async for message in observed.stream(method)] == [b"x"] * 3
    span = await observed.span()
    assert _of(span)["rpc.response.status_code"] == "OK"


async def test_streamed_requests_pass(observed: Observed) -> None:
    """A handler may read from the context or iterate over its requests."""
    converse: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    converse = observed.channel.stream_stream(f"/{SERVICE}/converse")
    assert [message async for message in converse(iter([b"a", b"b"]))] == [b"a", b"b"]
    count: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = observed.channel.stream_unary(f"/{SERVICE}/count")
    assert await count(iter([b"a", b"b", b"c"])) == b"3"
    assert [_of(await observed.span())["rpc.response.status_code"] for _ in range(2)] == ["OK", "OK"]


@pytest.mark.parametrize(
    ("method", "code", "status"),
    [
        ("refuse", grpc.StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNSET),
        ("raise_refusal", grpc.StatusCode.INVALID_ARGUMENT, StatusCode.UNSET),
        ("set_code", grpc.StatusCode.UNAVAILABLE, StatusCode.ERROR),
    ],
)
async def test_a_call_that_is_refused_has_its_own_code(
    observed: Observed, method: str, code: grpc.StatusCode, status: StatusCode
) -> None:
    """An abort, a raised refusal and a code that was set reach the caller and the span alike."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await observed.unary(method)
    assert caught.value.code() is code
    span = await observed.span()
    assert _of(span)["rpc.response.status_code"] == code.name
    assert _of(span)["rpc.grpc.status_code"] == code.value[0]
    assert span.status.status_code is status
    assert observed.recorded() == [(f"{SERVICE}/{method}", code.name, 1)]


async def test_an_unhandled_exception_becomes_internal_and_leaks_nothing(observed: Observed) -> None:
    """The caller gets INTERNAL with our reason and no word of ours; the log gets the traceback, the span the type."""
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
        await observed.unary("crash")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INTERNAL", "expresslane.dev")
    assert SECRET not in repr(caught.value)
    span = await observed.span()
    assert span.status.status_code is StatusCode.ERROR
    assert _of(span)["error.type"] == "RuntimeError"
    assert SECRET not in span.to_json()
    failed = next(line for line in logs if line["event"] == "call failed")
    assert (failed["log_level"], failed["method"]) == ("error", f"{SERVICE}/crash")
    assert isinstance(failed["exc_info"], RuntimeError)


async def test_a_generator_that_fails_midway_is_internal(observed: Observed) -> None:
    """What was yielded before arrives; the end is INTERNAL."""
    call = observed.stream("generate_and_crash")
    assert await call.read() == b"x"
    assert await call.code() is grpc.StatusCode.INTERNAL
    assert _of(await observed.span())["rpc.response.status_code"] == "INTERNAL"


async def test_a_cancelled_call_is_cancelled_and_no_error(observed: Observed) -> None:
    """When the caller cancels, the handler is cancelled and the span says CANCELLED without being an error."""
    call = observed.unary("wait")
    await asyncio.wait_for(observed.handlers.running.wait(), 10)
    call.cancel()
    span = await observed.span()
    assert _of(span)["rpc.response.status_code"] == "CANCELLED"
    assert _of(span)["rpc.grpc.status_code"] == 1
    assert span.status.status_code is StatusCode.UNSET
    assert observed.handlers.cleaned_up.is_set()
    assert observed.recorded() == [(f"{SERVICE}/wait", "CANCELLED", 1)]


async def test_a_cancelled_generator_is_closed(observed: Observed) -> None:
    """A generator handler's own clean-up runs when its caller goes away."""
    call = observed.stream("generate_and_wait")
    assert await call.read() == b"x"
    await asyncio.wait_for(observed.handlers.running.wait(), 10)
    call.cancel()
    assert _of(await observed.span())["rpc.response.status_code"] == "CANCELLED"
    assert observed.handlers.cleaned_up.is_set()


async def test_a_call_past_its_deadline_is_told_from_a_cancelled_one(observed: Observed) -> None:
    """When the caller's deadline passes the span says DEADLINE_EXCEEDED, which is an error."""
    with pytest.raises(grpc.aio.AioRpcError):
        await observed.unary("wait", timeout=0.2)
    span = await observed.span()
    assert _of(span)["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert _of(span)["rpc.grpc.status_code"] == 4
    assert span.status.status_code is StatusCode.ERROR


async def test_cancelling_long_before_the_deadline_is_cancelling(observed: Observed) -> None:
    """A deadline that is far away does not turn a cancel into an expiry."""
    call = observed.unary("wait", timeout=60)
    await asyncio.wait_for(observed.handlers.running.wait(), 10)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert _of(await observed.span())["rpc.response.status_code"] == "CANCELLED"


async def test_each_call_is_one_log_line(observed: Observed) -> None:
    """The access line has method, code, duration and peer."""
    with capture_logs() as logs:
        await observed.unary("echo")
        await observed.span()
    (line,) = logs
    assert (line["event"], line["method"], line["code"]) == ("call", f"{SERVICE}/echo", "OK")
    assert line["duration_s"] >= 0
    assert line["peer"].startswith("ipv4:127.0.0.1:")


async def test_health_is_not_observed(observed: Observed) -> None:
    """Health checks, watches among them, pass untouched: no span, no metric, no log line."""
    stub: Any = health_pb2_grpc.HealthStub(observed.channel)
    with capture_logs() as logs:
        await stub.Check(health_pb2.HealthCheckRequest())
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert await watch.read()
        watch.cancel()
        await observed.unary("echo")
    assert (await observed.span()).name == f"{SERVICE}/echo"
    assert observed.spans.ended.empty()
    assert [line["method"] for line in logs] == [f"{SERVICE}/echo"]


async def test_a_method_that_is_not_there_is_unimplemented(observed: Observed) -> None:
    """An unknown method of ours passes through to the server's own answer."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await observed.unary("nothing")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
