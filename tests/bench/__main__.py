"""`python -m tests.bench`: measure, print tables, and one JSON object last. Never asserts: numbers are for people."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.bench import core, memory, poll, ratio
from tests.bench.processes import IN_FLIGHT, BenchError, Telemetry, Upstream
from tests.bench.report import conditions, finish, say, table
from tests.bench.upstream import EVENTS, SEGMENT_GAP_S

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENTS = 5


class Bench:
    """The measurements, each under its own name."""

    def __init__(self, *, quick: bool, seed: int) -> None:
        self._quick = quick
        self._seed = seed
        self.rounds = 4 if quick else 16
        self.prompts = 2_000 if quick else 5_000
        self.result: dict[str, Any] = {}
        self.details: dict[str, Any] = {}
        self.failures: dict[str, str] = {}

    def parts(self) -> dict[str, Callable[[Upstream], None]]:
        """Name to measurement, in the order they run."""
        return {
            "batch": self._batch,
            "stream": self._stream,
            "unary": self._unary,
            "telemetry": self._telemetry,
            "wall": self._wall,
            "rss": self._rss,
            "core": self._core,
            "poll": self._poll,
        }

    def run(self, only: list[str]) -> None:
        """Every part that is wanted; one that fails does not stop the others."""
        for name, part in self.parts().items():
            if only and name not in only:
                continue
            say(f"measuring {name} ...")
            started = time.monotonic()
            try:
                with Upstream() as upstream:
                    part(upstream)
            except BenchError as error:
                self.failures[name] = str(error).splitlines()[-1].strip()
                say(f"  failed: {error}")
            say(f"  {time.monotonic() - started:.0f} s")

    def _ratio(self, name: str, upstream: Upstream, mode: str, share: float = 1.0, **options: Any) -> list[float]:
        prompts = max(ratio.BATCH, int(self.prompts * share))
        measured = ratio.measure(upstream, mode, rounds=self.rounds, per_round=prompts, seed=self._seed, **options)
        self.details[name] = report = measured.report()
        table(f"{name}: {self.rounds} rounds of {prompts:,}, {IN_FLIGHT} in flight (median, min, max)", report)
        spread: list[float] = report["ratio"]
        return spread

    def _batch(self, upstream: Upstream) -> None:
        self.result["cpu_ratio_batch"] = self._ratio("batch", upstream, "plain")[1]

    def _stream(self, upstream: Upstream) -> None:
        few, many = f"stream/{SEGMENTS}", f"stream/{EVENTS}"
        ratios = {
            f"cpu_ratio_stream_{SEGMENTS}_segments": self._ratio("stream", upstream, few, 0.5)[1],
            "cpu_ratio_stream_segment_per_event": self._ratio("stream_segment_per_event", upstream, many, 0.2)[1],
        }
        self.result |= {"cpu_ratio_stream": max(ratios.values()), **ratios}

    def _unary(self, upstream: Upstream) -> None:
        self.result["cpu_ratio_unary"] = self._ratio("unary", upstream, "plain", 0.2, unary=True)[1]

    def _telemetry(self, upstream: Upstream) -> None:
        levels = {
            "off": Telemetry(exports=False),
            "unsampled": Telemetry(),
            "sampled": Telemetry(sampler="parentbased_always_on"),
        }
        for level, telemetry in levels.items():
            spread = self._ratio(f"telemetry_{level}", upstream, "plain", 0.3, telemetry=telemetry)
            self.result[f"cpu_ratio_batch_telemetry_{level}"] = spread[1]

    def _wall(self, upstream: Upstream) -> None:
        one_by_one = ratio.batches(upstream, "slow/200", cap=1, count=1, size=10, seed=self._seed)
        together = ratio.batches(upstream, "slow/200", cap=100, count=1, size=100, seed=self._seed)
        sequential_s = one_by_one["wall_s"] * 10
        self.details["wall"] = report = {
            "sequential_s_for_100 (10 measured at cap 1, times 10)": round(sequential_s, 3),
            "wall_s_for_100_at_cap_100": round(together["wall_s"], 3),
            "summary_speed_up": round(together["speed_up"], 1),
        }
        self.result["speed_up_100x200ms"] = round(sequential_s / together["wall_s"], 1)
        table("wall: 100 prompts of 200 ms each", report)

    def _rss(self, upstream: Upstream) -> None:
        batches, size = (5, 2_000) if self._quick else (20, 5_000)
        self.details["rss"] = report = memory.measure(upstream, batches=batches, size=size, seed=self._seed)
        self.result["rss_bytes_per_queued_prompt"] = report["rss_bytes_per_queued_prompt"]
        table("rss, in bytes", report)

    def _core(self, _: Upstream) -> None:
        self.details["core"] = report = core.measure()
        self.result["core_cycle_ns_100k"] = report["core_cycle_ns_100k"]
        table("core", report)

    def _poll(self, _: Upstream) -> None:
        self.details["poll"] = report = poll.measure(rounds=self.rounds * 4, seed=self._seed)
        self.result["poll_ns_per_decision_1000"] = report["poll_ns_per_decision_1000"]
        table("poll through PyO3: ns of CPU per decision, 1,000 decisions in a poll, 4 backends", report)

    def settings(self) -> dict[str, object]:
        """The bench's own conditions."""
        return {
            "quick": self._quick,
            "rounds": self.rounds,
            "prompts_per_round": self.prompts,
            "batch_size": ratio.BATCH,
            "in_flight": IN_FLIGHT,
            "upstream": f"raw sockets, own process; streams: {EVENTS} events as {EVENTS} chunks of chunked encoding in "
            f"{SEGMENTS} TCP segments {SEGMENT_GAP_S * 1e3:.0f} ms apart (segment_per_event: {EVENTS} segments)",
            "service": "python -m expresslane serve, defaults but: kind openai, cap, streaming as the mode needs, "
            "attempt timeout 600 s",
            "bare_loop": "aiohttp session and 64 workers, Python's own garbage collection set as the service sets it",
            "tracing": "SDK and OTLP exporter on, sampler parentbased_always_off unless named otherwise",
            "metrics": "on, OTLP over HTTP at the SDK's interval (60 s), taken by the fake upstream",
            "statistic": "CPU: user and system time of the whole process over a round, warm-up excluded; "
            "median of rounds, the sides in turn, each first every other round",
        }


def main() -> int:
    """Run what the command line asks for. Exit code 1 when a part could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, 10,000 queued prompts")
    parser.add_argument(
        "--only", default="", help="comma-separated parts: batch, stream, unary, telemetry, wall, rss, core, poll"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    bench = Bench(quick=arguments.quick, seed=arguments.seed)
    only = [name.strip() for name in arguments.only.split(",") if name.strip()]
    if unknown := set(only) - set(bench.parts()):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; there are {', '.join(bench.parts())}")
    bench.run(only)
    finish(
        {
            **bench.result,
            "details": bench.details,
            "failures": bench.failures,
            "conditions": conditions(arguments.seed, bench.settings()),
        }
    )
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
