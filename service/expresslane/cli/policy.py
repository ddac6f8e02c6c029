"""`expresslane policy`: in which order prompts wait, and how to change it while they do (T04)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from rich.table import Table

from expresslane.cli.console import CommandError, Exit, json_text, one_line, output
from expresslane.cli.service_calls import connected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from expresslane_client import Policy

    from expresslane.cli.connection import Connection

__all__ = ["list_policies", "set_policy"]


def list_policies(service: Connection, *, as_json: bool) -> Exit:
    """Show the policies that hold, the general one first."""
    policies = asyncio.run(_list(service))
    if as_json:
        for policy in policies:
            print(json_text(dataclasses.asdict(policy)))  # noqa: T201
    else:
        output().print(_table(policies))
    return Exit.OK


def set_policy(service: Connection, policy: str, *, prompt_class: str, model: str) -> Exit:
    """Set a scope's policy, or take it back where `policy` is empty; show what holds then."""
    if not (policy or prompt_class or model):
        raise CommandError(
            "the service itself needs a policy: say whose to take back",
            "example: expresslane policy unset --class batch",
        )
    output().print(_table(asyncio.run(_set(service, policy, prompt_class, model))))
    return Exit.OK


async def _list(service: Connection) -> list[Policy]:
    async with connected(service, admin=True) as client:
        snapshot = await client.get_snapshot()
        return [snapshot.general_policy, *snapshot.policies]


async def _set(service: Connection, policy: str, prompt_class: str, model: str) -> list[Policy]:
    async with connected(service, admin=True) as client:
        return await client.set_policy(policy, prompt_class=prompt_class, model=model)


def _table(policies: Iterable[Policy]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("scope", overflow="fold")
    table.add_column("policy")
    for policy in policies:
        table.add_row(one_line(policy.scope), one_line(policy.policy))
    return table
