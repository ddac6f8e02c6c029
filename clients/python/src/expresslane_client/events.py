"""News about a running batch: that it was accepted, how far it is, what it waits for, and pieces of output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane_client.units import milliseconds

if TYPE_CHECKING:
    from expresslane_client.v1 import inference_pb2

__all__ = ["Accepted", "Delta", "Event", "Progress", "RateLimited", "event_from_proto"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The batch was accepted: from now on all that happens to it is in results and the summary.

    `attached`: it is one that the service has kept, and everything of it comes from the start.
    """

    request_id: str
    prompts: int
    attached: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is; sent while nothing else is."""

    queued: int
    in_flight: int
    finished: int
    elapsed_ms: float

    @classmethod
    def from_proto(cls, message: inference_pb2.Progress) -> Progress:
        """From the contract's message."""
        return cls(message.queued, message.in_flight, message.finished, milliseconds(message.elapsed))


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Prompts of the batch wait for a limit, of a backend or of the tenant itself (the other one is empty).

    `limit`: requests_per_min or tokens_per_min; of a backend also pause (it asked to be left alone),
    model_not_found (it does not have the model), key_refused (it refuses the service's key, or its quota is spent),
    breaker (it fails), requests_left or tokens_left (it says that none, or too few, are left). They go on by themselves
    after about `reset_in_ms`: send nothing again. Cancelling is always possible.
    """

    backend: str
    tenant: str
    limit: str
    reset_in_ms: float

    @property
    def whose(self) -> str:
        """The backend's id, or the tenant's name."""
        return self.backend.removeprefix("backends/") or self.tenant


Event = Accepted | Progress | RateLimited


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one prompt's output."""

    custom_id: str
    index: int
    text: str
    reasoning: str

    @classmethod
    def from_proto(cls, message: inference_pb2.Delta) -> Delta:
        """From the contract's message."""
        return cls(message.custom_id, message.index, message.text, message.reasoning)


def event_from_proto(message: inference_pb2.Event) -> Event | None:
    """From the contract's message; None for a kind of event that this package does not know."""
    match message.WhichOneof("event"):
        case "accepted":
            accepted = message.accepted
            return Accepted(accepted.request_id, accepted.prompts, accepted.attached)
        case "progress":
            return Progress.from_proto(message.progress)
        case "rate_limited":
            limit = message.rate_limited
            return RateLimited(limit.backend, limit.tenant, limit.limit, milliseconds(limit.reset_in))
        case _:
            return None
