"""A stand-in for the core's snapshot: the same names, plain values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FakeHistogram:
    name: str
    backend: int | None
    prompt_class: int
    bounds_s: list[float]
    counts: list[int]
    sum_s: float


@dataclass
class FakeBreaker:
    state: str
    opened: int = 6


@dataclass
class FakeRatio:
    name: str
    backend: int
    prompt_class: int
    bounds: list[float]
    counts: list[int]
    sum: float


@dataclass
class FakeBackend:
    backend: int = 0
    available: bool = True
    cap: int = 8
    in_flight: int = 3
    peak_in_flight: int = 5
    in_flight_by_model: list[tuple[int, int]] = field(default_factory=lambda: [(0, 3)])
    loaded_models: list[int] = field(default_factory=lambda: [0, 1])
    model_loads: int = 4
    cap_by_model: list[tuple[int, int]] = field(default_factory=lambda: [(0, 4), (1, 8)])
    long_in_prefill: int = 1
    short_tokens_in_prefill: int = 700
    outstanding_prefill_tokens: int = 9_000
    long_slots: int = 2
    short_budget_tokens: int = 32_768
    prefill_ns: tuple[float, float, float] = (0.0, 200_000.0, 0.0)
    breaker: FakeBreaker | None = field(default_factory=lambda: FakeBreaker("open"))
    dispatched: int = 40
    turned_away: int = 2
    outcomes: dict[str, int] = field(default_factory=lambda: {"success": 30, "failed": 4, "retry": 3})


@dataclass
class FakeSnapshot:
    policy: str = "hrrn"
    queue_limit: int = 1_000
    in_flight_limit: int = 0
    queued: int = 6
    held: int = 2
    retry_waiting: int = 1
    in_flight: int = 3
    queued_tokens: int = 12_345
    queued_by_class: tuple[int, int, int] = (1, 2, 3)
    queued_by_model: list[tuple[int, int]] = field(default_factory=lambda: [(0, 4), (1, 2)])
    submitted: int = 50
    succeeded: int = 30
    failed: int = 4
    cancelled: int = 5
    expired: int = 2
    retried: int = 3
    retries_denied: int = 4
    refused: int = 7
    drain_rate_per_s: float = 1.0
    finish_rate_per_s: float = 1.0
    backends: list[FakeBackend] = field(default_factory=lambda: [FakeBackend()])
    histograms: list[FakeHistogram] = field(
        default_factory=lambda: [FakeHistogram("ttft", 0, 1, [0.1, 1.0], [2, 3, 1], 4.5)]
    )
    ratios: list[FakeRatio] = field(default_factory=lambda: [FakeRatio("prefill", 1, 2, [0.5, 1.0], [0, 4, 1], 5.5)])
