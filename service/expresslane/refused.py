"""What was refused, by reason: prompts that were not accepted, and calls that brought none as far as is known."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from expresslane.errors import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Refused", "bringing"]

_TAKE_PROMPTS = frozenset(
    {
        *(f"expresslane.v1.Inference/{method}" for method in ("GenerateBatch", "CollectBatch", "Generate")),
        "expresslane.v1.Inference/StreamPrompts",
        "expresslane.v1.Jobs/CreateJob",
    }
)
_NAME_TAKEN = frozenset({Reason.REQUEST_EXISTS, Reason.JOB_EXISTS})
"""By the caller's own work mostly, as a client finds out that comes back to it."""


class Refused:
    """Counts since the start. What is sent again and refused again counts again.

    What clients are meant to go on from does not count: a batch that shall come through StreamPrompts, where its
    prompts are counted (BATCH_TOO_LARGE), and a name that is taken.
    """

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def prompt(self, reason: Reason) -> None:
        """One prompt of a batch or a session was refused in-band, before it was ever queued."""
        self.prompts[reason.value] += 1

    def call(self, method: str, refusal: RefusedError) -> None:
        """A call of a method (`expresslane.v1.Inference/Generate`) was refused as a whole; only some take prompts."""
        goes_as_stream = refusal.reason is Reason.BATCH_TOO_LARGE and refusal.prompts > 1
        if method not in _TAKE_PROMPTS or refusal.reason in _NAME_TAKEN or goes_as_stream:
            return
        if refusal.prompts:
            self.prompts[refusal.reason.value] += refusal.prompts
        else:
            self.calls[refusal.reason.value] += 1


@contextmanager
def bringing(prompts: int) -> Iterator[None]:
    """Note on what refuses a call in here how many prompts it brings."""
    try:
        yield
    except RefusedError as refusal:
        refusal.prompts = prompts
        raise
