"""Refusals as gRPC statuses: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo, under 4 KiB."""

from __future__ import annotations

from typing import NoReturn

import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from expresslane.errors import ERROR_DOMAIN, FieldViolation, Reason, RefusedError, status_code

__all__ = ["abort", "details", "invalid"]

MAX_VIOLATIONS = 20
MAX_TEXT_CHARS = 120
MAX_MESSAGE_BYTES = 512
MAX_STATUS_BYTES = 1_900  # beside the details' base64 the trailers hold the message again, percent-encoded


def details(error: RefusedError) -> status_pb2.Status:
    """The status message of a refusal, with as many of its violations as fit."""
    shown = len(error.violations[:MAX_VIOLATIONS])
    while (status := _status(error, shown)).ByteSize() > MAX_STATUS_BYTES and shown > 1:
        shown -= 1
    return status


def _status(error: RefusedError, shown: int) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)
    packed = [_pack(info)]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations[:shown]:
            bad.field_violations.add(
                field=violation.field[:MAX_TEXT_CHARS],
                description=violation.description[:MAX_TEXT_CHARS],
                reason=violation.reason,
            )
        packed.append(_pack(bad))
    if error.retry_after_ns is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(error.retry_after_ns)
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    message = error.message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    code: int = status_code(error.reason).value[0]
    return status_pb2.Status(code=code, message=message, details=packed)


def invalid(field: str, description: str) -> RefusedError:
    """The refusal of a call for one field."""
    violation = FieldViolation(field, description)
    return RefusedError(Reason.INVALID_FIELD, f"{field}: {description}", violations=[violation])


async def abort(context: grpc.aio.ServicerContext, error: RefusedError) -> NoReturn:  # type: ignore[type-arg]
    """End the call with a refusal, which whoever observes the call finds as the cause of what is raised."""
    try:
        await context.abort_with_status(rpc_status.to_status(details(error)))
    except (grpc.aio.AbortError, grpc.aio.InternalError) as ended:  # internal: gRPC has ended the call itself
        raise ended from error
    raise AssertionError("abort always raises")


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
