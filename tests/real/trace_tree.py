"""A caller with a trace of its own, and the tree of spans that a trace backend has of its call."""

import secrets
from typing import Any

from expresslane_client import Client

from .phoenix import Phoenix, Span

__all__ = ["BATCH_CALL", "Caller", "Tree", "value"]

BATCH_CALL = "expresslane.v1.Inference/GenerateBatch"


class Caller:
    """A caller with a trace of its own."""

    def __init__(self) -> None:
        self.trace_id = secrets.token_hex(16)
        self.span_id = secrets.token_hex(8)

    def client(self, address: str) -> Client:
        """A client that sends the trace along."""
        return Client(address, metadata={"traceparent": f"00-{self.trace_id}-{self.span_id}-01"})

    async def tree(self, phoenix: Phoenix) -> "Tree":
        """The trace, once its call is over: that span comes last."""
        spans = await phoenix.wait_spans(
            lambda spans: any(span["name"] == BATCH_CALL for span in spans),
            trace_id=self.trace_id,
            timeout_s=60.0,
        )
        return Tree(spans)


class Tree:
    """The spans of one trace by their place in it."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans

    def named(self, name: str) -> Span:
        """The only span of this name."""
        (span,) = [span for span in self.spans if span["name"] == name]
        return span

    def below(self, parent: Span) -> list[Span]:
        """The children of a span, by start time."""
        children = [span for span in self.spans if span["parent_id"] == parent["context"]["span_id"]]
        return sorted(children, key=lambda span: str(span["start_time"]))

    def of_prompt(self, custom_id: str) -> tuple[Span, list[Span], list[Span]]:
        """A prompt's span, its stays in the queue and its attempts."""
        batch = self.named("expresslane.batch")
        (one,) = [span for span in self.below(batch) if value(span, "expresslane.custom_id") == custom_id]
        children = self.below(one)
        queued = [span for span in children if span["name"] == "expresslane.queue"]
        return one, queued, [span for span in children if span not in queued]


def value(span: Span, name: str) -> Any:
    """An attribute, None where there is none."""
    return span["attributes"].get(name)
