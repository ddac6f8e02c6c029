"""`expresslane run --job`: the prompts of a file as a job, which runs on without this command."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING

from expresslane_client import ExpresslaneClientError, MessageTooLargeError, RefusedError

from expresslane.cli.console import CommandError, Exit, report
from expresslane.cli.full_queue import Patience
from expresslane.cli.service_calls import explained

if TYPE_CHECKING:
    from expresslane_client import Job

    from expresslane.cli.prompt_file import PromptFile
    from expresslane.cli.run_options import RunOptions

__all__ = ["submit_job"]


def submit_job(options: RunOptions, prompts: PromptFile) -> Exit:
    """Submit all prompts and print the job's name."""
    try:
        job = asyncio.run(_submit(options, prompts))
    except MessageTooLargeError as error:
        raise CommandError(str(error), "split the file: a job is one message") from None
    except ExpresslaneClientError as error:
        raise explained(error, options.service, prompts.renamed) from None
    print(job.name)  # noqa: T201
    if not options.quiet:
        console = report()
        console.print(f"accepted {job.total} prompts; the service keeps their results in its memory:")
        watch = ("expresslane", "jobs", "watch", job.id, "--output", "results.jsonl", *options.service.words)
        console.print(f"  {shlex.join(watch)}", soft_wrap=True)
    return Exit.OK


async def _submit(options: RunOptions, prompts: PromptFile) -> Job:
    async with options.service.client() as client:
        patience = Patience(None, quiet=options.quiet)
        while True:
            try:
                return await client.create_job(prompts.prompts(), **options.batch)
            except RefusedError as error:
                await patience.wait(error)
