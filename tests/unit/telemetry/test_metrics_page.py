"""docs/metrics.md against what is exported: the same metrics, with the same kinds, units and attributes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import grpc
from expresslane.batches.ticket import Ticket
from expresslane.holdings import Holdings
from expresslane.interceptors.observe import ObserveInterceptor
from expresslane.prompts import Prompt
from expresslane.results import Usage
from expresslane.telemetry import names
from expresslane.telemetry.core_histograms import CoreHistograms
from expresslane.telemetry.metrics import Metrics
from expresslane.token_estimates import TokenEstimates
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Metric, Sum

from tests.unit.telemetry.fake_snapshot import FakeHistogram, FakeSnapshot

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(\S+)` \| (\w+) \| `(\S+)` \| (.*?) ?\| (.+) \|")
NOT_METRICS = {
    names.BACKEND_KIND,
    names.BATCH_COUNT_PREFIX,
    names.BATCH_PROMPTS,
    names.BATCH_STATE,
    names.PROVIDER_CODE,
    names.PROVIDER_REQUEST_ID,
}
"""Attributes of spans that are named like metrics: `expresslane.`, a group, a name."""


class Told(NamedTuple):
    """What a dashboard needs to know of a metric."""

    kind: str
    unit: str
    attributes: frozenset[str]


def page() -> list[tuple[str, Told]]:
    """Each row of the page's tables of metrics, in its order."""
    lines = PAGE.read_text().splitlines()
    rows = [ROW.fullmatch(line) for line in lines if line.startswith("| `")]
    assert all(rows), "a row that is not: metric, kind, unit, attributes, what it says"
    found = [row.groups() for row in rows if row]
    return [(name, Told(kind, unit, frozenset(re.findall("`(.+?)`", of)))) for name, kind, unit, of, _ in found]


def kind_of(metric: Metric) -> str:
    """The kind of instrument that it is exported as."""
    if isinstance(metric.data, Histogram):
        return "histogram"
    return "counter" if isinstance(metric.data, Sum) and metric.data.is_monotonic else "gauge"


def exported() -> dict[str, Told]:
    """Every metric of the service, where each has something to tell."""
    reader, histograms, estimates = InMemoryMetricReader(), CoreHistograms(), TokenEstimates()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    ticket = Ticket(Prompt("a", "big", "x" * 4_000), cast("Any", None), 0, 1_000, 4_000)
    estimates.learn(ticket, Usage(input_tokens=800, output_tokens=50))
    times = [FakeHistogram(name, 0, 1, [0.1], [1, 0], 0.1) for name in ("queue_wait", "ttft", "total")]
    Metrics(
        provider,
        histograms,
        snapshot=cast("Any", lambda: FakeSnapshot(histograms=times)),
        backend_name=str,
        model_name=str,
        estimates=estimates,
        refused=lambda: [("QUEUE_FULL", 7)],
        held=lambda: [("acme", Holdings(1, 2, 3, 4, 5, 6, 7, 8))],
    )
    ObserveInterceptor(meter_provider=provider).record("expresslane.v1.Admin/GetStatus", grpc.StatusCode.OK, 0.1)
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    found: dict[str, Told] = {}
    for metric in (metric for scope in histograms.add_to(scopes, None) for metric in scope.metrics):
        attributes = frozenset(key for point in metric.data.data_points for key in point.attributes or {})
        found[metric.name] = Told(kind_of(metric), metric.unit or "", attributes)
    return found


def test_the_page_tells_every_metric_as_it_is_exported() -> None:
    """Names, kinds, units and attributes are the same, and each metric stands there once."""
    rows = page()
    assert len(rows) == len(dict(rows))
    assert dict(rows) == exported()


def test_every_name_of_a_metric_is_on_the_page() -> None:
    """The table of names holds no metric that is not exported, and none is exported under a name from elsewhere."""
    constants = {str(value) for name, value in vars(names).items() if name.isupper()}
    grouped = {value for value in constants if re.fullmatch(r"expresslane\.\w+\.[\w.]+", value)}
    assert grouped >= NOT_METRICS
    of_histograms = {name for name, _, _ in names.HISTOGRAMS.values()}
    assert (grouped - NOT_METRICS) | of_histograms | {names.METRIC_RPC_DURATION} == {name for name, _ in page()}


def test_what_to_alert_on_names_metrics_of_the_page() -> None:
    """Each dotted name in the alerts is one of the tables', without its first word or with it."""
    alerts = PAGE.read_text().partition("## What to alert on")[2]
    known = {name for name, _ in page()}
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", alerts)
    assert len(named) > 10
    assert [name for name in named if name not in known and f"expresslane.{name}" not in known] == []
