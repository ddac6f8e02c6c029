"""Every error this package raises, one tree.

ExpresslaneClientError
├── InputError                 what was passed cannot be sent; nothing has left this process
├── MessageTooLargeError       the request is larger than one message may be; use stream_prompts
├── SessionEndedError          the service has ended the session: it takes no more prompts
└── CallError                  the call ended with a gRPC status
    ├── RefusedError           the service did not accept it, and says why: reason, violations, retry_after_s
    ├── UnavailableError       the service could not be reached, or the connection broke
    └── DeadlineExceededError  the timeout passed before the call ended

What happens to a single prompt of an accepted batch is no exception: it is in `Result.error`.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped,unused-ignore]
from grpc import aio

__all__ = [
    "CallError",
    "DeadlineExceededError",
    "ExpresslaneClientError",
    "FieldViolation",
    "InputError",
    "MessageTooLargeError",
    "RefusedError",
    "SessionEndedError",
    "UnavailableError",
    "from_rpc_error",
]

_DOMAIN = "expresslane.dev"
_FAILED_WRITE = "Internal error from Core"
"""What gRPC puts in the place of a call's status when a message cannot be written any more."""
_STATUS_KEY = "grpc-status-details-bin"


class ExpresslaneClientError(Exception):
    """Base of every error of this package."""


class InputError(ExpresslaneClientError, ValueError):
    """A value that cannot be sent. `field` is its path (`messages[1].role`), `custom_id` its prompt."""

    def __init__(self, message: str, *, field: str = "", custom_id: str = "") -> None:
        where = f"prompt {custom_id!r}: " if custom_id else ""
        super().__init__(f"{where}{f'{field}: ' if field else ''}{message}")
        self.message = message
        self.field = field
        self.custom_id = custom_id


class MessageTooLargeError(ExpresslaneClientError):
    """The request does not fit in one message; nothing of it was accepted."""


class SessionEndedError(ExpresslaneClientError):
    """The session has ended (a FAIL_FAST failure, a stopping service); the summary says how."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault, as a path (`prompts[3].custom_id`), and what is wrong with it."""

    field: str
    description: str
    reason: str = ""


class CallError(ExpresslaneClientError):
    """A call that ended with a gRPC status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RefusedError(CallError):
    """The service did not accept the call.

    `reason` is one of the closed set of errors.proto (`QUEUE_FULL`), `violations` name the fields at fault, at most 20,
    and `retry_after_s` says when coming back can help (None: it cannot, or nobody knows).
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.reason = reason
        self.violations = violations
        self.retry_after_s = retry_after_s


class UnavailableError(CallError):
    """The service could not be reached, or the connection broke before the call ended."""


class DeadlineExceededError(CallError):
    """The timeout passed before the call ended."""


def from_rpc_error(error: aio.AioRpcError) -> ExpresslaneClientError:
    """The error of this package that says what a gRPC error says; raise it `from` that."""
    code = error.code()
    text = error.details() or code.name
    refusal = _refusal(error, code, text)
    if refusal is not None:
        return refusal
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(code, text)
    if code is grpc.StatusCode.INTERNAL and text == _FAILED_WRITE:
        return UnavailableError(grpc.StatusCode.UNAVAILABLE, "the connection broke while a message was sent")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError(code, text)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return MessageTooLargeError(
            f"{text}: send fewer prompts at once, or use stream_prompts, which has no such limit"
        )
    return CallError(code, f"{code.name}: {text}")


def _refusal(error: aio.AioRpcError, code: grpc.StatusCode, text: str) -> RefusedError | None:
    status = _status_details(error)
    if status is None:
        return None
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_after_s: float | None = None
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    if info.domain != _DOMAIN:
        return None
    violations = tuple(FieldViolation(one.field, one.description, one.reason) for one in bad.field_violations)
    return RefusedError(code, text, reason=info.reason, violations=violations, retry_after_s=retry_after_s)


def _status_details(error: aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
