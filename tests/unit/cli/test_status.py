"""What `status` shows in windows of any height."""

from __future__ import annotations

import io

import pytest
from expresslane.cli.status import fitting
from expresslane_client import Snapshot
from expresslane_client.v1 import admin_pb2
from rich.console import Console

BACKENDS = ("first", "second", "third")
HEIGHT_MIN = 4 + len(BACKENDS) + 1
"""A line of the service, two of the queue, one of headings, the backends, and the one that the cursor is on."""


def shown(height: int) -> list[str]:
    """The lines in a window of so many."""
    snapshot = admin_pb2.Snapshot(queued=5, submitted=9, succeeded=4, policy="hrrn", tenants_total=2)
    snapshot.queued_by_model["a-model"] = 5
    snapshot.tenants.add(tenant="acme", queued=5)
    for name in BACKENDS:
        snapshot.backends.add(name=f"backends/{name}", kind="vllm", cap=1, effective_cap=1, available=True)
    return panel(snapshot, height)


def panel(snapshot: admin_pb2.Snapshot, height: int) -> list[str]:
    """The lines of a snapshot in a window of so many."""
    console = Console(file=io.StringIO(), width=80, height=height)
    console.print(fitting(console, Snapshot.from_proto(snapshot), None))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", range(HEIGHT_MIN, 41))
def test_backends_stay_in_a_low_window(height: int) -> None:
    """However low the window is, all of what is shown fits, backends and queue among it (A28)."""
    lines = shown(height)
    assert len(lines) < height
    text = "\n".join(lines)
    assert all(part in text for part in (*BACKENDS, "queued", "in flight"))


def test_refusals_are_told_by_reason() -> None:
    """How many prompts and calls were refused, and why, the most frequent reason first (A28)."""
    snapshot = admin_pb2.Snapshot(refused=1_203, refused_by_reason={"CLASS_NOT_ALLOWED": 3, "QUEUE_FULL": 1_200})
    snapshot.calls_refused_by_reason["UNAUTHENTICATED"] = 4
    lines = [" ".join(line.split()) for line in panel(snapshot, 40)]
    assert "refused 1,203 prompts · QUEUE_FULL 1,200 · CLASS_NOT_ALLOWED 3" in lines
    assert "calls refused 4 UNAUTHENTICATED 4" in lines


def test_a_high_window_shows_all() -> None:
    """Where there is room nothing is left out: models, tenants, what was since the start."""
    text = "\n".join(shown(40))
    assert all(part in text for part in ("a-model", "acme", "since start"))
