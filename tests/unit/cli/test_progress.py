"""What a run says of how far it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from expresslane.cli.progress import RunProgress
from expresslane.cli.prompt_file import PromptFile
from expresslane.cli.prompt_options import Defaults

if TYPE_CHECKING:
    from pathlib import Path

SHORT, LONG = 90, 10


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, that a progress goes by."""
    time = [1_000.0]
    monkeypatch.setattr("expresslane.cli.progress.time.monotonic", lambda: time[0])
    return time


def test_the_time_left_goes_by_work_not_by_prompts(tmp_path: Path, now: list[float]) -> None:
    """Short prompts that come first do not promise the end: long ones that are left count for their length (T15)."""
    texts = ["x" * 40] * SHORT + ["x" * 20_000] * LONG
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"custom_id": str(n), "prompt": text}) + "\n" for n, text in enumerate(texts)))
    prompts = PromptFile.open(str(path), Defaults())
    prompts.check()
    progress = RunProgress(len(prompts), sum(map(prompts.work, range(len(prompts)))), quiet=True)
    now[0] += 3
    assert progress.times() == "3 s elapsed"
    now[0] += 7
    for index in range(SHORT):
        progress.count(ok=True, work=prompts.work(index))
    prompts.close()
    done, left = SHORT * (2_048 + 80), LONG * (2_048 + 20_040)
    elapsed, about = progress.times().split(", about ")
    assert elapsed == "10 s elapsed"
    assert float(about.split()[0]) == pytest.approx(10 * left / done, abs=1)


def test_the_end_is_seen(now: list[float]) -> None:
    """When every prompt is done nothing is left; without known work each prompt is as much."""
    progress = RunProgress(4, quiet=True)
    now[0] += 90
    progress.count(ok=True)
    assert progress.times() == "1 min 30 s elapsed, about 4 min 30 s left"
    for _ in range(3):
        progress.count(ok=False)
    assert progress.times() == "1 min 30 s elapsed, about 0 s left"
