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

    A batch that shall come through StreamPrompts counts (BATCH_TOO_LARGE), also where `expresslane run` then sends it
    so by itself: not every caller does. A name that is taken does not.
    """

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def prompt(self, reason: Reason) -> None:
        """One prompt of a batch or a session was refused in-band, before it was ever queued."""
        self.prompts[reason.value] += 1

    def call(self, method: str, refusal: RefusedError) -> None:
        """A call of a method (`expresslane.v1.Inference/Generate`) was refused as a whole; only some take prompts."""
        if method not in _TAKE_PROMPTS or refusal.reason in _NAME_TAKEN:
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
