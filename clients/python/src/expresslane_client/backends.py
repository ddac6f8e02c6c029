"""What the service says of itself: its backends, queue depths and counters, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from expresslane_client.errors import InputError
from expresslane_client.units import milliseconds
from expresslane_client.v1 import admin_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance
    from google.protobuf.message import Message

__all__ = [
    "Backend",
    "BackendEstimates",
    "BackendFailure",
    "BackendModel",
    "Breaker",
    "Drained",
    "Holdings",
    "Limit",
    "Policy",
    "Snapshot",
    "Tenant",
    "class_value",
]

_T = TypeVar("_T", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class BackendModel:
    """A model of a backend, its load, and what was learned of its tokens; admin.proto says what each field means."""

    model: str
    backend_model: str
    cap: int
    in_flight: int
    bytes_per_token: float
    prompt_overhead_tokens: float
    estimate_samples: int
    mean_output_tokens: float
    loaded: bool
    effective_cap: int

    @classmethod
    def from_proto(cls, message: admin_pb2.BackendModel) -> BackendModel:
        """From the contract's message."""
        return _value(cls, message)


@dataclass(frozen=True, slots=True)
class BackendEstimates:
    """What was learned of a backend's speed; admin.proto says what each field means."""

    prefill_fixed_s: float
    prefill_s_per_token: float
    prefill_s_per_token_squared: float
    prefill_samples: int
    prefill_tokens_per_s: float
    decode_s: float
    decode_samples: int
    load_s: float
    load_samples: int

    @classmethod
    def from_proto(cls, message: admin_pb2.BackendEstimates) -> BackendEstimates:
        """From the contract's message."""
        return _value(cls, message)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that is used up, named as in RateLimited, for about so long."""

    limit: str
    reset_in_ms: float


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of a backend: closed (it works), open (it is given nothing) or half_open (it is tried)."""

    state: str
    since_ms: float | None
    half_open_in_ms: float | None
    good: int
    bad: int
    opened: int

    @classmethod
    def from_proto(cls, message: admin_pb2.Breaker) -> Breaker:
        """From the contract's message."""
        return _value(
            cls,
            message,
            since_ms=milliseconds(message.since) if message.HasField("since") else None,
            half_open_in_ms=milliseconds(message.half_open_in) if message.HasField("half_open_in") else None,
        )


@dataclass(frozen=True, slots=True)
class BackendFailure:
    """A failed attempt at a backend, so long ago; admin.proto says what each field means."""

    reason: str
    http_status: int
    age_ms: float

    @classmethod
    def from_proto(cls, message: admin_pb2.BackendFailure) -> BackendFailure:
        """From the contract's message."""
        return _value(cls, message, age_ms=milliseconds(message.age))


@dataclass(frozen=True, slots=True)
class Policy:
    """The order of waiting prompts within a class, a model or both; an empty name means any."""

    prompt_class: str
    model: str
    policy: str

    @property
    def scope(self) -> str:
        """`batch`, `model/NAME`, `batch/model/NAME`, or `all`."""
        parts = [self.prompt_class] * bool(self.prompt_class) + [f"model/{self.model}"] * bool(self.model)
        return "/".join(parts) or "all"

    @classmethod
    def from_proto(cls, message: admin_pb2.Policy) -> Policy:
        """From the contract's message."""
        number = getattr(message, "class")
        return cls(_class_name(number) if number else "", message.model, message.policy)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the service holds in memory for callers, beside prompts; admin.proto says what each field means."""

    open_calls: int
    unread_results: int
    unread_bytes: int
    jobs: int
    job_result_bytes: int
    kept_batches: int
    kept_result_bytes: int
    open_sessions: int

    @classmethod
    def from_proto(cls, message: admin_pb2.Holdings) -> Holdings:
        """From the contract's message."""
        return _value(cls, message)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as it is now; admin.proto says what each field means."""

    tenant: str
    weight: int
    max_class: str
    open_batches: int
    queued: int
    in_flight: int
    used_tokens: int
    requests_per_min: int
    tokens_per_min: int
    requests_in_window: int
    tokens_in_window: int
    limited_by: Limit | None
    rate_limited_times: int
    rate_limited_ms: float
    retries_allowed: int
    retries_denied: int
    holdings: Holdings
    queue_limit_prompts: int
    queue_limit_bytes: int
    max_open_calls: int
    max_open_sessions: int
    unread_limit_results: int
    unread_limit_bytes: int
    job_limit: int
    job_results_limit_bytes: int
    kept_limit: int
    kept_results_limit_bytes: int

    @classmethod
    def from_proto(cls, message: admin_pb2.Tenant) -> Tenant:
        """From the contract's message."""
        return _value(
            cls,
            message,
            max_class=_class_name(message.max_class),
            limited_by=_limit(message.limited_by) if message.HasField("limited_by") else None,
            rate_limited_ms=milliseconds(message.rate_limited_time),
            holdings=Holdings.from_proto(message.holdings),
        )


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend as it is now; admin.proto says what each field means."""

    name: str
    kind: str
    url: str
    models: tuple[BackendModel, ...]
    can_run_concurrently: bool
    concurrency_enabled: bool
    cap: int
    effective_cap: int
    discovered_slots: int
    in_flight: int
    peak_in_flight: int
    mean_in_flight: float
    long_in_prefill: int
    short_tokens_in_prefill: int
    available: bool
    lanes: bool
    long_threshold_tokens: int
    long_slots: int
    short_budget_tokens: int
    outcomes: Mapping[str, int]
    notices: tuple[str, ...]
    requests_per_min: int
    tokens_per_min: int
    requests_in_window: int
    tokens_in_window: int
    limited_by: Limit | None
    rate_limited_times: int
    rate_limited_ms: float
    estimates: BackendEstimates
    breaker: Breaker | None
    max_loaded_models: int
    model_loads: int
    turned_away: int
    last_error: BackendFailure | None

    @property
    def id(self) -> str:
        """The name without `backends/`."""
        return self.name.removeprefix("backends/")

    @classmethod
    def from_proto(cls, message: admin_pb2.Backend) -> Backend:
        """From the contract's message."""
        return _value(
            cls,
            message,
            models=tuple(map(BackendModel.from_proto, message.models)),
            outcomes=MappingProxyType(dict(message.outcomes)),
            notices=tuple(message.notices),
            limited_by=_limit(message.limited_by) if message.HasField("limited_by") else None,
            rate_limited_ms=milliseconds(message.rate_limited_time),
            estimates=BackendEstimates.from_proto(message.estimates),
            breaker=Breaker.from_proto(message.breaker) if message.HasField("breaker") else None,
            last_error=BackendFailure.from_proto(message.last_error) if message.HasField("last_error") else None,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters of the whole service, consistent with each other; admin.proto says what each field means."""

    version: str
    uptime_ms: float
    policy: str
    draining: bool
    queue_limit: int
    queue_time_limit_ms: float | None
    in_flight_limit: int
    queued: int
    retry_waiting: int
    in_flight: int
    queued_tokens: int
    queued_by_class: Mapping[str, int]
    queued_by_model: Mapping[str, int]
    submitted: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    retried: int
    retries_denied: int
    refused: int
    refused_by_reason: Mapping[str, int]
    calls_refused_by_reason: Mapping[str, int]
    drain_rate_per_s: float
    finish_rate_per_s: float
    open_batches: int
    backends: tuple[Backend, ...]
    policies: tuple[Policy, ...]
    tenants: tuple[Tenant, ...]
    tenants_total: int
    fairness: str
    holdings: Holdings

    @property
    def general_policy(self) -> Policy:
        """The policy that holds where none of `policies` does."""
        return Policy("", "", self.policy)

    @classmethod
    def from_proto(cls, message: admin_pb2.Snapshot) -> Snapshot:
        """From the contract's message."""
        depths = {_class_name(getattr(one, "class")): one.queued for one in message.queued_by_class}
        return _value(
            cls,
            message,
            uptime_ms=milliseconds(message.uptime),
            queue_time_limit_ms=(
                milliseconds(message.queue_time_limit) if message.HasField("queue_time_limit") else None
            ),
            queued_by_class=MappingProxyType(depths),
            queued_by_model=MappingProxyType(dict(message.queued_by_model)),
            refused_by_reason=MappingProxyType(dict(message.refused_by_reason)),
            calls_refused_by_reason=MappingProxyType(dict(message.calls_refused_by_reason)),
            backends=tuple(Backend.from_proto(one) for one in message.backends),
            policies=tuple(map(Policy.from_proto, message.policies)),
            tenants=tuple(map(Tenant.from_proto, message.tenants)),
            holdings=Holdings.from_proto(message.holdings),
        )


@dataclass(frozen=True, slots=True)
class Drained:
    """What a draining service has left to do."""

    queued: int
    in_flight: int


def class_value(name: str) -> int:
    """The contract's number of a class by its name; empty: unspecified. Raises InputError."""
    try:
        return types_pb2.PromptClass.Value(f"PROMPT_CLASS_{name.upper() or 'UNSPECIFIED'}")
    except ValueError:
        raise InputError(f"{name!r} is no class: interactive, standard or batch", field="prompt_class") from None


def _value(kind: type[_T], message: Message, **converted: object) -> _T:
    """The message as a value: `converted` are the fields that differ from it in type, the others have its names."""
    plain = {field.name for field in fields(kind)} - converted.keys()
    return kind(**{name: getattr(message, name) for name in plain}, **converted)


def _limit(message: admin_pb2.Limit) -> Limit:
    return Limit(message.limit, milliseconds(message.reset_in))


def _class_name(value: int) -> str:
    known = types_pb2.PromptClass.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix("PROMPT_CLASS_").lower() if known else str(value)
