"""What every backend adapter is: one attempt at a time, its answer filled in as it streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expresslane.clock import Clock, monotonic_ns
from expresslane.results import FinishReason, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from expresslane.backends.rate_headers import Told
    from expresslane.prompts import Prompt, ToolCall

__all__ = ["ENVELOPE_BYTES", "Answer", "Backend", "Call", "Capabilities", "Discovery"]

ENVELOPE_BYTES = 64 * 1024
"""What a protocol may write around an answer, beyond the answer's own limit."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of backend can do, and the defaults that follow from it.

    `default_cap` holds where none is configured or discovered; `engine`: lanes are on by default.
    `attempt_timeout_s` is the kind's default.
    """

    can_run_concurrently: bool
    default_cap: int
    engine: bool
    streams: bool
    reports_usage: bool
    prefix_cache: bool
    simulated: bool = False
    attempt_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a backend says of itself: its own model names, and its parallel slots (0: it does not say)."""

    models: tuple[str, ...] = ()
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt: the prompt, the model by the backend's own name, headers to send along (trace context).

    `key`: the same for attempts of which the backend shall do the work once, if it can; empty: there is none.
    """

    prompt: Prompt
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


class Answer:
    """The answer of one attempt, growing while it streams; what it holds when an attempt fails is the partial answer.

    Adapters call `push` for each piece, set the closing fields, and raise BackendError when it goes wrong.
    The first non-empty piece, tool call or finish reason is the first token.
    """

    __slots__ = (
        "_clock",
        "_on_delta",
        "_on_first_token",
        "_on_told",
        "active_ns",
        "bytes",
        "complete",
        "finish_reason",
        "finish_reason_raw",
        "logprobs_json",
        "reasoning_parts",
        "started",
        "text_parts",
        "tool_calls",
        "usage",
    )

    def __init__(
        self,
        on_first_token: Callable[[], None] | None = None,
        on_delta: Callable[[str, str], None] | None = None,
        *,
        on_told: Callable[[Told], None] | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._clock = clock
        self._on_first_token = on_first_token
        self._on_delta = on_delta
        self._on_told = on_told
        self.started = False
        self.active_ns = self._clock()
        self.bytes = 0
        self.complete = False
        """Nothing of it can fail any more, though its connection may still be read."""
        self.text_parts: list[str] = []
        self.reasoning_parts: list[str] = []
        self.tool_calls: list[ToolCall] = []
        self.logprobs_json = ""
        self.finish_reason = FinishReason.UNSPECIFIED
        self.finish_reason_raw = ""
        self.usage: Usage | None = None

    def push(self, text: str = "", reasoning: str = "") -> None:
        """Add a piece of text or reasoning."""
        if not text and not reasoning:
            return
        if not self.started:
            self.start()
        self.active_ns = self._clock()
        if text:
            self.text_parts.append(text)
            self.bytes += len(text) if text.isascii() else len(text.encode())
        if reasoning:
            self.reasoning_parts.append(reasoning)
            self.bytes += len(reasoning) if reasoning.isascii() else len(reasoning.encode())
        if self._on_delta is not None:
            self._on_delta(text, reasoning)

    def start(self) -> None:
        """The first token is here, even if it shows no text (a tool call, a finish reason). More calls do nothing."""
        if self.started:
            return
        self.started = True
        # It leads back here: a cycle that would keep prompt and answer until the next garbage collection.
        callback, self._on_first_token = self._on_first_token, None
        if callback is not None:
            callback()

    @property
    def shown(self) -> bool:
        """Whether some of it has gone out, where deltas do: text or reasoning; tool calls come with the result only."""
        return bool(self.text_parts or self.reasoning_parts)

    def told(self, left: Told) -> None:
        """The backend says what it had left of its own limits when it counted this request."""
        if self._on_told is not None:
            self._on_told(left)

    def touch(self) -> None:
        """The stream is alive: restarts the idle clock."""
        self.active_ns = self._clock()

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self.text_parts)

    @property
    def reasoning(self) -> str:
        """All reasoning so far."""
        return "".join(self.reasoning_parts)


class Backend(ABC):
    """One backend. Made once, used by many attempts at a time; holds a pooled session and nothing about any prompt."""

    capabilities: Capabilities

    def __init__(self, backend_id: str) -> None:
        self.id = backend_id

    async def start(self) -> None:  # noqa: B027
        """Open the session. Called once, on the event loop, before anything else."""

    async def close(self) -> None:  # noqa: B027
        """Close the session and every connection."""

    @abstractmethod
    async def generate(self, call: Call, answer: Answer) -> None:
        """Run one attempt to its end, filling `answer`.

        Raises BackendError when it goes wrong. When cancelled, closes the connection so that the backend stops, and
        lets CancelledError pass. Keeps no deadline of its own but the connect timeout.
        """

    @abstractmethod
    async def discover(self) -> Discovery:
        """Ask the backend what it serves. Raises BackendError when it cannot be reached or does not understand."""
