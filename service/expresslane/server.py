"""The gRPC server: services registered from their descriptors, health, reflection, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio
from google.protobuf import message_factory
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from expresslane.errors import ConfigError
from expresslane.v1 import admin_pb2, inference_pb2, jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import ServiceDescriptor

__all__ = ["Server"]

STARTED_AT_ONCE = 10_000
KEEPALIVE_MIN_MS = 10_000
KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
"""A caller that is gone without a word is noticed so long after: its batch is cancelled, or its time begins to run."""

_INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["Inference"]
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"]
_JOBS = jobs_pb2.DESCRIPTOR.services_by_name["Jobs"]
_NAMES = (_INFERENCE.full_name, _ADMIN.full_name, _JOBS.full_name)


class Server:
    """A grpc.aio server with our services, standard health and, if asked for, reflection."""

    def __init__(
        self,
        inference: object,
        admin: object,
        jobs: object,
        *,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        max_message_bytes: int,
        with_reflection: bool,
    ) -> None:
        self._server = grpc.aio.server(
            interceptors=interceptors,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MIN_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                ("grpc.http2.max_pings_without_data", 0),
            ],
        )
        services = ((_INFERENCE, inference), (_ADMIN, admin), (_JOBS, jobs))
        self._server.add_generic_rpc_handlers([_handlers(service, servicer) for service, servicer in services])
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (*_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self, listen: str) -> str:
        """Bind and serve; returns the bound address. Raises ConfigError when the address cannot be had."""
        host = listen.rpartition(":")[0]
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise ConfigError(f"EXPRESSLANE_LISTEN={listen}: cannot listen there: {error}") from None
        await self._server.start()
        for name in ("", *_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return f"{host}:{port}"

    async def not_serving(self) -> None:
        """Turn health to NOT_SERVING for good."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let the open ones end for `grace_s`, then cut them."""
        await self._server.stop(grace_s)


def _handlers(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """Streaming methods are all registered as stream-stream, so that none is handed its request as an argument."""
    handlers: dict[str, Any] = {}
    for method in service.methods:
        make = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        handlers[method.name] = make(
            getattr(servicer, method.name),
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)
