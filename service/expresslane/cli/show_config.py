"""`expresslane config`: the values that hold, and where each came from."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from expresslane.auth.access import Access
from expresslane.cli.console import CommandError, Exit, json_text, one_line, output, report
from expresslane.config import describe, load, reference
from expresslane.errors import ConfigError
from expresslane.tls import Tls

if TYPE_CHECKING:
    from expresslane.config import Row

__all__ = ["show_config", "show_reference"]

_DEFAULT = "default"


_REFERENCE = "every setting there is:    expresslane config --reference"


def show_config(*, as_json: bool, everything: bool) -> Exit:
    """Show the settings that were set, or all that hold. Raises CommandError when `serve` could not use it."""
    try:
        configuration = load(os.environ)
    except ConfigError as error:
        raise CommandError(str(error), _REFERENCE) from None
    try:  # what `serve` reads first of all, so that a mistake there is seen here too
        Tls(configuration.settings.tls).load()
        Access(configuration.settings).load()
    except ConfigError as error:
        raise CommandError(str(error)) from None
    rows = describe(configuration)
    chosen = rows if everything else [row for row in rows if row.origin != _DEFAULT]
    _show(rows if as_json else chosen, as_json=as_json)
    if not everything and not as_json:
        report().print(f"{len(rows) - len(chosen)} more have their defaults; all of them:    expresslane config --all")
        report().print(_REFERENCE)
    for warning in configuration.warnings:
        report().print(f"note: {one_line(warning)}", style="yellow", soft_wrap=True)
    return Exit.OK


def show_reference(*, as_json: bool) -> Exit:
    """Show every setting there is, with default, allowed values and meaning."""
    rows = reference()
    if as_json:
        _show(rows, as_json=True)
        return Exit.OK
    console = output()
    for row in rows:
        console.print(Text(row.name, style="bold"), soft_wrap=True)
        allowed = f"; {row.allowed}" if row.allowed else ""
        console.print(f"    {row.meaning}", soft_wrap=True)
        if row.origin == _DEFAULT:
            console.print(f"    default: {row.value or 'none'}{allowed}", style="dim", soft_wrap=True)
    return Exit.OK


def _show(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        print(json_text([dataclasses.asdict(row) for row in rows]))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("setting", "value", "from"):
        table.add_column(name, overflow="fold")
    for row in rows:
        style = "" if row.origin == _DEFAULT else "bold"
        origin = row.origin if row.origin == _DEFAULT else "environment"
        table.add_row(Text(row.name, style=style), Text(one_line(row.value) or "-", style=style), Text(origin))
    if rows:
        output().print(table)
