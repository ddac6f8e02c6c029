"""Memory of the service while very many prompts wait, and whether it goes back as they finish."""

from __future__ import annotations

import time
import urllib.request
from typing import Any

from tests.bench.processes import Child, Service, Upstream, peak_rss_bytes, rss_bytes

__all__ = ["measure"]

SETTLE_S = 1.0


def measure(upstream: Upstream, *, batches: int, size: int, seed: int) -> dict[str, Any]:
    """Queue `batches` x `size` prompts behind an upstream that answers none, then let them all go.

    "Beyond the prompt's own bytes": only the prompts' texts are taken off, not their ids. Shorter prompts go first, so
    half of the prompts hold much less than half of the bytes, and memory falls late: an arena of Python's allocator
    goes back to the system when the last object in it has gone.
    """
    total = batches * size
    with Service(upstream, "held") as service, Child("caller", service.address, seed) as caller:
        _control(upstream, "release")
        caller.do(do="batches", count=4, size=500)
        _control(upstream, "hold")
        time.sleep(SETTLE_S)
        before = rss_bytes(service.pid)
        queued = caller.do(do="queue", batches=batches, size=size, seed=seed)
        time.sleep(SETTLE_S)
        full = rss_bytes(service.pid)
        _control(upstream, "release")
        curve: dict[int, tuple[int, int]] = {}
        caller.start(do="drain", size=size, report_every=total // 10)
        while not (said := caller.next()).get("done"):
            curve[said["finished"] * 100 // total] = rss_bytes(service.pid), said["waiting_text_bytes"]
        time.sleep(SETTLE_S)
        settled = rss_bytes(service.pid)
        caller.do(do="batches", count=8, size=500)
        later = rss_bytes(service.pid)
        text_bytes = queued["summary"]["text_bytes"]
        return {
            "queued": total,
            "batches": batches,
            "text_bytes_per_prompt": round(text_bytes / total),
            "rss_bytes_per_queued_prompt": round((full - before - text_bytes) / total),
            "rss_before": before,
            "rss_queued": full,
            "rss_and_waiting_text": {f"{percent} % done": list(value) for percent, value in sorted(curve.items())},
            "rss_finished": settled,
            "rss_after_4000_more": later,
            "rss_high_water": peak_rss_bytes(service.pid),
            "kept_at_half": round((curve[50][0] - before) / (full - before), 3),
            "kept_finished": round((settled - before) / (full - before), 3),
            "kept_after_4000_more": round((later - before) / (full - before), 3),
            "accept_wall_s": round(queued["wall_s"], 2),
            "finish_wall_s": round(said["wall_s"], 2),
        }


def _control(upstream: Upstream, wanted: str) -> None:
    with urllib.request.urlopen(f"{upstream.url}/control/{wanted}") as response:
        response.read()
