"""The gRPC channel: its options, its metadata with the caller's trace context, and how its errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from expresslane_client.errors import CallError, MessageTooLargeError, from_rpc_error

if TYPE_CHECKING:
    from google.protobuf.message import Message

try:
    from opentelemetry import propagate
except (ImportError, ValueError):  # not installed, or OTEL_PROPAGATORS names one that is not
    propagate = None  # type: ignore[assignment,unused-ignore]

__all__ = ["MESSAGE_BYTES_MAX", "Metadata", "check_size", "open_channel", "translated_errors", "with_trace_context"]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""The service's own default limit for one message."""

Metadata = Sequence[tuple[str, str]]


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None, message_bytes_max: int, server_name: str = ""
) -> aio.Channel:
    """A channel that takes messages as large as the service sends and notices a dead peer within a minute or two.

    `server_name`: the name that the service's certificate is for, where that is not the target's.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.max_receive_message_length", max(message_bytes_max, MESSAGE_BYTES_MAX)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # A restarted service is found again within a second, not after gRPC's back-off of up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    if credentials is None:
        return aio.insecure_channel(target, options=options)
    return aio.secure_channel(target, credentials, options=options)


def with_trace_context(metadata: Metadata) -> Metadata:
    """The metadata plus the W3C trace context of the caller, where opentelemetry-api is installed."""
    if propagate is None:
        return metadata
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return (*metadata, *carrier.items())


def check_size(request: Message, message_bytes_max: int) -> None:
    """Raise MessageTooLargeError before anything is sent, where gRPC would only say RESOURCE_EXHAUSTED."""
    size = request.ByteSize()
    if size > message_bytes_max:
        raise MessageTooLargeError(
            f"the request has {size:,} bytes, one message may have {message_bytes_max:,}: "
            "send fewer prompts at once, or use stream_prompts, which has no such limit"
        )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise gRPC's errors as ours; a status of CANCELLED does not look like a cancelled task."""
    try:
        yield
    except aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CallError(grpc.StatusCode.CANCELLED, "the call was cancelled") from None


def as_metadata(values: Mapping[str, str] | Metadata) -> Metadata:
    """Metadata as gRPC wants it: pairs, names in lower case."""
    pairs = values.items() if isinstance(values, Mapping) else values
    return tuple((name.lower(), value) for name, value in pairs)
