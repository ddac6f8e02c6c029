"""gRPC statuses as the client's errors."""

from __future__ import annotations

import grpc
import pytest
from expresslane_client.errors import (
    CallError,
    DeadlineExceededError,
    ExpresslaneClientError,
    MessageTooLargeError,
    RefusedError,
    UnavailableError,
    from_rpc_error,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped,unused-ignore]
from grpc import aio

KINDS = [
    (grpc.StatusCode.UNAVAILABLE, "no route", UnavailableError),
    (grpc.StatusCode.INTERNAL, "Received RST_STREAM", CallError),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "late", DeadlineExceededError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 8)", MessageTooLargeError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "something else", CallError),
    (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", CallError),
]


def rpc_error(code: grpc.StatusCode, text: str, details: bytes | None = None) -> aio.AioRpcError:
    """What a call raises."""
    trailers = aio.Metadata(("grpc-status-details-bin", details)) if details is not None else aio.Metadata()
    return aio.AioRpcError(code, aio.Metadata(), trailers, text)


@pytest.mark.parametrize(("code", "text", "kind"), KINDS)
def test_a_bare_status_becomes_the_error_for_its_code(
    code: grpc.StatusCode, text: str, kind: type[ExpresslaneClientError]
) -> None:
    """Without details the code decides, and the text is kept."""
    error = from_rpc_error(rpc_error(code, text))
    assert type(error) is kind
    assert text in str(error)


def details(domain: str) -> bytes:
    """The trailer of a refusal."""
    status = status_pb2.Status(code=8, message="full")
    for message in (
        error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain=domain),
        error_details_pb2.BadRequest(field_violations=[{"field": "prompts[0]", "description": "too long"}]),
        error_details_pb2.RetryInfo(retry_delay={"seconds": 2, "nanos": 500_000_000}),
    ):
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    encoded: bytes = status.SerializeToString()
    return encoded


def test_details_become_a_refusal() -> None:
    """Reason, fields at fault and the time to come back are values, not text to parse."""
    error = from_rpc_error(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", details("expresslane.dev")))
    assert isinstance(error, RefusedError)
    assert (error.reason, error.retry_after_s) == ("QUEUE_FULL", 2.5)
    assert [(one.field, one.description) for one in error.violations] == [("prompts[0]", "too long")]


@pytest.mark.parametrize("trailer", [details("elsewhere.example"), b"\xff not protobuf"])
def test_foreign_details_are_not_ours(trailer: bytes) -> None:
    """Details of a proxy, or broken ones, do not hide the status."""
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "proxy", trailer))
    assert type(error) is UnavailableError


def test_a_write_that_failed_is_a_lost_connection() -> None:
    """A call that could not be written to has a status of gRPC's own, whatever ended it."""
    error = from_rpc_error(rpc_error(grpc.StatusCode.INTERNAL, "Internal error from Core"))
    assert isinstance(error, UnavailableError)
    assert error.code is grpc.StatusCode.UNAVAILABLE
