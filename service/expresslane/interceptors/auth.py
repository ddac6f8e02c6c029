"""The door: who is calling, whether the call is let in, and how many may be in at once.

It stands before everything else, so that a call that is not let in costs little: no message of it is read, it has no
span, and its log lines are limited. What is open to all has another door, open_methods.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from expresslane.auth.access import DeniedError
from expresslane.auth.caller import Caller
from expresslane.errors import Reason, RefusedError
from expresslane.identity import DEFAULT_TENANT, authenticated_as
from expresslane.interceptors.handlers import Made, behaviour_of, with_behaviour
from expresslane.interceptors.open_calls import OpenCalls
from expresslane.interceptors.refusals import check_metadata, tell
from expresslane.servicers.status import abort
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from expresslane.auth.access import Access

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

__all__ = ["AuthInterceptor"]

_OURS = "/expresslane.v1."
_ADMIN = "/expresslane.v1.Admin/"


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls of ours in or not. `refused(method, code)` is told of each that is not. Put it first.

    `counted(method, refusal)` is told too. `heard(peer)` is told of each call.

    `max_open_calls`: at once, in all; `max_open_calls_of`: of a tenant, 0 where it has no bound of its own.
    """

    def __init__(
        self,
        access: Access,
        *,
        max_open_calls: int,
        max_open_calls_of: Callable[[str], int] = lambda _: 0,
        setting_of: Callable[[str], str] = lambda tenant: environment_name(f"tenants.{tenant}.max_open_calls"),
        refused: Callable[[str, grpc.StatusCode], None] = lambda _method, _code: None,
        counted: Callable[[str, RefusedError], None] = lambda _method, _refusal: None,
        heard: Callable[[str], None] | None = None,
    ) -> None:
        self._heard = heard
        self._access = access
        self._made = Made(self._guarded)
        self._refused = refused
        self._counted = counted
        self.open_calls = OpenCalls(
            max_open_calls,
            max_open_calls_of,
            setting="EXPRESSLANE_MAX_OPEN_CALLS",
            setting_of=setting_of,
        )

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the door before the handler of a call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OURS):
            return handler
        return self._made.of(method, handler)

    def _guarded(self, method: str, handler: Handler) -> Handler:
        run = behaviour_of(handler)
        counted = not method.startswith(_ADMIN)

        async def guarded(request: Any, context: Context) -> Any:
            caller = Caller()
            if self._heard is not None:
                self._heard(context.peer())
            try:
                check_metadata(context)
                caller = self._let_in(method, context)
                if counted:
                    self.open_calls.enter(caller.tenant)
            except RefusedError as refusal:
                code = tell(method, context, refusal, key=caller.key_id, tenant=caller.tenant)
                self._refused(method.removeprefix("/"), code)
                self._counted(method.removeprefix("/"), refusal)
                await abort(context, refusal)
            if counted:
                context.add_done_callback(lambda _: self.open_calls.leave(caller.tenant))  # type: ignore[arg-type]
            authenticated_as(caller.tenant)  # a call is a task of its own: nobody else sees it
            if caller.key_id or caller.tenant != DEFAULT_TENANT:
                structlog.contextvars.bind_contextvars(tenant=caller.tenant, key=caller.key_id)
            return await run(request, context)

        return with_behaviour(handler, guarded)

    def _let_in(self, method: str, context: Context) -> Caller:
        caller = self._access.identify(context.invocation_metadata() or (), context.auth_context)
        if not caller.admin and method.startswith(_ADMIN):
            message = "this service is for administrators"
            raise DeniedError(Reason.NOT_PERMITTED, message, "no administrator", caller.key_id, caller.tenant)
        return caller
