"""The small form of the storm: everything fails around the service, and it keeps its promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.chaos import slow_reader
from tests.chaos.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

SEED = 11


@pytest.mark.timeout(120)
def test_two_thousand_prompts_through_faulty_backends(tmp_path: Path) -> None:
    """Nothing lost, doubled, mixed up, left behind or above a cap, and 99 % succeed (A22, G01, T13)."""
    written = tmp_path / "result.json"
    main(["--prompts", "2000", "--seed", str(SEED), "--json", str(written)])
    result = orjson.loads(written.read_bytes())
    again = f"python -m tests.chaos --prompts 2000 --seed {SEED}"
    assert result["missed"] == [], f"{again}: {result['levels']} {result['callers']} {result['backends']}"
    assert result["prompts"] == 2_000 + 2 * (slow_reader.SIZE - 10)
    assert min(result["held_seen"], result["held_sessions_seen"], result["cancelled_while_held"]) >= 1, again
    did = {kind for backend in result["backends"].values() for kind in backend["did"]}
    assert did == {"answered", "server_error", "disconnect", "hang_at_once", "hang_in_stream", "limited"}, again
    assert result["backends"]["b2"]["flaps"] >= 1, again
