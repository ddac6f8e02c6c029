"""`expresslane backends`: what the backends do, and the switches that change it while work goes on (T07)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from rich.text import Text

from expresslane.cli.console import CommandError, Exit, joined, json_text, one_line, output
from expresslane.cli.fitting_table import FittingTable
from expresslane.cli.limits import limits_text
from expresslane.cli.service_calls import connected
from expresslane.cli.summary_table import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from expresslane_client import Backend
    from rich.console import RenderableType

    from expresslane.cli.connection import Connection

__all__ = ["backend_fields", "backends_table", "list_backends", "update_backend"]

_COLUMNS = ("backend", "kind", "concurrency", "cap", "slots", "in flight", "mean", "peak", "state", "models")
_GIVES_UP = ("mean", "peak", "slots", "kind", "models", "concurrency", "cap")
_NUMBERS = {"cap", "slots", "in flight", "mean", "peak"}
_RECENT_MS = 60_000
_ON, _OFF = "bold green", "yellow"


def list_backends(service: Connection, *, as_json: bool) -> Exit:
    """Show all backends."""
    backends = asyncio.run(_list(service))
    if as_json:
        for backend in backends:
            print(json_text(backend_fields(backend)))  # noqa: T201
    else:
        output().print(*backends_table(backends), sep="\n")
    return Exit.OK


def update_backend(service: Connection, name: str, **changes: int | None) -> Exit:
    """Change one backend and show it as it is then; `changes` as for `Client.update_backend`."""
    if all(value is None for value in changes.values()):
        options = " or ".join(f"--{change.replace('_', '-')}" for change in changes)
        raise CommandError(f"nothing to change: give {options}")
    backend = asyncio.run(_update(service, name, changes))
    output().print(*backends_table([backend]), sep="\n")
    return Exit.OK


async def _list(service: Connection) -> list[Backend]:
    async with connected(service, admin=True) as client:
        return await client.list_backends()


async def _update(service: Connection, name: str, changes: Mapping[str, int | None]) -> Backend:
    async with connected(service, admin=True) as client:
        return await client.update_backend(name, **changes)  # type: ignore[arg-type] # bool is an int


def backend_fields(backend: Backend) -> dict[str, object]:
    """A backend as JSON."""
    fields = {field.name: getattr(backend, field.name) for field in dataclasses.fields(backend)}
    models = [dataclasses.asdict(model) for model in backend.models]
    limit = dataclasses.asdict(backend.limited_by) if backend.limited_by else None
    learned = dataclasses.asdict(backend.estimates)
    breaker = dataclasses.asdict(backend.breaker) if backend.breaker else None
    error = dataclasses.asdict(backend.last_error) if backend.last_error else None
    structured = {"limited_by": limit, "estimates": learned, "breaker": breaker, "last_error": error}
    return fields | {"models": models, "outcomes": dict(backend.outcomes)} | structured


def backends_table(backends: Iterable[Backend]) -> list[RenderableType]:
    """A table of backends, and below it what else is worth knowing."""
    table = FittingTable(_COLUMNS, gives_up=_GIVES_UP, right=_NUMBERS, wraps={"models"})
    notices: list[RenderableType] = []
    for backend in backends:
        table.add_row(*_cells(backend))
        prefix = f"  {one_line(backend.id)}: "
        notices += [Text(f"{prefix}{one_line(notice)}", style="yellow") for notice in backend.notices]
        if breaker := _breaker(backend):
            notices.append(Text(f"{prefix}{breaker}", style="yellow"))
        if error := backend.last_error:
            status = f" (HTTP {error.http_status})" if error.http_status else ""
            last = f"last error: {one_line(error.reason)}{status}, {seconds(error.age_ms)} ago"
            notices.append(Text(f"{prefix}{last}", style="yellow" if error.age_ms < _RECENT_MS else "dim"))
        if backend.max_loaded_models:
            notices.append(Text(f"{prefix}{_in_memory(backend)}", style="dim"))
        if limits := limits_text(backend):
            notices.append(Text(f"{prefix}{limits}", style="yellow" if backend.limited_by else "dim"))
    return [table, *notices]


def _cells(backend: Backend) -> list[Text]:
    models = joined(one_line(model.model, 40) for model in backend.models[:3])
    if len(backend.models) > 3:
        models += f" and {len(backend.models) - 3} more"
    return [
        Text(one_line(backend.id), style="bold"),
        Text(one_line(backend.kind)),
        _switch(backend),
        Text(_cap(backend)),
        Text(str(backend.discovered_slots or "-")),
        Text(str(backend.in_flight)),
        Text(f"{backend.mean_in_flight:.1f}"),
        Text(str(backend.peak_in_flight)),
        Text("up", style="green") if backend.available else Text("down", style="bold red"),
        Text(models or "-"),
    ]


def _in_memory(backend: Backend) -> str:
    """Which models a backend that holds only some has in memory."""
    names = joined(one_line(model.model, 40) for model in backend.models if model.loaded)
    loads = f"{backend.model_loads:,} load{'s' * (backend.model_loads != 1)} since start"
    return f"in memory: {names or 'nothing yet'} (at most {backend.max_loaded_models}, {loads})"


def _breaker(backend: Backend) -> str:
    """What a breaker has to say that is not good news."""
    breaker = backend.breaker
    if breaker is None or (breaker.state == "closed" and not breaker.opened):
        return ""
    states = {"open": "left alone because it fails", "half_open": "tried again after failures", "closed": "works again"}
    tried = "" if breaker.half_open_in_ms is None else f"tried in {seconds(breaker.half_open_in_ms)}"
    opened = f"opened {breaker.opened:,} time{'s' * (breaker.opened != 1)}"
    return f"breaker: {joined((states.get(breaker.state, one_line(breaker.state)), tried, opened))}"


def _cap(backend: Backend) -> str:
    """The cap in force, and the cap it would be with concurrency on where that is another."""
    same = backend.effective_cap == backend.cap
    return str(backend.cap) if same else f"{backend.effective_cap} of {backend.cap}"


def _switch(backend: Backend) -> Text:
    if not backend.can_run_concurrently:
        return Text("impossible", style="dim")
    return Text("● on", style=_ON) if backend.concurrency_enabled else Text("○ off", style=_OFF)
