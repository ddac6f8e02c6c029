"""The gRPC servers: services registered from their descriptors, health, reflection, limits, TLS.

Admin is on the main server, or on one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio
from google.protobuf import message_factory
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from expresslane.errors import ConfigError, Reason, RefusedError
from expresslane.identity import tenant_of
from expresslane.listening import why_not
from expresslane.v1 import admin_pb2, inference_pb2, jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from google.protobuf.descriptor import Descriptor, ServiceDescriptor

    from expresslane.arrivals import Arrivals
    from expresslane.tls import Tls

__all__ = ["Server"]

KEEPALIVE_MIN_MS = 10_000
PENDING_CALLS = 20_000
"""Calls that have arrived and are not looked at yet. gRPC's own bound is a tenth, and beyond it calls end CANCELLED:
these get to the door, which says why they are not let in."""
METADATA_BYTES = 64 * 1024
"""gRPC refuses more metadata itself, and nobody can say that in the log: so it takes more than the door lets in."""
KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
"""A caller that is gone without a word is noticed so long after: its batch is cancelled, or its time begins to run."""

_READ_THEMSELVES = frozenset({"CollectBatch"})
"""Methods with one response that are not handed their request: they let go of it before they answer."""

_INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["Inference"]
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"]
_JOBS = jobs_pb2.DESCRIPTOR.services_by_name["Jobs"]


class Server:
    """One grpc.aio server with our services, or two where Admin listens apart; each with health and reflection."""

    def __init__(
        self,
        inference: object,
        admin: object,
        jobs: object,
        *,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        max_message_bytes: int,
        arrivals: Arrivals,
        admin_arrivals: Arrivals,
        with_reflection: bool,
        admin_apart: bool = False,
        tls: Tls | None = None,
    ) -> None:
        self._tls = tls
        self._arrivals = arrivals
        self._admin_arrivals = admin_arrivals
        self._health = health.aio.HealthServicer()
        self._options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES),
            # What a call may send before it is read: HTTP/2's 64 KiB. With it gRPC would give every call megabytes.
            ("grpc.http2.bdp_probe", 0),
            # Without it frames stay at 16 KiB: a large message comes in pieces that the C library does not give back.
            ("grpc.http2.max_frame_size", 1024 * 1024),
            ("grpc.server.max_pending_requests", PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MIN_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        work, administration = [(_INFERENCE, inference), (_JOBS, jobs)], [(_ADMIN, admin)]
        self._main = self._make(work if admin_apart else work + administration, interceptors, with_reflection)
        self._apart = self._make(administration, interceptors, with_reflection) if admin_apart else None
        self.admin_address = ""

    def _make(
        self,
        services: list[tuple[ServiceDescriptor, object]],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        with_reflection: bool,
    ) -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=interceptors, options=self._options)
        server.add_generic_rpc_handlers([self._handlers(service, servicer) for service, servicer in services])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if with_reflection:
            names = [service.full_name for service, _ in services]
            reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    async def start(self, listen: str, admin_listen: str = "") -> str:
        """Bind and serve; returns the bound address. Raises ConfigError when an address cannot be had."""
        address = self._bind(self._main, "EXPRESSLANE_LISTEN", listen)
        self.admin_address = address
        if self._apart is not None:
            self.admin_address = self._bind(self._apart, "EXPRESSLANE_ADMIN_LISTEN", admin_listen)
            await self._apart.start()
        await self._main.start()
        for name in ("", *(service.full_name for service in (_INFERENCE, _ADMIN, _JOBS))):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return address

    def _bind(self, server: grpc.aio.Server, variable: str, listen: str) -> str:
        host = listen.rpartition(":")[0]
        try:
            if self._tls is not None and self._tls.on:
                port = server.add_secure_port(listen, self._tls.credentials())
            else:
                port = server.add_insecure_port(listen)
        except RuntimeError:
            cause = f"{variable}={listen}: cannot listen there: {why_not(listen)}"
            raise ConfigError(f"{cause}; set {variable}=HOST:PORT to another address") from None
        return f"{host}:{port}"

    async def not_serving(self) -> None:
        """Turn health to NOT_SERVING for good."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let the open ones end for `grace_s`, then cut them."""
        await self._main.stop(grace_s)
        if self._apart is not None:
            await self._apart.stop(grace_s)

    def _handlers(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """The handlers of a service, all stream-stream.

        So no message is read before its call has been let in, and none is handed over as an argument, which would keep
        it.
        """
        arrivals = self._admin_arrivals if service is _ADMIN else self._arrivals
        handlers: dict[str, Any] = {}
        for method in service.methods:
            behaviour = getattr(servicer, method.name)
            own = method.server_streaming or method.name in _READ_THEMSELVES
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(
                behaviour if own else _unary(behaviour, arrivals),
                request_deserializer=_parser(method.input_type),
                response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
            )
        return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _unary(
    behaviour: Callable[[Any, Any], Awaitable[Any]], arrivals: Arrivals
) -> Callable[[Any, Any], Awaitable[None]]:
    """A method with one request and one response, over a stream of each."""

    async def run(_: object, context: Any) -> None:
        await context.write(await arrivals.take_in(context, tenant_of(context), behaviour))

    return run


def _parser(message_type: Descriptor) -> Callable[[bytes], Any]:
    """Bytes into a message. Raises RefusedError for bytes that are none; gRPC lets it pass to whoever reads."""
    parse = message_factory.GetMessageClass(message_type).FromString

    def parser(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            name = message_type.full_name
            raise RefusedError(Reason.MALFORMED_MESSAGE, f"the message is no {name}: its bytes do not parse") from None

    return parser
