"""News about a running batch: that it was accepted, how far it is, and pieces of output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane_client.units import milliseconds

if TYPE_CHECKING:
    from expresslane_client.v1 import inference_pb2

__all__ = ["Accepted", "Delta", "Event", "Progress", "event_from_proto"]


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


Event = Accepted | Progress


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
            now = message.progress
            return Progress(now.queued, now.in_flight, now.finished, milliseconds(now.elapsed))
        case _:
            return None
