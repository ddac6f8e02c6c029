"""The server interceptor that observes each call: its span, one duration record, one log line, and its true status.

Only `/expresslane.v1.*` is observed; health and reflection pass untouched. Also the last line of defence: an exception
that nobody handled becomes INTERNAL with no details of ours in it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog
from opentelemetry import context as otel_context
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Status, StatusCode, TracerProvider, set_span_in_context

from expresslane.arrivals import NoMessageError
from expresslane.errors import DRAIN_RETRY_NS, Reason, RefusedError, status_code
from expresslane.interceptors.handlers import Made, behaviour_of, with_behaviour
from expresslane.interceptors.refusals import tell
from expresslane.servicers.status import abort
from expresslane.telemetry import names
from expresslane.telemetry.propagation import context_from_metadata

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

__all__ = ["ObserveInterceptor"]

_PREFIX = "/expresslane.v1."
_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600)
_SERVER_ERRORS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that the conventions count as the server's errors; the others are the caller's own doing."""
_BAD_CALLS = frozenset(
    {Reason.MALFORMED_MESSAGE, Reason.PROTOCOL_VIOLATION, Reason.FIRST_MESSAGE_TIMEOUT, Reason.ARRIVING_FULL}
)
"""Refusals of what a call is, not of what it asks: each kind has a few lines, not one a call."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}

log = structlog.get_logger(__name__)


class ObserveInterceptor(grpc.aio.ServerInterceptor):
    """Put it first, so that it sees what every other interceptor and the handler end in.

    `counted(method, refusal)` is told of each call that is refused.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        version: str = "",
        *,
        counted: Callable[[str, RefusedError], None] = lambda _method, _refusal: None,
    ) -> None:
        self.counted = counted
        self._tracer = (tracer_provider or NoOpTracerProvider()).get_tracer(names.SCOPE, version)
        meter = (meter_provider or NoOpMeterProvider()).get_meter(names.SCOPE, version)
        self._duration = meter.create_histogram(
            names.METRIC_RPC_DURATION,
            "s",
            "Duration of a call, from its arrival to its end",
            explicit_bucket_boundaries_advisory=_BOUNDS_S,
        )
        self._made = Made(self._observed)
        self._cutting = False
        self._handlers: set[asyncio.Task[Any]] = set()
        self.open_calls = 0
        """Calls whose last byte has not been sent."""
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def idle(self) -> None:
        """Return once no call is open."""
        await self._none_open.wait()

    def cut(self) -> None:
        """End every call that is left with UNAVAILABLE (DRAINING): the service stops."""
        self._cutting = True
        for handler in self._handlers:
            handler.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of a call that is ours."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_PREFIX):
            return handler
        return self._made.of(method, handler)

    def _observed(self, method: str, handler: Handler) -> Handler:
        name, run = method.removeprefix("/"), behaviour_of(handler)

        async def observed(request: Any, context: Context) -> Any:
            call = _Call(self, name, context)
            self._opened(context)
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            try:
                response = await run(request, context)
            except BaseException as error:
                self._handlers.discard(task)  # it is ending: it must not be cut on its last words
                await call.failed(error, cut=self._cutting)
                raise
            else:
                call.ended(_code_of(context))
                return response
            finally:
                self._handlers.discard(task)
                call.detach()

        return with_behaviour(handler, observed)

    def _opened(self, context: Context) -> None:
        self.open_calls += 1
        self._none_open.clear()
        context.add_done_callback(self._done)  # type: ignore[arg-type] # the stub wants a class where any callable will do

    def _done(self, _: Context) -> None:
        self.open_calls -= 1
        if not self.open_calls:
            self._none_open.set()

    def start_span(self, name: str, context: Context) -> tuple[Span, Any]:
        """A call's span below its caller's, and the token that puts it in the current context."""
        service, _, _ = name.partition("/")
        parent = context_from_metadata(context.invocation_metadata())
        span = self._tracer.start_span(
            name,
            parent,
            SpanKind.SERVER,
            {
                names.RPC_SYSTEM_NAME: "grpc",
                names.RPC_SYSTEM: "grpc",
                names.RPC_METHOD: name,
                names.RPC_SERVICE: service,
            },
        )
        return span, otel_context.attach(set_span_in_context(span, parent))

    def refused(self, name: str, code: grpc.StatusCode) -> None:
        """Count a call that was not let in, which took no time and has no span."""
        self.record(name, code, 0.0)

    def record(self, name: str, code: grpc.StatusCode, duration_s: float) -> None:
        """Count a call by its duration."""
        self._duration.record(
            duration_s, {names.RPC_SYSTEM_NAME: "grpc", names.RPC_METHOD: name, names.RPC_STATUS: code.name}
        )


class _Call:
    """One observed call, from its arrival to its one end."""

    def __init__(self, observer: ObserveInterceptor, name: str, context: Context) -> None:
        self._observer = observer
        self._name = name
        self._context = context
        self._start_s = time.monotonic()
        self._allowed_s = context.time_remaining()
        self._span, self._token = observer.start_span(name, context)

    def detach(self) -> None:
        """Take the span out of the current context again."""
        otel_context.detach(self._token)

    async def failed(self, error: BaseException, *, cut: bool = False) -> None:
        """End the call with what its handler raised. An unhandled exception is answered here, and a cut."""
        refusal = error.__cause__ if isinstance(error.__cause__, RefusedError) else None
        if (told := error if isinstance(error, RefusedError) else refusal) is not None:
            self._observer.counted(self._name, told)
        if isinstance(error, grpc.aio.AbortError):
            self.ended(_code_of(self._context), refusal=refusal)
        elif isinstance(error, asyncio.CancelledError) and cut:
            await self._answer(RefusedError(Reason.DRAINING, "the service has stopped", retry_after_ns=DRAIN_RETRY_NS))
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit, grpc.aio.InternalError)):
            # InternalError: a message could not be sent, because the caller went away just then
            self.ended(self._cancelled_code(), refusal=refusal, unread=isinstance(error, NoMessageError))
        elif isinstance(error, RefusedError):
            await self._answer(error)
        else:
            log.error("call failed", method=self._name, exc_info=error)
            await self._answer(RefusedError(Reason.INTERNAL, "internal error"), type(error).__qualname__)

    def _cancelled_code(self) -> grpc.StatusCode:
        """Why a call was cancelled: by its deadline, or by its caller."""
        if self._allowed_s is not None and time.monotonic() - self._start_s >= self._allowed_s - self._slack_s():
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.CANCELLED

    def ended(
        self, code: grpc.StatusCode, error_type: str = "", *, refusal: RefusedError | None = None, unread: bool = False
    ) -> None:
        """Close the span, record the duration, write the log line. `unread`: no message of it was there yet."""
        duration_s = time.monotonic() - self._start_s
        if self._span.is_recording():
            attributes: dict[str, AttributeValue] = {
                names.RPC_STATUS: code.name,
                names.RPC_GRPC_STATUS_CODE: code.value[0],
            }
            if code is grpc.StatusCode.CANCELLED:
                attributes[names.CANCELLED] = True
            if code in _SERVER_ERRORS:
                attributes[names.ERROR_TYPE] = error_type or code.name
                self._span.set_status(Status(StatusCode.ERROR, code.name))
            self._span.set_attributes(attributes)
        self._span.end()
        self._observer.record(self._name, code, duration_s)
        facts = {"method": self._name, "code": code.name, "peer": self._context.peer()}
        if refusal is not None and refusal.reason in _BAD_CALLS:
            tell(self._name, self._context, refusal)
        elif unread:  # what gRPC refuses itself looks like this too: metadata without end, a message that is too large
            log.warning("call ended before its first message", **facts)
        else:
            reason = {} if refusal is None else {"reason": refusal.reason.value}
            log.info("call", **facts, **reason, duration_s=round(duration_s, 6))

    async def _answer(self, refusal: RefusedError, error_type: str = "") -> None:
        """Send the refusal as the call's status; if the caller is gone by now, there is nobody to tell."""
        try:
            await abort(self._context, refusal)
        except BaseException:
            self.ended(status_code(refusal.reason), error_type, refusal=refusal)
            raise

    def _slack_s(self) -> float:
        """A caller whose deadline has passed resets the call a little before the server's own clock says so."""
        return max(0.05, 0.01 * (self._allowed_s or 0.0))


def _code_of(context: Context) -> grpc.StatusCode:
    """The code that a handler has set or aborted with; OK when it did neither."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)
