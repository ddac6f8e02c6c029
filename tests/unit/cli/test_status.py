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


def test_a_high_window_shows_all() -> None:
    """Where there is room nothing is left out: models, tenants, what was since the start."""
    text = "\n".join(shown(40))
    assert all(part in text for part in ("a-model", "acme", "since start"))
