"""CPU of the service per prompt over CPU of the bare loop per request, round by round, one after the other."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from tests.bench.processes import IN_FLIGHT, Child, Service, Telemetry, Upstream, cpu_s

__all__ = ["BATCH", "Ratio", "batches", "measure"]

BATCH = 500
WARM_UP = 2
SETTLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Side:
    """One side of one round: CPU and wall time, in microseconds each."""

    cpu_us: float
    wall_us: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """All rounds of one comparison."""

    service: list[Side]
    bare: list[Side]
    messages_per_batch: float

    def report(self) -> dict[str, Any]:
        """Numbers for the JSON object; spreads are min, median, max."""
        pairs = list(zip(self.service, self.bare, strict=True))
        return {
            "ratio": spread([service.cpu_us / bare.cpu_us for service, bare in pairs], 3),
            "service_cpu_us": spread([side.cpu_us for side in self.service], 1),
            "bare_cpu_us": spread([side.cpu_us for side in self.bare], 1),
            "service_prompts_per_s": spread([1e6 / side.wall_us for side in self.service], 0),
            "bare_requests_per_s": spread([1e6 / side.wall_us for side in self.bare], 0),
            "messages_per_batch": round(self.messages_per_batch, 1),
        }


def spread(values: list[float], digits: int) -> list[float]:
    """Minimum, median and maximum."""
    return [round(value, digits) for value in (min(values), statistics.median(values), max(values))]


def measure(
    upstream: Upstream,
    mode: str,
    *,
    rounds: int,
    per_round: int,
    seed: int,
    telemetry: Telemetry | None = None,
    unary: bool = False,
) -> Ratio:
    """Compare the two in one of the upstream's modes, `per_round` prompts a round each, after a warm-up of both."""
    with (
        Service(upstream, mode, telemetry=telemetry) as service,
        Child("caller", service.address, seed) as caller,
        Child("bare_loop", upstream.url, seed) as bare,
    ):
        count = max(1, per_round // BATCH)
        command = (
            {"do": "unary", "count": count * BATCH, "in_flight": IN_FLIGHT}
            if unary
            else {"do": "batches", "count": count, "size": BATCH}
        )
        caller.do(**{**command, "count": WARM_UP * (BATCH if unary else 1)})
        bare.do(mode=mode, count=WARM_UP * BATCH, in_flight=IN_FLIGHT)
        bare_command = {"mode": mode, "count": count * BATCH, "in_flight": IN_FLIGHT}
        services: list[Side] = []
        bares: list[Side] = []
        messages = 0.0

        def run_service() -> None:
            nonlocal messages
            side, reply = _timed(service.pid, caller, count * BATCH, command)
            messages = reply["messages"] / count
            services.append(side)

        def run_bare() -> None:
            bares.append(_timed(bare.pid, bare, count * BATCH, bare_command)[0])

        for number in range(rounds):
            for run in (run_service, run_bare) if number % 2 else (run_bare, run_service):
                run()
        return Ratio(services, bares, messages)


def _timed(pid: int, child: Child, prompts: int, command: dict[str, Any]) -> tuple[Side, dict[str, Any]]:
    time.sleep(SETTLE_S)
    before = cpu_s(pid)
    reply = child.do(**command)
    cpu = cpu_s(pid) - before
    return Side(cpu * 1e6 / prompts, reply["wall_s"] * 1e6 / prompts), reply


def batches(upstream: Upstream, mode: str, *, cap: int, count: int, size: int, seed: int) -> dict[str, Any]:
    """Wall time of batches at a cap; returns the last one's summary."""
    with Service(upstream, mode, cap=cap) as service, Child("caller", service.address, seed) as caller:
        caller.do(do="batches", count=1, size=cap)
        reply = caller.do(do="batches", count=count, size=size)
        return {**reply["summary"], "caller_wall_s": reply["wall_s"] / count}
