"""`expresslane cancel`: end what is unfinished of a batch that the service keeps for its caller."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from expresslane.cli.console import Exit, json_text, one_line, output, report
from expresslane.cli.service_calls import connected
from expresslane.cli.summary_table import print_summary

if TYPE_CHECKING:
    from expresslane_client import CancelledBatch

    from expresslane.cli.connection import Connection

__all__ = ["cancel_batch"]


def cancel_batch(service: Connection, request_id: str, *, as_json: bool) -> Exit:
    """Cancel a kept batch and show it as it is then."""
    cancelled = asyncio.run(_cancel(service, request_id))
    now = cancelled.progress
    if as_json:
        print(json_text({"request_id": request_id} | dataclasses.asdict(now)))  # noqa: T201
        return Exit.OK
    left = f", {now.in_flight:,} being aborted" if now.in_flight else ""
    report().print(f"{one_line(request_id)}: {now.finished:,} prompts have ended{left}", soft_wrap=True)
    if cancelled.summary is not None:
        print_summary(output(), cancelled.summary)
    return Exit.OK


async def _cancel(service: Connection, request_id: str) -> CancelledBatch:
    async with connected(service) as client:
        return await client.cancel_batch(request_id)
