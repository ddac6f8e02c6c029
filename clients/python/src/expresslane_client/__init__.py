"""Asyncio client of expresslane: batches of prompts in over gRPC, results back as they finish."""

from expresslane_client.backends import (
    Backend,
    BackendEstimates,
    BackendFailure,
    BackendModel,
    Breaker,
    Drained,
    Holdings,
    Limit,
    Policy,
    Snapshot,
    Tenant,
)
from expresslane_client.batches import BatchCall
from expresslane_client.chats import RawJson
from expresslane_client.client import CancelledBatch, Client, Collected
from expresslane_client.credentials import Tls
from expresslane_client.errors import (
    CallError,
    DeadlineExceededError,
    ExpresslaneClientError,
    FieldViolation,
    InputError,
    MessageTooLargeError,
    RefusedError,
    SessionEndedError,
    UnavailableError,
)
from expresslane_client.events import Accepted, Delta, Event, Progress, RateLimited
from expresslane_client.generations import GenerateCall
from expresslane_client.jobs import Job, JobState
from expresslane_client.options import BatchOptions
from expresslane_client.prompts import Deadlines, Prompt, PromptClass, PromptLike, PromptOptions
from expresslane_client.results import AttemptError, Choice, FinishReason, Outcome, PromptError, Result, ToolCall, Usage
from expresslane_client.resuming import Resume, Resuming
from expresslane_client.sessions import PromptSession
from expresslane_client.summaries import BatchState, ErrorCount, Percentiles, Summary
from expresslane_client.watches import JobWatch

__version__ = "0.1.0"

__all__ = [
    "Accepted",
    "AttemptError",
    "Backend",
    "BackendEstimates",
    "BackendFailure",
    "BackendModel",
    "BatchCall",
    "BatchOptions",
    "BatchState",
    "Breaker",
    "CallError",
    "CancelledBatch",
    "Choice",
    "Client",
    "Collected",
    "DeadlineExceededError",
    "Deadlines",
    "Delta",
    "Drained",
    "ErrorCount",
    "Event",
    "ExpresslaneClientError",
    "FieldViolation",
    "FinishReason",
    "GenerateCall",
    "Holdings",
    "InputError",
    "Job",
    "JobState",
    "JobWatch",
    "Limit",
    "MessageTooLargeError",
    "Outcome",
    "Percentiles",
    "Policy",
    "Progress",
    "Prompt",
    "PromptClass",
    "PromptError",
    "PromptLike",
    "PromptOptions",
    "PromptSession",
    "RateLimited",
    "RawJson",
    "RefusedError",
    "Result",
    "Resume",
    "Resuming",
    "SessionEndedError",
    "Snapshot",
    "Summary",
    "Tenant",
    "Tls",
    "ToolCall",
    "UnavailableError",
    "Usage",
    "__version__",
]
