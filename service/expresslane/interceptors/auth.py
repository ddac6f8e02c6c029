"""The door: who is calling, whether the call is let in, and how many may be in at once.

It stands before everything else, so that a call that is not let in costs little: no message of it is read, it has no
span, and its log lines are limited. Health is open to all, reflection too where it is switched on; of their streams no
more than 1,000 may be open.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from expresslane.auth.access import DeniedError
from expresslane.auth.caller import Caller
from expresslane.errors import Reason, RefusedError, status_code
from expresslane.identity import DEFAULT_TENANT, authenticated_as
from expresslane.interceptors.open_calls import OpenCalls
from expresslane.interceptors.streams import written_out
from expresslane.servicers.status import abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from expresslane.auth.access import Access

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Behaviour = Callable[[Any, Context], Awaitable[Any]]

__all__ = ["AuthInterceptor"]

_OURS = "/expresslane.v1."
_ADMIN = "/expresslane.v1.Admin/"
OPEN_STREAMS_MAX = 1_000
"""Streams of health and reflection together: nobody has to show a key for them."""

log = structlog.get_logger(__name__)


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls in or not. `refused(method, code)` is told of each that is not. Put it first.

    `max_open_calls`: at once, in all; `max_open_calls_of`: of a tenant, 0 where it has no bound of its own.
    """

    def __init__(
        self,
        access: Access,
        *,
        max_open_calls: int,
        max_open_calls_of: Callable[[str], int] = lambda _: 0,
        refused: Callable[[str, grpc.StatusCode], None] = lambda _method, _code: None,
    ) -> None:
        self._access = access
        self._refused = refused
        self.open_calls = OpenCalls(max_open_calls, max_open_calls_of, setting="EXPRESSLANE_MAX_OPEN_CALLS")
        self.open_streams = OpenCalls(OPEN_STREAMS_MAX)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the door before the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if not method.startswith(_OURS) and not handler.response_streaming:
            return handler
        sides = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if streaming else "unary" for streaming in sides)
        behaviour = getattr(handler, kind)
        run = written_out(behaviour) if inspect.isasyncgenfunction(behaviour) else behaviour
        guard = self._guarded(method, run) if method.startswith(_OURS) else self._counted(run)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(guard, handler.request_deserializer, handler.response_serializer)
        return wrapped

    def _guarded(self, method: str, run: Behaviour) -> Behaviour:
        counted = not method.startswith(_ADMIN)

        async def guarded(request: Any, context: Context) -> Any:
            caller = Caller()
            try:
                caller = self._let_in(method, context)
                if counted:
                    self.open_calls.enter(caller.tenant)
            except RefusedError as refusal:
                self._tell(method, context, refusal, caller)
                await abort(context, refusal)
            if counted:
                context.add_done_callback(lambda _: self.open_calls.leave(caller.tenant))  # type: ignore[arg-type]
            authenticated_as(caller.tenant)  # a call is a task of its own: nobody else sees it
            if caller.key_id or caller.tenant != DEFAULT_TENANT:
                structlog.contextvars.bind_contextvars(tenant=caller.tenant, key=caller.key_id)
            return await run(request, context)

        return guarded

    def _counted(self, run: Behaviour) -> Behaviour:
        async def counted(request: Any, context: Context) -> Any:
            try:
                self.open_streams.enter("")
            except RefusedError as refusal:
                await abort(context, refusal)
            context.add_done_callback(lambda _: self.open_streams.leave(""))  # type: ignore[arg-type]
            return await run(request, context)

        return counted

    def _let_in(self, method: str, context: Context) -> Caller:
        caller = self._access.identify(context.invocation_metadata() or (), context.auth_context)
        if not caller.admin and method.startswith(_ADMIN):
            message = "this service is for administrators"
            raise DeniedError(Reason.NOT_PERMITTED, message, "no administrator", caller.key_id, caller.tenant)
        return caller

    def _tell(self, method: str, context: Context, refusal: RefusedError, caller: Caller) -> None:
        """One limited line for each kind of refusal: the log must not grow with what strangers send."""
        code = status_code(refusal.reason)
        self._refused(method.removeprefix("/"), code)
        why, key_id, tenant = refusal.reason.value, caller.key_id, caller.tenant
        if isinstance(refusal, DeniedError):
            why, key_id, tenant = refusal.why, refusal.key_id, refusal.tenant
        event = f"call refused: {why}"  # each kind is limited by itself
        log.warning(event, method=method[1:], code=code.name, key=key_id, tenant=tenant, peer=context.peer())
