"""An attempt: one release of a ticket to a backend, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from expresslane.backends.base import Answer
    from expresslane.errors import BackendError, PromptError
    from expresslane.fleet import Member
    from expresslane.telemetry.spans import AttemptTrace

__all__ = ["Attempt"]


class Attempt:
    """One release of one ticket to one backend. `stopped` says why it was aborted: cancelled, batch or a deadline."""

    __slots__ = (
        "answer",
        "begun",
        "first_token_ns",
        "member",
        "model",
        "number",
        "started_ns",
        "stopped",
        "task",
        "trace",
    )

    def __init__(self, member: Member, model: str, number: int, started_ns: int) -> None:
        self.member = member
        self.model = model
        self.number = number
        self.started_ns = started_ns
        self.first_token_ns = 0
        self.begun = False
        self.stopped = ""
        self.answer: Answer
        self.task: asyncio.Task[None]
        self.trace: AttemptTrace | None = None

    def stop(self, reason: str) -> None:
        """Cancel its task, once."""
        if not self.stopped:
            self.stopped = reason
            if self.begun:  # a task cancelled before its first step would never run, and never settle
                self.task.cancel()

    def end_trace(self, outcome: str, error: PromptError | BackendError | None, now_ns: int) -> None:
        """End its span, if it has one, with what its answer has brought."""
        if self.trace is None:
            return
        self.trace.end(
            now_ns,
            outcome=outcome,
            usage=self.answer.usage,
            finish_reason=self.answer.finish_reason_raw,
            error=error,
            simulated=self.member.capabilities.simulated,
        )
