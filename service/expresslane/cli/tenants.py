"""`expresslane tenants`: who has what waiting, and what may be changed about it at runtime (O01, T11)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from expresslane.cli.console import CommandError, Exit, joined, json_text, one_line, output, report
from expresslane.cli.limits import bounds_text, limits_text
from expresslane.cli.service_calls import connected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from expresslane_client import Snapshot, Tenant
    from rich.console import RenderableType

    from expresslane.cli.connection import Connection

__all__ = ["list_tenants", "tenants_table", "update_tenant"]

DEFAULT_TENANT = "default"


def list_tenants(service: Connection, *, as_json: bool) -> Exit:
    """Show the tenants that are configured, changed or at work, those with most waiting prompts first."""
    tenants, more, fairness = asyncio.run(_list(service))
    if as_json:
        for tenant in tenants:
            print(json_text(dataclasses.asdict(tenant)))  # noqa: T201
    elif not tenants:
        output().print(_nobody(more), soft_wrap=True)
    else:
        output().print(*tenants_table(tenants, more, fairness), sep="\n")
    return Exit.OK


def update_tenant(service: Connection, name: str, changes: Mapping[str, int | str | None]) -> Exit:
    """Change one tenant, by the names of `Client.update_tenant`, and show it as it is then.

    Of a name that is new it is said, as it may be a slip.
    """
    wanted: dict[str, Any] = {field: value for field, value in changes.items() if value is not None}
    if not wanted:
        raise CommandError("nothing to change", "example: expresslane tenants set acme --weight 3")

    async def update() -> tuple[Tenant, bool]:
        async with connected(service, admin=True) as client:
            before = await client.get_snapshot()
            tenant = await client.update_tenant(name, **wanted)
            return tenant, _is_new(name, before)

    tenant, is_new = asyncio.run(update())
    output().print(*tenants_table([tenant]), sep="\n")
    if is_new:
        what = "its weight holds" if "weight" in wanted else "what was set holds"
        report().print(f"{one_line(name, 63)}: no such tenant so far; {what} from its first call", soft_wrap=True)
    return Exit.OK


def _is_new(name: str, before: Snapshot) -> bool:
    """Whether the service knew no such tenant: surely so only where the snapshot shows every tenant."""
    return len(before.tenants) == before.tenants_total and all(one.tenant != name for one in before.tenants)


def _nobody(idle: int) -> str:
    """Said in place of an empty table; the service lists no tenant without work, settings or results of its own."""
    if not idle:
        return "no tenant has work now, and none is configured"
    what = "the only one known is" if idle == 1 else f"all {idle:,} known ones are"
    return f"no tenant has work now: {what} idle; one is listed while it works, or after expresslane tenants set NAME"


async def _list(service: Connection) -> tuple[Sequence[Tenant], int, str]:
    async with connected(service, admin=True) as client:
        snapshot = await client.get_snapshot()
        return snapshot.tenants, snapshot.tenants_total - len(snapshot.tenants), snapshot.fairness


def tenants_table(tenants: Sequence[Tenant], more: int = 0, fairness: str = "") -> list[RenderableType]:
    """A table of tenants, and below it their limits and bounds, and how many are not shown."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tenant")
    for name in ("weight", "queued", "in flight", "used tokens"):
        table.add_column(name, justify="right")
    table.add_column("up to class")
    notices: list[RenderableType] = []
    for one in tenants:
        counts = (one.weight, one.queued, one.in_flight, one.used_tokens)
        table.add_row(one_line(one.tenant, 40), *(f"{count:,}" for count in counts), one_line(one.max_class))
        if limits := limits_text(one):
            style = "yellow" if one.limited_by else "dim"
            notices.append(Text(f"  {one_line(one.tenant, 40)}: {limits}", style=style))
        if bounds := bounds_text(one):
            notices.append(Text(f"  {one_line(one.tenant, 40)}: {bounds}", style="dim"))
        if one.retries_denied:
            denied = f"{one.retries_denied:,} retries denied, {one.retries_allowed:,} allowed"
            notices.append(Text(f"  {one_line(one.tenant, 40)}: {denied}", style="yellow"))
    end = joined((f"and {more:,} more" if more > 0 else "", f"sharing: {one_line(fairness)}" if fairness else ""))
    return [table, *notices, *([Text(end, style="dim")] if end else [])]
