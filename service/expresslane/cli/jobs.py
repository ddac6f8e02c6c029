"""`expresslane jobs`: the jobs that the service keeps, and what can be done to one (A05)."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from rich.text import Text

from expresslane.cli.console import Exit, json_text, one_line, output, report
from expresslane.cli.fitting_table import FittingTable
from expresslane.cli.service_calls import connected
from expresslane.cli.summary_table import print_summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from expresslane_client import Client, Job

    from expresslane.cli.connection import Connection

__all__ = ["cancel_job", "delete_job", "job_fields", "jobs_table", "list_jobs", "show_job"]

Answer = TypeVar("Answer")

_COUNTS = ("total", "succeeded", "failed", "cancelled", "expired", "queued", "in flight")
_ABOUT = ("created", "expires", "request")
_GIVES_UP = ("created", "request", "expires", "expired", "cancelled", "queued", "in flight")
_STYLES = {"running": "bold", "completed": "green", "failed_fast": "red", "cancelled": "yellow"}


def list_jobs(service: Connection, *, as_json: bool) -> Exit:
    """Show all jobs."""
    return _show(asyncio.run(_list(service)), as_json=as_json)


def show_job(service: Connection, name: str, *, as_json: bool) -> Exit:
    """Show one job, with its summary if it has ended."""
    job = asyncio.run(_one(service, lambda client: client.get_job(name)))
    _show([job], as_json=as_json)
    if job.summary is not None and not as_json:
        print_summary(output(), job.summary)
    return Exit.OK


def cancel_job(service: Connection, name: str, *, as_json: bool) -> Exit:
    """Cancel what is unfinished of a job and show it as it is then."""
    return _show([asyncio.run(_one(service, lambda client: client.cancel_job(name)))], as_json=as_json)


def delete_job(service: Connection, name: str) -> Exit:
    """Cancel and forget a job."""
    asyncio.run(_one(service, lambda client: client.delete_job(name)))
    report().print(f"{one_line(name)} is forgotten")
    return Exit.OK


async def _list(service: Connection) -> list[Job]:
    async with connected(service) as client:
        return await client.list_jobs()


async def _one(service: Connection, call: Callable[[Client], Awaitable[Answer]]) -> Answer:
    async with connected(service) as client:
        return await call(client)


def _show(jobs: list[Job], *, as_json: bool) -> Exit:
    if as_json:
        for job in jobs:
            print(json_text(job_fields(job)))  # noqa: T201
    else:
        output().print(jobs_table(jobs))
    return Exit.OK


def job_fields(job: Job) -> dict[str, object]:
    """A job as JSON, times in ISO 8601, without its summary."""
    fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job) if field.name != "summary"}
    times = {name: time.isoformat() for name, time in fields.items() if isinstance(time, datetime)}
    return fields | times | {"state": str(job.state)}


def jobs_table(jobs: Iterable[Job]) -> FittingTable:
    """A table of jobs."""
    table = FittingTable(("job", "state", *_COUNTS, *_ABOUT), gives_up=_GIVES_UP, right=_COUNTS, wraps={"request"})
    for job in jobs:
        counts = (job.total, job.succeeded, job.failed, job.cancelled, job.expired, job.queued, job.in_flight)
        table.add_row(
            Text(one_line(job.id), style="bold"),
            Text(job.state.replace("_", " "), style=_STYLES.get(job.state, "")),
            *(Text(str(count) if count else "-") for count in counts),
            _local(job.created),
            _local(job.expires),
            Text(one_line(job.request_id, 40)),
        )
    return table


def _local(time: datetime | None) -> Text:
    return Text(time.astimezone().strftime("%H:%M:%S") if time else "-")
