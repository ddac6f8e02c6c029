"""The prompts of a session that were sent and have no result yet, over all calls that it takes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from expresslane_client.resuming import CutOff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from expresslane_client.results import Result
    from expresslane_client.v1 import types_pb2

__all__ = ["Outstanding"]


class Outstanding:
    """Numbers prompts in the order of sending. A call counts its own from 0, so each call has its own translation.

    `hold`: whether results of a stopping service are held back, because the prompts may be sent again.
    """

    def __init__(self, *, hold: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._hold = hold
        self._clock = clock
        self._sent_s: dict[int, float] = {}
        self._late_ms: dict[int, float] = {}
        self.cut_off = CutOff()
        """Results that are held back: their prompts are outstanding until they are given up."""
        self.sent = 0
        """Prompts sent so far, each counted once."""
        self._left: dict[int, types_pb2.Prompt] = {}
        self._places: dict[int, int] = {}
        self._sent_in_call = 0
        self._again: deque[int] = deque()
        self._cancelled: set[str] = set()

    def __len__(self) -> int:
        return len(self._left)

    @property
    def due(self) -> bool:
        """Whether prompts of an earlier call wait to be sent again."""
        return bool(self._again)

    def add(self, prompts: Iterable[types_pb2.Prompt]) -> None:
        """Prompts that are sent now for the first time."""
        now_s = self._clock()
        for prompt in prompts:
            self._left[self.sent] = prompt
            self._sent_s[self.sent] = now_s
            self._place(self.sent)
            self.sent += 1

    def lost(self) -> None:
        """The call is gone: what has no result is to be sent again, in the same order."""
        self._places.clear()
        self._sent_in_call = 0
        self._again = deque(sorted(self._left))

    def next(self, count: int) -> list[types_pb2.Prompt]:
        """The next prompts, up to `count`, to send again."""
        return [self._left[number] for number in list(self._again)[:count]]

    def sent_again(self, count: int) -> None:
        """So many of them are sent now."""
        now_s = self._clock()
        for _ in range(count):
            number = self._again.popleft()
            self._late_ms[number] = (now_s - self._sent_s[number]) * 1e3
            self._place(number)

    def late_ms(self, result: Result) -> float:
        """How long before it was sent for the last time this result's prompt was sent first; asked once."""
        return self._late_ms.pop(result.index, 0.0)

    def cancel(self, custom_ids: Sequence[str]) -> None:
        """Their caller wants no answer to these."""
        self._cancelled.update(custom_ids)

    def cancelled(self, prompts: Iterable[types_pb2.Prompt]) -> list[str]:
        """Which of these prompts were cancelled."""
        return [prompt.custom_id for prompt in prompts if prompt.custom_id in self._cancelled]

    def admit(self, result: Result) -> Result | None:
        """The result with its prompt's number in the session; None: it is held back."""
        number = self._places.pop(result.index, None)
        if number is None:
            return result
        numbered = result if number == result.index else replace(result, index=number)
        if self._hold and result.cut_off:
            self.cut_off.hold(number, numbered)
            return None
        return self._finish(numbered)

    def give_up(self) -> list[Result]:
        """What was held back, final now."""
        return [self._finish(result) for result in self.cut_off.give_up()]

    def _finish(self, result: Result) -> Result:
        self._left.pop(result.index, None)
        self._sent_s.pop(result.index, None)
        self.cut_off.drop(result.index)
        self._cancelled.discard(result.custom_id)
        if not self._left:
            self._cancelled.clear()
        return result

    def _place(self, number: int) -> None:
        self._places[self._sent_in_call] = number
        self._sent_in_call += 1
