"""Every error of the service, one closed set.

ExpresslaneError
├── ConfigError             the environment does not make sense; the process does not start
├── RefusedError            a call that cannot be accepted: becomes a gRPC status with ErrorInfo
└── BackendError            one attempt at one backend went wrong: becomes a retry or a PromptError in-band
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DRAIN_RETRY_NS",
    "ERROR_DOMAIN",
    "AttemptError",
    "BackendError",
    "ConfigError",
    "ExpresslaneError",
    "FieldViolation",
    "PromptError",
    "Reason",
    "RefusedError",
    "Refuses",
    "encodable",
    "status_code",
]

ERROR_DOMAIN = "expresslane.dev"
DRAIN_RETRY_NS = 10**9
"""When to look for another service: this one will not come back, and it does not know what takes its place."""


class Reason(StrEnum):
    """Why something did not succeed; the names of errors.proto without their prefix."""

    INVALID_FIELD = "INVALID_FIELD"
    EMPTY_BATCH = "EMPTY_BATCH"
    MISSING_CUSTOM_ID = "MISSING_CUSTOM_ID"
    DUPLICATE_CUSTOM_ID = "DUPLICATE_CUSTOM_ID"
    PROMPT_TOO_LARGE = "PROMPT_TOO_LARGE"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    ANSWER_TOO_LARGE = "ANSWER_TOO_LARGE"
    INVALID_JSON = "INVALID_JSON"
    COLLIDING_KEY = "COLLIDING_KEY"
    UNSUPPORTED = "UNSUPPORTED"
    ABOVE_RATE_LIMIT = "ABOVE_RATE_LIMIT"
    QUEUE_FULL = "QUEUE_FULL"
    DRAINING = "DRAINING"
    CREDITS_EXCEEDED = "CREDITS_EXCEEDED"
    PROTOCOL_VIOLATION = "PROTOCOL_VIOLATION"
    JOBS_FULL = "JOBS_FULL"
    CLASS_NOT_ALLOWED = "CLASS_NOT_ALLOWED"
    TENANTS_FULL = "TENANTS_FULL"
    KEPT_FULL = "KEPT_FULL"
    UNREAD_FULL = "UNREAD_FULL"
    ARRIVING_FULL = "ARRIVING_FULL"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    UNKNOWN_BACKEND = "UNKNOWN_BACKEND"
    CONCURRENCY_UNSUPPORTED = "CONCURRENCY_UNSUPPORTED"
    UNKNOWN_JOB = "UNKNOWN_JOB"
    UNKNOWN_REQUEST = "UNKNOWN_REQUEST"
    JOB_EXISTS = "JOB_EXISTS"
    REQUEST_EXISTS = "REQUEST_EXISTS"
    FIRST_MESSAGE_TIMEOUT = "FIRST_MESSAGE_TIMEOUT"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    FIRST_TOKEN_TIMEOUT = "FIRST_TOKEN_TIMEOUT"  # noqa: S105 - a token of a model
    IDLE_TIMEOUT = "IDLE_TIMEOUT"
    ATTEMPT_TIMEOUT = "ATTEMPT_TIMEOUT"
    CALLER_DEADLINE = "CALLER_DEADLINE"
    NO_BACKEND = "NO_BACKEND"
    CANCELLED = "CANCELLED"
    BATCH_FAILED = "BATCH_FAILED"
    BACKEND_UNREACHABLE = "BACKEND_UNREACHABLE"
    BACKEND_DISCONNECTED = "BACKEND_DISCONNECTED"
    BACKEND_OVERLOADED = "BACKEND_OVERLOADED"
    BACKEND_RATE_LIMITED = "BACKEND_RATE_LIMITED"
    BACKEND_QUOTA_EXHAUSTED = "BACKEND_QUOTA_EXHAUSTED"
    BACKEND_ERROR = "BACKEND_ERROR"
    BACKEND_REJECTED = "BACKEND_REJECTED"
    BACKEND_UNAUTHORIZED = "BACKEND_UNAUTHORIZED"
    BACKEND_MALFORMED = "BACKEND_MALFORMED"
    ANSWER_OVER_LIMIT = "ANSWER_OVER_LIMIT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_PERMITTED = "NOT_PERMITTED"
    MODEL_NOT_PERMITTED = "MODEL_NOT_PERMITTED"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    METADATA_TOO_LARGE = "METADATA_TOO_LARGE"
    INTERNAL = "INTERNAL"


_CODES: dict[grpc.StatusCode, tuple[Reason, ...]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        Reason.INVALID_FIELD,
        Reason.EMPTY_BATCH,
        Reason.MISSING_CUSTOM_ID,
        Reason.DUPLICATE_CUSTOM_ID,
        Reason.PROMPT_TOO_LARGE,
        Reason.BATCH_TOO_LARGE,
        Reason.ANSWER_TOO_LARGE,
        Reason.INVALID_JSON,
        Reason.COLLIDING_KEY,
        Reason.UNSUPPORTED,
        Reason.ABOVE_RATE_LIMIT,
        Reason.PROTOCOL_VIOLATION,
        Reason.BACKEND_REJECTED,
        Reason.MALFORMED_MESSAGE,
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        Reason.QUEUE_FULL,
        Reason.CREDITS_EXCEEDED,
        Reason.JOBS_FULL,
        Reason.TENANTS_FULL,
        Reason.KEPT_FULL,
        Reason.UNREAD_FULL,
        Reason.ARRIVING_FULL,
        Reason.BACKEND_RATE_LIMITED,
        Reason.BACKEND_QUOTA_EXHAUSTED,
        Reason.ANSWER_OVER_LIMIT,
        Reason.TOO_MANY_CALLS,
        Reason.METADATA_TOO_LARGE,
    ),
    grpc.StatusCode.UNAVAILABLE: (
        Reason.DRAINING,
        Reason.NO_BACKEND,
        Reason.BACKEND_UNREACHABLE,
        Reason.BACKEND_DISCONNECTED,
        Reason.BACKEND_OVERLOADED,
    ),
    grpc.StatusCode.NOT_FOUND: (
        Reason.UNKNOWN_MODEL,
        Reason.UNKNOWN_BACKEND,
        Reason.UNKNOWN_JOB,
        Reason.UNKNOWN_REQUEST,
    ),
    grpc.StatusCode.ALREADY_EXISTS: (Reason.JOB_EXISTS, Reason.REQUEST_EXISTS),
    grpc.StatusCode.FAILED_PRECONDITION: (Reason.CONCURRENCY_UNSUPPORTED,),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        Reason.FIRST_MESSAGE_TIMEOUT,
        Reason.QUEUE_TIMEOUT,
        Reason.FIRST_TOKEN_TIMEOUT,
        Reason.IDLE_TIMEOUT,
        Reason.ATTEMPT_TIMEOUT,
        Reason.CALLER_DEADLINE,
    ),
    grpc.StatusCode.CANCELLED: (Reason.CANCELLED, Reason.BATCH_FAILED),
    grpc.StatusCode.UNAUTHENTICATED: (Reason.UNAUTHENTICATED,),
    grpc.StatusCode.PERMISSION_DENIED: (
        Reason.NOT_PERMITTED,
        Reason.MODEL_NOT_PERMITTED,
        Reason.CLASS_NOT_ALLOWED,
        Reason.BACKEND_UNAUTHORIZED,
    ),
    grpc.StatusCode.INTERNAL: (Reason.BACKEND_ERROR, Reason.BACKEND_MALFORMED, Reason.INTERNAL),
}
_CODE_BY_REASON = {reason: code for code, reasons in _CODES.items() for reason in reasons}


def encodable(text: str) -> str:
    """The text as a message can carry it: header bytes that are no UTF-8 come as lone surrogates."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def status_code(reason: Reason) -> grpc.StatusCode:
    """The one gRPC status code that goes with a reason, for a whole call and for one prompt alike."""
    return _CODE_BY_REASON[reason]


class ExpresslaneError(Exception):
    """Base of every error of the service."""


class ConfigError(ExpresslaneError):
    """The environment does not make sense. The text names each variable at fault, one a line."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault, as a path (`prompts[3].custom_id`), and what is wrong with it."""

    field: str
    description: str
    reason: Reason = Reason.INVALID_FIELD


class RefusedError(ExpresslaneError):
    """A call that is refused before any of its work is accepted. `prompts`: how many it brought, 0 if nobody knows."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        retry_after_ns: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.retry_after_ns = retry_after_ns
        self.metadata = metadata or {}
        self.prompts = 0


class Refuses(StrEnum):
    """What a backend says that it refuses whatever the prompt: the service's own key or quota, or the model."""

    KEY = "key"
    MODEL = "model"


class BackendError(ExpresslaneError):
    """One attempt at one backend went wrong.

    `retryable`: whether another attempt may succeed. `retry_after_s`: how long the backend asked to be left alone.
    `refuses`: what the next prompt would be refused for too; None: nobody knows, it may be this prompt alone.
    `provider_body` is cut to 2,048 bytes of UTF-8.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        http_status: int = 0,
        provider_code: str = "",
        provider_body: str = "",
        provider_request_id: str = "",
        field: str = "",
        refuses: Refuses | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = encodable(message)
        self.refuses = refuses
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.http_status = http_status
        self.provider_code = encodable(provider_code)
        self.provider_body = encodable(provider_body).encode()[:2048].decode(errors="ignore")
        self.provider_request_id = encodable(provider_request_id)
        self.field = field


@dataclass(frozen=True, slots=True)
class AttemptError:
    """What one earlier attempt ended in. `excluded`: whether the prompt is never again sent to that backend."""

    backend: str
    reason: Reason
    message: str
    http_status: int
    duration_ns: int
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class PromptError:
    """Why one prompt did not succeed; `deadline` is queue, first_token, idle, attempt, caller, no_backend or empty.

    `retry_after_ns`: how long to wait before sending it again; None: nobody knows, or that does not help.
    """

    reason: Reason
    message: str
    retryable: bool = False
    deadline: str = ""
    http_status: int = 0
    provider_code: str = ""
    provider_body: str = ""
    provider_request_id: str = ""
    field: str = ""
    retry_after_ns: int | None = None

    @classmethod
    def cancelled(cls, reason: Reason, message: str) -> PromptError:
        """The error of a prompt that was cancelled: by its caller, with its batch, or by a stopping service."""
        retry_after_ns = DRAIN_RETRY_NS if reason is Reason.DRAINING else None
        return cls(reason, message, retryable=True, retry_after_ns=retry_after_ns)
