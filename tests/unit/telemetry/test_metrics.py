"""Metrics read from the core's counters, and its histograms in what exporters send."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from expresslane.batches.ticket import Ticket
from expresslane.holdings import OTHERS, Holdings
from expresslane.prompts import Prompt
from expresslane.rate_limits import Limit, RateLimits
from expresslane.results import Usage
from expresslane.telemetry.core_histograms import CoreHistograms, core_series
from expresslane.telemetry.metrics import Metrics
from expresslane.token_estimates import TokenEstimates
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    Histogram,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from tests.unit.telemetry.fake_snapshot import FakeBreaker, FakeHistogram, FakeSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane._scheduler import Snapshot

NEVER_MS = float("inf")


class KeepingExporter(MetricExporter):
    """Keeps every export."""

    def __init__(self, preferred_temporality: dict[type, AggregationTemporality] | None = None) -> None:
        super().__init__(preferred_temporality)
        self.exports: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: Any) -> MetricExportResult:
        assert timeout_millis > 0
        self.exports.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return timeout_millis > 0

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: Any) -> None:
        assert timeout_millis >= 0


SECOND = 10**9
LIMITS = RateLimits()
LIMITS.closed(0, Limit("tokens_per_min", 10 * SECOND, "gpu"), 0)
LIMITS.closed(0, Limit("tokens_per_min", 12 * SECOND, "gpu"), 5 * SECOND)
ESTIMATES = TokenEstimates()
TICKET = Ticket(Prompt("a", "big", "x" * 4_000), cast("Any", None), 0, 1_000, 4_000)
TICKET.model_number = 1
ESTIMATES.learn(TICKET, Usage(input_tokens=800, output_tokens=50))


NAMES = ["gpu", "cpu"].__getitem__


def register(provider: MeterProvider, histograms: CoreHistograms, take: Callable[[], FakeSnapshot]) -> None:
    """The service's metrics over fake snapshots of two backends and two models."""
    Metrics(
        provider,
        histograms,
        snapshot=cast("Callable[[], Snapshot]", take),
        backend_name=NAMES,
        model_name=["small", "big"].__getitem__,
        estimates=ESTIMATES,
        limits=LIMITS,
        refused=lambda: [("QUEUE_FULL", 7), ("UNKNOWN_MODEL", 1)],
    )


def values(data: MetricsData | None) -> dict[str, Any]:
    """Metric → value, or → {attribute values: value} where it has attributes."""
    assert data is not None
    found: dict[str, Any] = {}
    for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
        for point in metric.data.data_points:
            key = tuple((point.attributes or {}).values())
            value = getattr(point, "value", point)
            if key:
                found.setdefault(metric.name, {})[key] = value
            else:
                found[metric.name] = value
    return found


def histograms_of(data: MetricsData) -> dict[str, Histogram]:
    """The histograms of an export by metric."""
    metrics = (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics)
    return {metric.name: metric.data for metric in metrics if isinstance(metric.data, Histogram)}


def test_every_counter_of_the_core_is_a_metric() -> None:
    """Depth, lanes, caps, in flight, outcomes, retries and refusals are read from one snapshot, by name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    register(provider, CoreHistograms(), FakeSnapshot)
    assert values(reader.get_metrics_data()) == {
        "expresslane.queue.prompts": {("interactive",): 1, ("standard",): 2, ("batch",): 3},
        "expresslane.queue.model_prompts": {("small",): 4, ("big",): 2},
        "expresslane.queue.tokens": 12_345,
        "expresslane.queue.limit": 1_000,
        "expresslane.queue.held": 2,
        "expresslane.queue.retry_waiting": 1,
        "expresslane.prompts.submitted": 50,
        "expresslane.prompts.retried": 3,
        "expresslane.prompts.retries_denied": 4,
        "expresslane.prompts.refused": {("QUEUE_FULL",): 7, ("UNKNOWN_MODEL",): 1},
        "expresslane.prompts.ended": {("success",): 30, ("failed",): 4, ("cancelled",): 5, ("expired",): 2},
        "expresslane.backend.available": {("gpu",): 1},
        "expresslane.backend.cap": {("gpu",): 8},
        "expresslane.backend.in_flight": {("gpu",): 3},
        "expresslane.backend.long_in_prefill": {("gpu",): 1},
        "expresslane.backend.short_tokens_in_prefill": {("gpu",): 700},
        "expresslane.backend.outstanding_prefill_tokens": {("gpu",): 9_000},
        "expresslane.backend.prefill_rate": {("gpu",): 5_000.0},
        "expresslane.backend.short_budget": {("gpu",): 32_768},
        "expresslane.backend.long_slots": {("gpu",): 2},
        "expresslane.backend.loaded_models": {("gpu",): 2},
        "expresslane.backend.model_loads": {("gpu",): 4},
        "expresslane.backend.model_cap": {("gpu", "small"): 4, ("gpu", "big"): 8},
        "expresslane.backend.turned_away": {("gpu",): 2},
        "expresslane.backend.breaker": {("gpu", "closed"): 0, ("gpu", "open"): 1, ("gpu", "half_open"): 0},
        "expresslane.backend.breaker_openings": {("gpu",): 6},
        "expresslane.backend.rate_limited": {("gpu",): 2},
        "expresslane.backend.rate_limited_time": {("gpu",): 12.0},
        "expresslane.attempts.started": {("gpu",): 40},
        "expresslane.attempts.ended": {("gpu", "success"): 30, ("gpu", "failed"): 4, ("gpu", "retry"): 3},
    }


@pytest.mark.parametrize("state", ["closed", "half_open", None])
def test_the_state_of_a_breaker(state: str | None) -> None:
    """Each state shows as a 1 of its own, half-open too; a backend without a breaker shows none."""
    snapshot = FakeSnapshot()
    snapshot.backends[0].breaker = None if state is None else FakeBreaker(state)
    reader = InMemoryMetricReader()
    register(MeterProvider([reader], shutdown_on_exit=False), CoreHistograms(), lambda: snapshot)
    seen = values(reader.get_metrics_data())
    if state is None:
        assert not [name for name in seen if "breaker" in name]
        return
    shown = {key: value for key, value in seen["expresslane.backend.breaker"].items() if value}
    assert shown == {("gpu", state): 1}


def test_what_is_held_is_told_by_tenant() -> None:
    """Each number is a metric by tenant; they are looked up once a collection (A28)."""
    looks: list[int] = []

    def held() -> list[tuple[str, Holdings]]:
        looks.append(1)
        return [("acme", Holdings(1, 2, 3, 4, 5, 6, 7, 8)), (OTHERS, Holdings(10, 20, 30, 40, 50, 60, 70, 80))]

    reader = InMemoryMetricReader()
    take = cast("Callable[[], Snapshot]", FakeSnapshot)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    Metrics(provider, CoreHistograms(), snapshot=take, held=held, backend_name=NAMES, model_name=NAMES)
    seen = values(reader.get_metrics_data())
    order = [
        "open_calls",
        "unread_results",
        "unread_bytes",
        "jobs",
        "job_result_bytes",
        "kept_batches",
        "kept_result_bytes",
        "open_sessions",
    ]
    assert {name: value for name, value in seen.items() if ".held." in name} == {
        f"expresslane.held.{name}": {("acme",): place, (OTHERS,): 10 * place} for place, name in enumerate(order, 1)
    }
    assert len(looks) == 1


def test_one_collection_takes_one_snapshot() -> None:
    """All metrics of a collection come from the same snapshot, so they agree and the core is asked once."""
    taken: list[FakeSnapshot] = []

    def take() -> FakeSnapshot:
        taken.append(FakeSnapshot())
        return taken[-1]

    reader = InMemoryMetricReader()
    register(MeterProvider([reader], shutdown_on_exit=False), CoreHistograms(), take)
    reader.get_metrics_data()
    assert len(taken) == 1


def test_no_snapshot_is_taken_while_nothing_collects() -> None:
    """Without a reader the core is never asked."""

    def take() -> FakeSnapshot:
        pytest.fail("asked for a snapshot")

    register(MeterProvider([], shutdown_on_exit=False), CoreHistograms(), take)


def test_the_cores_histograms_are_in_each_export() -> None:
    """Counts, sum and bounds arrive as an OTLP histogram by backend and class, cumulative."""
    histograms, exporter = CoreHistograms("1.2"), KeepingExporter()
    reader = PeriodicExportingMetricReader(histograms.wrap(exporter), NEVER_MS)
    register(MeterProvider([reader], shutdown_on_exit=False), histograms, FakeSnapshot)
    reader.collect()

    data = histograms_of(exporter.exports[0])["expresslane.prompt.ttft"]
    assert data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    (point,) = data.data_points
    assert point.attributes == {"expresslane.backend": "gpu", "expresslane.class": "standard"}
    assert (point.count, point.sum) == (6, 4.5)
    assert (point.bucket_counts, point.explicit_bounds) == ((2, 3, 1), (0.1, 1.0))


def test_how_far_estimates_are_off_is_exported() -> None:
    """Token estimates over reported usage by model, predicted over measured prefill times by backend and class."""
    histograms, exporter = CoreHistograms("1.2"), KeepingExporter()
    reader = PeriodicExportingMetricReader(histograms.wrap(exporter), NEVER_MS)
    register(MeterProvider([reader], shutdown_on_exit=False), histograms, FakeSnapshot)
    reader.collect()
    found = histograms_of(exporter.exports[0])
    (tokens,) = found["expresslane.prompt.token_estimate_ratio"].data_points
    assert (dict(tokens.attributes or {}), tokens.count, tokens.sum) == ({"expresslane.model": "big"}, 1, 1.25)
    (prefill,) = found["expresslane.prefill.estimate_ratio"].data_points
    assert prefill.attributes == {"expresslane.backend": "cpu", "expresslane.class": "batch"}
    assert tuple(prefill.bucket_counts) == (0, 4, 1)


def test_the_cores_histograms_survive_the_otlp_encoding() -> None:
    """What is sent has real buckets, leaves out the extremes that the core does not keep, and hides no other metric."""
    histograms, exporter = CoreHistograms(), KeepingExporter()
    reader = PeriodicExportingMetricReader(histograms.wrap(exporter), NEVER_MS)
    register(MeterProvider([reader], shutdown_on_exit=False), histograms, FakeSnapshot)
    reader.collect()

    encoded = encode_metrics(exporter.exports[0])
    metrics = [m for r in encoded.resource_metrics for s in r.scope_metrics for m in s.metrics]
    exported = [m for r in exporter.exports[0].resource_metrics for s in r.scope_metrics for m in s.metrics]
    assert sorted(m.name for m in metrics) == sorted(m.name for m in exported)
    assert {"expresslane.queue.prompts", "expresslane.prompts.submitted"} < {m.name for m in metrics}
    (metric,) = (metric for metric in metrics if metric.name == "expresslane.prompt.ttft")
    (point,) = metric.histogram.data_points
    assert (metric.name, metric.unit) == ("expresslane.prompt.ttft", "s")
    assert list(point.bucket_counts) == [2, 3, 1]
    assert not point.HasField("min")
    assert not point.HasField("max")


def test_a_collector_that_wants_deltas_gets_deltas() -> None:
    """With delta temporality each export holds only what came since the last, and nothing when nothing came."""
    snapshot = FakeSnapshot()
    histograms = CoreHistograms()
    histograms.bind(lambda: core_series(cast("Any", snapshot.histograms), ["gpu"].__getitem__))
    exporter = KeepingExporter({HistogramInstrument: AggregationTemporality.DELTA})
    wrapped = histograms.wrap(exporter)
    empty = InMemoryMetricReader()
    MeterProvider([empty], shutdown_on_exit=False).get_meter("test").create_counter("c").add(1)
    data = empty.get_metrics_data()
    assert data is not None

    wrapped.export(data)
    snapshot.histograms = [FakeHistogram("ttft", 0, 1, [0.1, 1.0], [2, 4, 3], 9.0)]
    wrapped.export(data)
    wrapped.export(data)

    first, second = (histograms_of(export)["expresslane.prompt.ttft"] for export in exporter.exports[:2])
    assert first.data_points[0].count == 6
    assert second.aggregation_temporality is AggregationTemporality.DELTA
    assert second.data_points[0].bucket_counts == (0, 1, 2)
    assert second.data_points[0].sum == 4.5
    assert second.data_points[0].start_time_unix_nano == first.data_points[0].time_unix_nano
    assert histograms_of(exporter.exports[2]) == {}


def test_the_console_exporter_shows_the_cores_histograms() -> None:
    """OTEL_METRICS_EXPORTER=console prints them as valid JSON."""
    out = io.StringIO()
    histograms = CoreHistograms()
    reader = PeriodicExportingMetricReader(histograms.wrap(ConsoleMetricExporter(out)), NEVER_MS)
    register(MeterProvider([reader], shutdown_on_exit=False), histograms, FakeSnapshot)
    reader.collect()

    def refuse(text: str) -> None:
        pytest.fail(f"{text} is not JSON")

    printed = json.loads(out.getvalue(), parse_constant=refuse)
    metrics = [m["name"] for r in printed["resource_metrics"] for s in r["scope_metrics"] for m in s["metrics"]]
    assert "expresslane.prompt.ttft" in metrics
    assert "expresslane.queue.prompts" in metrics


def test_prompts_that_never_had_a_backend_are_counted_without_one() -> None:
    """A histogram of prompts that were never released has an empty backend."""
    histograms = CoreHistograms()
    never = FakeHistogram("total", None, 2, [1.0], [1, 0], 0.5)
    histograms.bind(lambda: core_series([cast("Any", never)], str))
    (scope,) = histograms.add_to((), None)
    (point,) = scope.metrics[0].data.data_points
    assert point.attributes == {"expresslane.backend": "", "expresslane.class": "batch"}
