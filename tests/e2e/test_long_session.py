"""One session for very many prompts: credits keep memory flat, and cancels pass what waits for credit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.chaos.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = 20_000
KEPT_BYTES = 250
"""Less than a prompt of this test with its answer, and a fraction of what a ticket takes; the allocator's steps of a
megabyte come to a third of it over so few prompts."""


@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twenty_thousand_prompts_through_one_session(tmp_path: Path) -> None:
    """Never more than its credits unfinished, every prompt once, every cancel in time, and nothing kept (A16)."""
    written = tmp_path / "result.json"
    main(["session", "--prompts", str(PROMPTS), "--json", str(written)])
    result = orjson.loads(written.read_bytes())
    said = result["caller"]
    assert (result["lost"], result["duplicated"], result["foreign"], result["leaked"]) == (0, 0, 0, 0), said
    assert said["unfinished_max"] == 1_024
    assert said["cancels_without_credit"] == said["cancelled"] + len(said["answered"]) > PROMPTS // 400
    assert result["late_cancels"] == 0, said
    assert result["heeded_ratio"] >= 0.95, said
    assert said["succeeded"] + said["cancelled"] == said["summary_total"] == PROMPTS
    assert result["cancelled_at_once_ratio"] >= 0.95, said
    assert result["overtook_p50"] >= 0.5, said
    assert result["bytes_per_prompt"] < KEPT_BYTES, result["rss_bytes"]
