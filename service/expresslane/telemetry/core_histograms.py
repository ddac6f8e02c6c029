"""The core's histograms as OTLP histograms: added to every export, since an instrument cannot observe a histogram."""

from __future__ import annotations

import time
from dataclasses import replace
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from expresslane._scheduler import Histogram as CoreHistogram

__all__ = ["CoreHistograms"]

_Key = tuple[str, int | None, int]


class CoreHistograms:
    """Where exporters find the core's histograms, once there is a core: `bind` comes after the exporters are made."""

    def __init__(self, version: str = "") -> None:
        self._scope = InstrumentationScope(names.SCOPE, version)
        self._read: Callable[[], Iterable[CoreHistogram]] = tuple
        self._backend_name: Callable[[int], str] = str
        self._start_ns = time.time_ns()

    def bind(self, read: Callable[[], Iterable[CoreHistogram]], backend_name: Callable[[int], str]) -> None:
        """Read the histograms from here at each export; called on the exporting thread."""
        self._read = read
        self._backend_name = backend_name

    def wrap(self, exporter: MetricExporter) -> MetricExporter:
        """An exporter that adds the core's histograms to what `exporter` exports."""
        return _CoreHistogramExporter(exporter, self)

    def scope_metrics(self, previous: dict[_Key, HistogramDataPoint] | None) -> ScopeMetrics | None:
        """All histograms as they are now, or None when there are none.

        `previous`: the points of the last export, replaced by the new ones; then the result is what came since (delta).
        None: everything since the start (cumulative).
        """
        now_ns = time.time_ns()
        points: dict[str, list[HistogramDataPoint]] = {}
        for histogram in self._read():
            if histogram.name not in names.CORE_HISTOGRAMS:
                continue
            point = self._point(histogram, now_ns)
            if previous is not None:
                key = (histogram.name, histogram.backend, histogram.prompt_class)
                earlier, previous[key] = previous.get(key), point
                point = _since(earlier, point)
            if point.count:
                points.setdefault(histogram.name, []).append(point)
        if not points:
            return None
        temporality = AggregationTemporality.CUMULATIVE if previous is None else AggregationTemporality.DELTA
        return ScopeMetrics(self._scope, [_metric(name, points[name], temporality) for name in sorted(points)], "")

    def _point(self, histogram: CoreHistogram, now_ns: int) -> HistogramDataPoint:
        attributes: Mapping[str, str] = {
            names.BACKEND: "" if histogram.backend is None else self._backend_name(histogram.backend),
            names.CLASS: PromptClass(histogram.prompt_class).name.lower(),
        }
        counts = tuple(histogram.counts)
        unknown: Any = None  # The core keeps no extremes; None leaves these optional OTLP fields out.
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._start_ns,
            time_unix_nano=now_ns,
            count=sum(counts),
            sum=histogram.sum_s,
            bucket_counts=counts,
            explicit_bounds=tuple(histogram.bounds_s),
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
        scope = self._histograms.scope_metrics(self._previous)
        if scope is not None and metrics_data.resource_metrics:
            first, *rest = metrics_data.resource_metrics
            first = replace(first, scope_metrics=[*first.scope_metrics, scope])
            metrics_data = MetricsData([first, *rest])
        return self._inner.export(metrics_data, timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._inner.shutdown(timeout_millis, **kwargs)


def _metric(name: str, points: Sequence[HistogramDataPoint], temporality: AggregationTemporality) -> Metric:
    metric_name, description = names.CORE_HISTOGRAMS[name]
    return Metric(metric_name, description, "s", Histogram(points, temporality))


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
