"""What a batch has sent and nobody has read yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from expresslane_client.events import Delta, Event, event_from_proto
from expresslane_client.results import Result
from expresslane_client.summaries import Summary
from expresslane_client.v1 import inference_pb2, jobs_pb2

__all__ = ["Inbox", "OnDelta", "OnEvent"]

OnEvent = Callable[[Event], object]
OnDelta = Callable[[Delta], object]

_Response = inference_pb2.GenerateBatchResponse | inference_pb2.StreamPromptsResponse | jobs_pb2.WatchJobResponse


class Inbox:
    """Sorts messages. `admit` may change a result or keep it out (None), `wants` keep out deltas of a prompt.

    With `in_order` a result waits for those before it: they may have been kept out, and come by another call.
    """

    def __init__(
        self,
        on_event: OnEvent | None,
        on_delta: OnDelta | None,
        *,
        admit: Callable[[Result], Result | None] | None = None,
        wants: Callable[[str], bool] = lambda _: True,
        in_order: bool = False,
    ) -> None:
        self.results: deque[Result] = deque()
        self.summary: Summary | None = None
        self._on_event = on_event
        self._on_delta = on_delta
        self._admit = admit
        self._in_order = in_order
        self._early: dict[int, Result] = {}
        self._next = 0
        self._wants = wants

    def take(self, response: _Response) -> None:
        """Sort the parts of one message: deltas and events go to their callbacks at once, results wait to be read."""
        if self._on_delta is not None and not isinstance(response, jobs_pb2.WatchJobResponse):
            for delta in response.deltas:
                if self._wants(delta.custom_id):
                    self._on_delta(Delta.from_proto(delta))
        if self._on_event is not None:
            for message in response.events:
                event = event_from_proto(message)
                if event is not None:
                    self._on_event(event)
        for result in map(Result.from_proto, response.results):
            admitted = result if self._admit is None else self._admit(result)
            if admitted is not None:
                self.put(admitted)
        if response.HasField("summary"):
            self.summary = Summary.from_proto(response.summary)

    def put(self, result: Result) -> None:
        """One more result to be read."""
        if not self._in_order:
            self.results.append(result)
            return
        self._early[result.index] = result
        while (due := self._early.pop(self._next, None)) is not None:
            self.results.append(due)
            self._next += 1

    def flush(self) -> None:
        """Nothing more will come: what waits for others waits in vain."""
        self.results.extend(self._early[index] for index in sorted(self._early))
        self._early.clear()

    def require_summary(self) -> Summary:
        """The summary, or RuntimeError that says when there is one."""
        if self.summary is None:
            raise RuntimeError("there is no summary yet: it comes after the last result, so read all results first")
        return self.summary
