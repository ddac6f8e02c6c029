"""What the service says of itself: its backends, queue depths and counters, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from expresslane_client.units import milliseconds
from expresslane_client.v1 import admin_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Backend", "BackendModel", "Drained", "Snapshot"]


@dataclass(frozen=True, slots=True)
class BackendModel:
    """A model of a backend: the name callers use, the backend's own, its cap (0: only the backend's) and its load."""

    model: str
    backend_model: str
    cap: int
    in_flight: int


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
    long_in_prefill: int
    short_tokens_in_prefill: int
    available: bool
    lanes: bool
    long_threshold_tokens: int
    long_slots: int
    short_budget_tokens: int
    outcomes: Mapping[str, int]
    notices: tuple[str, ...]

    @property
    def id(self) -> str:
        """The name without `backends/`."""
        return self.name.removeprefix("backends/")

    @classmethod
    def from_proto(cls, message: admin_pb2.Backend) -> Backend:
        """From the contract's message."""
        return cls(
            name=message.name,
            kind=message.kind,
            url=message.url,
            models=tuple(BackendModel(one.model, one.backend_model, one.cap, one.in_flight) for one in message.models),
            can_run_concurrently=message.can_run_concurrently,
            concurrency_enabled=message.concurrency_enabled,
            cap=message.cap,
            effective_cap=message.effective_cap,
            discovered_slots=message.discovered_slots,
            in_flight=message.in_flight,
            peak_in_flight=message.peak_in_flight,
            long_in_prefill=message.long_in_prefill,
            short_tokens_in_prefill=message.short_tokens_in_prefill,
            available=message.available,
            lanes=message.lanes,
            long_threshold_tokens=message.long_threshold_tokens,
            long_slots=message.long_slots,
            short_budget_tokens=message.short_budget_tokens,
            outcomes=MappingProxyType(dict(message.outcomes)),
            notices=tuple(message.notices),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters of the whole service, consistent with each other; admin.proto says what each field means."""

    version: str
    uptime_ms: float
    policy: str
    draining: bool
    queue_limit: int
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
    refused: int
    drain_rate_per_s: float
    open_batches: int
    backends: tuple[Backend, ...]

    @classmethod
    def from_proto(cls, message: admin_pb2.Snapshot) -> Snapshot:
        """From the contract's message."""
        depths = {_class_name(getattr(one, "class")): one.queued for one in message.queued_by_class}
        return cls(
            version=message.version,
            uptime_ms=milliseconds(message.uptime),
            policy=message.policy,
            draining=message.draining,
            queue_limit=message.queue_limit,
            in_flight_limit=message.in_flight_limit,
            queued=message.queued,
            retry_waiting=message.retry_waiting,
            in_flight=message.in_flight,
            queued_tokens=message.queued_tokens,
            queued_by_class=MappingProxyType(depths),
            queued_by_model=MappingProxyType(dict(message.queued_by_model)),
            submitted=message.submitted,
            succeeded=message.succeeded,
            failed=message.failed,
            cancelled=message.cancelled,
            expired=message.expired,
            retried=message.retried,
            refused=message.refused,
            drain_rate_per_s=message.drain_rate_per_s,
            open_batches=message.open_batches,
            backends=tuple(Backend.from_proto(one) for one in message.backends),
        )


@dataclass(frozen=True, slots=True)
class Drained:
    """What a draining service has left to do."""

    queued: int
    in_flight: int


def _class_name(value: int) -> str:
    known = types_pb2.PromptClass.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix("PROMPT_CLASS_").lower() if known else str(value)
