"""The place of a call in the log of a kept batch: from its start, in the order and with the deltas it asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expresslane.batches.log import Cursor
from expresslane.batches.outbox import Delta, Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from expresslane.batches.log import Log
    from expresslane.results import Result

__all__ = ["CallCursor"]


@dataclass(slots=True)
class _Told:
    """How much of one prompt's output has been handed out: pieces and characters of each kind."""

    texts: int = 0
    reasonings: int = 0
    text_chars: int = 0
    reasoning_chars: int = 0


class CallCursor(Cursor):
    """A reader of everything, as if the batch had just begun.

    In order, a result waits here until those before it are there. A prompt's deltas add up to its result's text, no
    matter when the call was attached: what it has missed comes as one piece, at the latest with the result.
    """

    def __init__(self, log: Log, *, in_order: bool, deltas: bool) -> None:
        super().__init__(log, 0)
        self._in_order = in_order
        self._deltas = deltas
        self._next = 0
        self._early: dict[int, Result] = {}
        self._told: dict[int, _Told] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is there to read."""
        if self._in_order:
            self._look_ahead()
            return self._next not in self._early and not self._has_news()
        return super().empty and not self._has_news()

    def take(self) -> Parcel:
        """The next results, perhaps none, and the output before them."""
        results = super().take().results
        if self._in_order:
            self._early.update((result.index, result) for result in results)
            self._look_ahead()
            results = list(self._due())
        return Parcel(results, [*self._rests(results), *self._news()] if self._deltas else [])

    def _look_ahead(self) -> None:
        while results := self._log.read(self.position):
            self.position += len(results)
            self._early.update((result.index, result) for result in results)

    def _due(self) -> Iterator[Result]:
        while (result := self._early.pop(self._next, None)) is not None:
            self._next += 1
            yield result

    def _has_news(self) -> bool:
        return self._deltas and any(self._is_behind(index, delta) for index, delta in self._log.live.items())

    def _is_behind(self, index: int, delta: Delta) -> bool:
        told = self._told.get(index)
        return told is None or told.texts < len(delta.text) or told.reasonings < len(delta.reasoning)

    def _news(self) -> Iterator[Delta]:
        for index, delta in self._log.live.items():
            if self._is_behind(index, delta):
                told = self._told.setdefault(index, _Told())
                text, reasoning = delta.text[told.texts :], delta.reasoning[told.reasonings :]
                told.texts, told.reasonings = len(delta.text), len(delta.reasoning)
                told.text_chars += sum(map(len, text))
                told.reasoning_chars += sum(map(len, reasoning))
                yield Delta(delta.custom_id, index, text, reasoning)

    def _rests(self, results: Iterable[Result]) -> Iterator[Delta]:
        """What has not been handed out of outputs that are complete."""
        for result in results:
            told = self._told.pop(result.index, None) or _Told()
            text, reasoning = result.text[told.text_chars :], result.reasoning[told.reasoning_chars :]
            if text or reasoning:
                yield Delta(result.custom_id, result.index, [text] if text else [], [reasoning] if reasoning else [])
