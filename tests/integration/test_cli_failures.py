"""`expresslane run` against the whole service when prompts fail: exit codes, what is left, what is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend
from tests.support.shell import Shell, numbered

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 100


@pytest.mark.parametrize("queue", [1_000, COUNT - 1], ids=["batch", "stream"])
async def test_max_failure_rate(tmp_path: Path, queue: int) -> None:
    """Above its failure rate a run is ended and exits with 1, as a batch or as a stream; all can be run again (A31)."""
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=1), queue_limit_prompts=queue, stream_credits=50) as service,
    ):
        fake.on(lambda _: Script(status=400))
        shell = Shell(tmp_path, service.address)
        lines = shell.write("p.jsonl", *numbered(COUNT))
        done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--max-failure-rate", "0.1")
    assert done.code == 1, done.err
    asked = len(fake.generations)
    assert 10 < asked <= COUNT / 2, "the rest was not cancelled"
    outcomes = [json.loads(line)["outcome"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert outcomes.count("failed") == asked
    assert (tmp_path / "r.failed.jsonl").read_bytes() == b"".join(lines)
    assert "failed" in done.err


async def test_the_cause_comes_first(tmp_path: Path) -> None:
    """Of a run that one failure has ended, that failure is told before the many that it took along."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda _: Script(status=400))
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(20))
        done = await shell.run("run", "p.jsonl", "--fail-fast")
    assert done.code == 1
    reasons = [line.split()[2].rstrip(",") for line in done.err.splitlines() if " x " in line]
    assert reasons == ["BACKEND_REJECTED", "BATCH_FAILED"], done.err
    assert "total (wait included)" not in done.err, "a row without a figure"


async def test_failures_below_the_rate(tmp_path: Path) -> None:
    """Below its failure rate a run goes on to its end; what failed is left, so it exits with 1 all the same (A31)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda request: Script(status=400) if b"text 7" in request.body else None)
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(20))
        done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--max-failure-rate", "0.1")
    assert (done.code, len(fake.generations)) == (1, 20), done.err
    assert "19 of 20 prompts succeeded" in done.err
