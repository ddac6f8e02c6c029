"""`expresslane demo`: a service on the simulated backend, a batch of mixed lengths, and what became of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expresslane_client import Prompt

from expresslane.cli.connection import Connection
from expresslane.cli.console import CommandError, Exit, one_line, output
from expresslane.cli.local_service import local_service
from expresslane.cli.service_calls import connected
from expresslane.cli.signals import stopping_on_signals
from expresslane.cli.summary_table import SIMULATED, print_summary, seconds

if TYPE_CHECKING:
    from expresslane_client import Result
    from rich.console import Console

__all__ = ["demo"]

_SENTENCE = "The express lane is for those with few things in the basket. "
_KINDS = {"long": (4, 6_000), "middle": (4, 600), "short": (16, 40)}
"""How many prompts, of about how many words; the long ones go first in the batch, where they would block the others."""
_NEXT = """
what to try next
  keep a service running:        expresslane serve
  send it prompts of your own:   expresslane run prompts.jsonl --output results.jsonl
  give it a real engine:         EXPRESSLANE_BACKENDS__LOCAL__KIND=llamacpp \\
                                 EXPRESSLANE_BACKENDS__LOCAL__URL=http://127.0.0.1:8080 expresslane serve
"""


def demo() -> Exit:
    """Start, send, show, stop."""
    return asyncio.run(_until_interrupted())


async def _until_interrupted() -> Exit:
    task = asyncio.create_task(_demo(output()))
    with stopping_on_signals(task.cancel):
        try:
            return await task
        except asyncio.CancelledError:
            return Exit.INTERRUPTED


async def _demo(console: Console) -> Exit:
    prompts = _prompts()
    console.print("starting a service of its own on the simulated backend ...", style="dim")
    async with local_service() as address, connected(Connection(address)) as client:
        await client.wait_ready(10)
        lengths = ", ".join(f"{count} {kind}" for kind, (count, _) in _KINDS.items())
        console.print(f"sending one batch of {len(prompts)} prompts to {address}, the longest first: {lengths}")
        console.print(f"{SIMULATED}: answers are made up, times are those of a modelled engine\n", style="bold yellow")
        console.print(_HEADER, style="dim")
        results: list[Result] = []
        async with client.generate_batch(prompts, request_id="demo", timeout_s=60) as call:
            async for result in call:
                results.append(result)
                _print_result(console, len(results), result)
            summary = call.summary
    print_summary(console, summary)
    console.print(_by_length(results))
    console.print(_NEXT, soft_wrap=True)
    failed = summary.total_prompts - summary.succeeded
    if failed or not summary.simulated:
        raise CommandError(f"{failed} of {summary.total_prompts} prompts did not succeed", code=Exit.PROMPTS_FAILED)
    return Exit.OK


def _prompts() -> list[Prompt]:
    lengths = [(kind, words) for kind, (count, words) in _KINDS.items() for _ in range(count)]
    sentence = len(_SENTENCE.split())
    return [
        Prompt(f"{kind}-{number:02d}", _SENTENCE * (words // sentence) + "Why?", max_tokens=8 + number % 3 * 8)
        for number, (kind, words) in enumerate(lengths, 1)
    ]


_ROW = "{:>3}  {:<10} {:>7} {:>11} {:>12} {:>9}  {}"
_HEADER = _ROW.format("", "prompt", "tokens", "queue wait", "first token", "total", "answer")


def _print_result(console: Console, position: int, result: Result) -> None:
    tokens = f"{result.usage.input_tokens:,}" if result.usage else "-"
    answer = result.text if result.ok else f"{result.outcome}: {result.error.message if result.error else ''}"
    times = (seconds(result.queue_ms), seconds(result.ttft_ms), seconds(result.total_ms))
    row = _ROW.format(position, one_line(result.custom_id), tokens, *times, one_line(answer, 36))
    console.print(row, style=None if result.ok else "red", soft_wrap=True)


def _by_length(results: list[Result]) -> str:
    lines = ["\nmean time to first token, queue wait included"]
    for kind in reversed(_KINDS):
        mine = [result for result in results if result.custom_id.startswith(kind)]
        times = [result.ttft_ms for result in mine if result.ttft_ms is not None]
        lines.append(f"  {kind:<7} {seconds(sum(times) / len(times)) if times else '-':>9}")
    return "\n".join(lines)
