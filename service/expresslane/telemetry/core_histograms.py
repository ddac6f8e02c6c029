"""Histograms kept elsewhere as OTLP histograms: added to every export, since an instrument cannot observe one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from expresslane.prompts import PromptClass
from expresslane.telemetry import names
from expresslane.token_estimates import RATIO_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from expresslane._scheduler import Histogram as CoreHistogram
    from expresslane._scheduler import Ratio
    from expresslane.token_estimates import TokenEstimates

__all__ = ["CoreHistograms", "Series", "core_series", "ratio_series", "token_series"]

_Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Series:
    """One histogram, cumulative since start; `name` is one of names.HISTOGRAMS. `counts` has one more than `bounds`."""

    name: str
    attributes: Mapping[str, str]
    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


class CoreHistograms:
    """Where exporters find the histograms, once they are there: `bind` comes after the exporters are made."""

    def __init__(self, version: str = "") -> None:
        self._scope = InstrumentationScope(names.SCOPE, version)
        self._read: Callable[[], Iterable[Series]] = tuple
        self._start_ns = time.time_ns()

    def bind(self, read: Callable[[], Iterable[Series]]) -> None:
        """Read the histograms from here at each export; called on the exporting thread."""
        self._read = read

    def wrap(self, exporter: MetricExporter) -> MetricExporter:
        """An exporter that adds the histograms to what `exporter` exports."""
        return _CoreHistogramExporter(exporter, self)

    def add_to(
        self, found: Sequence[ScopeMetrics], previous: dict[_Key, HistogramDataPoint] | None
    ) -> list[ScopeMetrics]:
        """What an export has `found`, with all histograms as they are now: in the scope of the service's own metrics.

        A scope of its own with the same name would take the place of that one in the OTLP encoding.

        `previous`: the points of the last export, replaced by the new ones; then the result is what came since (delta).
        None: everything since the start (cumulative).
        """
        now_ns = time.time_ns()
        points: dict[str, list[HistogramDataPoint]] = {}
        for series in self._read():
            point = self._point(series, now_ns)
            if previous is not None:
                key = (series.name, tuple(series.attributes.values()))
                earlier, previous[key] = previous.get(key), point
                point = _since(earlier, point)
            if point.count:
                points.setdefault(series.name, []).append(point)
        temporality = AggregationTemporality.CUMULATIVE if previous is None else AggregationTemporality.DELTA
        own = [_metric(name, points[name], temporality) for name in sorted(points)]
        others = [one for one in found if one.scope != self._scope]
        ours = [one.metrics for one in found if one.scope == self._scope]
        merged = [metric for metrics in (*ours, own) for metric in metrics]
        return [*others, ScopeMetrics(self._scope, merged, "")] if merged else others

    def _point(self, series: Series, now_ns: int) -> HistogramDataPoint:
        counts = tuple(series.counts)
        unknown: Any = None  # No extremes are kept; None leaves these optional OTLP fields out.
        return HistogramDataPoint(
            attributes=series.attributes,
            start_time_unix_nano=self._start_ns,
            time_unix_nano=now_ns,
            count=sum(counts),
            sum=series.sum,
            bucket_counts=counts,
            explicit_bounds=tuple(series.bounds),
            min=unknown,
            max=unknown,
        )


class _CoreHistogramExporter(MetricExporter):
    """A MetricExporter that adds the core's histograms to each export of another one."""

    def __init__(self, inner: MetricExporter, histograms: CoreHistograms) -> None:
        # The reader asks its exporter for these two by their private names; there are no public ones.
        temporality = inner._preferred_temporality  # noqa: SLF001
        super().__init__(temporality, inner._preferred_aggregation)  # noqa: SLF001
        self._inner = inner
        self._histograms = histograms
        is_delta = (temporality or {}).get(HistogramInstrument) is AggregationTemporality.DELTA
        self._previous: dict[_Key, HistogramDataPoint] | None = {} if is_delta else None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        if metrics_data.resource_metrics:
            first, *rest = metrics_data.resource_metrics
            first = replace(first, scope_metrics=self._histograms.add_to(first.scope_metrics, self._previous))
            metrics_data = MetricsData([first, *rest])
        return self._inner.export(metrics_data, timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._inner.shutdown(timeout_millis, **kwargs)


def _metric(name: str, points: Sequence[HistogramDataPoint], temporality: AggregationTemporality) -> Metric:
    metric_name, unit, description = names.HISTOGRAMS[name]
    return Metric(metric_name, description, unit, Histogram(points, temporality))


def core_series(histograms: Iterable[CoreHistogram], backend_name: Callable[[int], str]) -> Iterator[Series]:
    """The core's own histograms of times, by backend and class."""
    for one in histograms:
        if one.name in names.HISTOGRAMS:
            attributes = _attributes("" if one.backend is None else backend_name(one.backend), one.prompt_class)
            yield Series(one.name, attributes, one.bounds_s, one.counts, one.sum_s)


def ratio_series(ratios: Iterable[Ratio], backend_name: Callable[[int], str]) -> Iterator[Series]:
    """How far the core's estimates were off, by backend and class."""
    for one in ratios:
        if one.name in names.HISTOGRAMS:
            attributes = _attributes(backend_name(one.backend), one.prompt_class)
            yield Series(one.name, attributes, one.bounds, one.counts, one.sum)


def token_series(estimates: TokenEstimates, model_name: Callable[[int], str]) -> Iterator[Series]:
    """How far token estimates were off, by model."""
    for model, known in estimates.models():
        counts = list(known.ratio_counts)
        yield Series(names.TOKEN_RATIO, {names.MODEL: model_name(model)}, RATIO_BOUNDS, counts, known.ratio_sum)


def _attributes(backend: str, prompt_class: int) -> dict[str, str]:
    return {names.BACKEND: backend, names.CLASS: PromptClass(prompt_class).name.lower()}


def _since(earlier: HistogramDataPoint | None, point: HistogramDataPoint) -> HistogramDataPoint:
    """What a cumulative point gained over an earlier one."""
    if earlier is None:
        return point
    counts = tuple(now - before for now, before in zip(point.bucket_counts, earlier.bucket_counts, strict=True))
    return replace(
        point,
        start_time_unix_nano=earlier.time_unix_nano,
        count=point.count - earlier.count,
        sum=point.sum - earlier.sum,
        bucket_counts=counts,
    )
