"""A table that gives up columns, the least wanted first, where the terminal is too narrow for whole words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, JustifyMethod
    from rich.text import Text

__all__ = ["FittingTable"]

_GAP = 2
"""Spaces between two columns."""


class FittingTable:
    """Rows of cells under `columns`. `gives_up` has those that a narrow terminal is spared, in that order.

    Columns in `right` are numbers; those in `wraps` go on in a further line, between words.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        gives_up: Sequence[str],
        right: Container[str] = (),
        wraps: Container[str] = (),
    ) -> None:
        self._columns = columns
        self._gives_up = gives_up
        self._right = right
        self._wraps = wraps
        self._rows: list[Sequence[Text]] = []

    def add_row(self, *cells: Text) -> None:
        """One more row, a cell for each column."""
        self._rows.append(cells)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """The table with as many columns as there is room for."""
        for spared in range(len(self._gives_up) + 1):
            left_out = set(self._gives_up[:spared])
            shown = [place for place, name in enumerate(self._columns) if name not in left_out]
            if sum(map(self._least_width, shown)) + _GAP * (len(shown) - 1) <= options.max_width:
                break
        yield self._table(shown)

    def _least_width(self, place: int) -> int:
        """Of a column, so that no word in it is broken."""
        name = self._columns[place]
        texts = [name, *(cells[place].plain for cells in self._rows)]
        return max(cell_len(part) for text in texts for part in (text.split() if name in self._wraps else [text]))

    def _table(self, shown: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in (self._columns[place] for place in shown):
            justify: JustifyMethod = "right" if name in self._right else "left"
            table.add_column(name, justify=justify, no_wrap=name not in self._wraps, overflow="ellipsis")
        for cells in self._rows:
            table.add_row(*(cells[place] for place in shown))
        return table
