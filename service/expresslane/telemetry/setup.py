"""OpenTelemetry by its standard OTEL_* variables: providers, exporters and their bounded end.

Nothing is exported unless an exporter or an OTLP endpoint is set. Without one no span is recorded, and the caller's
trace context passes through to the backends as it came.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from yarl import URL

from expresslane.errors import ConfigError
from expresslane.masking import MASK, masked, masked_url
from expresslane.telemetry import names
from expresslane.telemetry.core_histograms import CoreHistograms
from expresslane.telemetry.spans import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Telemetry"]

Signal = Literal["traces", "metrics"]

SHUTDOWN_TIMEOUT_S = 5.0
SPAN_QUEUE_MAX = 16_384
"""Ended spans that may wait for export, unless OTEL_BSP_MAX_QUEUE_SIZE says: the SDK's 2,048 lose part of a batch."""

_EXPORTERS = ("otlp", "console", "none")
_PROTOCOLS = ("grpc", "http/protobuf")
_SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_COMPRESSIONS = {"grpc": ("gzip",), "http/protobuf": ("gzip", "deflate", "none")}
_HEADERS = re.compile(r"\s*[^\s=,;]+\s*=[^,]*(,\s*[^\s=,;]+\s*=[^,]*)*,?\s*")
_GRPC_TARGET = re.compile(r"(dns|unix|ipv4|ipv6|unix-abstract):\S+|[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?")
_COUNTS = (
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The running telemetry: where spans and metrics of the service go."""

    tracer_provider: trace.TracerProvider
    meter_provider: metrics.MeterProvider
    tracer: Tracer
    histograms: CoreHistograms
    exporting: tuple[str, ...]
    """What is exported, such as `traces: otlp (grpc)`, for the start-up line."""

    @classmethod
    def start(cls, version: str, environ: Mapping[str, str], *, content: bool = False) -> Telemetry:
        """Start what the environment asks for. Raises ConfigError with one line for each mistake.

        `content`: whether prompts and answers stand in spans. `environ` must be the process's own: the SDK
        reads endpoints, headers, limits and intervals by itself.
        """
        problems = _problems(environ)
        if problems:
            raise ConfigError("\n".join(problems))
        try:
            return cls._start(version, environ, content=content)
        except Exception as error:  # the SDK has no class for it
            raise ConfigError(f"telemetry cannot start with these OTEL_* variables: {error}") from error

    @classmethod
    def _start(cls, version: str, environ: Mapping[str, str], *, content: bool) -> Telemetry:
        resource = _resource(version)
        histograms = CoreHistograms(version)
        exporting: list[str] = []
        tracer_provider: trace.TracerProvider = trace.NoOpTracerProvider()
        span_exporters = [_span_exporter(name, environ) for name in _chosen("traces", environ, exporting)]
        if span_exporters:
            # A plain exit must not wait for an unreachable collector: `shutdown` bounds the wait.
            recording = TracerProvider(resource=resource, shutdown_on_exit=False)
            queue_max = None if _value(environ, "OTEL_BSP_MAX_QUEUE_SIZE") else SPAN_QUEUE_MAX
            for exporter in span_exporters:
                recording.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=queue_max))
            tracer_provider = recording
        meter_provider: metrics.MeterProvider = metrics.NoOpMeterProvider()
        readers: list[MetricReader] = [
            PeriodicExportingMetricReader(histograms.wrap(_metric_exporter(name, environ)))
            for name in _chosen("metrics", environ, exporting)
        ]
        if readers:
            meter_provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        tracer = Tracer(tracer_provider, version, content=content)
        return cls(tracer_provider, meter_provider, tracer, histograms, tuple(exporting))

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Send what is left and stop. Blocks for at most `timeout_s`; what no collector has taken by then is lost."""
        providers = [each for each in (self.tracer_provider, self.meter_provider) if hasattr(each, "shutdown")]
        threads = [
            threading.Thread(target=provider.shutdown, name="telemetry-shutdown", daemon=True) for provider in providers
        ]
        for thread in threads:
            thread.start()
        end_s = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))


def _chosen(signal: Signal, environ: Mapping[str, str], exporting: list[str]) -> list[str]:
    """The exporters of a signal, by name."""
    if _value(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return []
    upper = signal.upper()
    listed = _value(environ, f"OTEL_{upper}_EXPORTER")
    if not listed:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT")
        listed = "otlp" if any(_value(environ, name) for name in endpoints) else "none"
    chosen = [name for name in dict.fromkeys(_split(listed)) if name != "none"]
    protocol = _protocol(signal, environ)
    exporting += [f"{signal}: {name}" + (f" ({protocol})" if name == "otlp" else "") for name in chosen]
    return chosen


def _span_exporter(name: str, environ: Mapping[str, str]) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    return GrpcSpanExporter() if _protocol("traces", environ) == "grpc" else HttpSpanExporter()


def _metric_exporter(name: str, environ: Mapping[str, str]) -> MetricExporter:
    if name == "console":
        return ConsoleMetricExporter()
    return GrpcMetricExporter() if _protocol("metrics", environ) == "grpc" else HttpMetricExporter()


def _protocol(signal: Signal, environ: Mapping[str, str]) -> str:
    own = _value(environ, f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
    return own or _value(environ, "OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"


def _resource(version: str) -> Resource:
    """What the environment says of this process, with our name and version where it says nothing."""
    told = Resource({SERVICE_VERSION: version}).merge(Resource.create())
    if str(told.attributes[SERVICE_NAME]).startswith("unknown_service"):
        told = told.merge(Resource({SERVICE_NAME: names.SCOPE}))
    return told


def _problems(environ: Mapping[str, str]) -> list[str]:
    """One line for each OTEL_* variable whose value cannot be followed."""
    problems = []

    def check(name: str, ok: Callable[[str], bool], allowed: str, example: str, *, secret: bool = False) -> None:
        value = _value(environ, name)
        if value and not ok(value):
            hide = masked_url if name.endswith("ENDPOINT") else masked
            shown = MASK if secret else hide(value)[:100]
            problems.append(f"{name}={shown!a} is not allowed. Allowed: {allowed}. Example: {name}={example}")

    for signal in ("TRACES", "METRICS"):
        check(
            f"OTEL_{signal}_EXPORTER",
            lambda value: set(_split(value)) <= set(_EXPORTERS),
            f"{', '.join(_EXPORTERS)}, comma-separated",
            "otlp",
        )
    for middle in ("", "TRACES_", "METRICS_"):
        name = f"OTEL_EXPORTER_OTLP_{middle}PROTOCOL"
        check(name, lambda value: value in _PROTOCOLS, " or ".join(_PROTOCOLS), "grpc")
        _check_exporter(check, f"OTEL_EXPORTER_OTLP_{middle}", _protocols(middle, environ))
    check("OTEL_TRACES_SAMPLER", lambda value: value.lower() in _SAMPLERS, ", ".join(_SAMPLERS), _SAMPLERS[-1])
    if _value(environ, "OTEL_TRACES_SAMPLER").lower().endswith("traceidratio"):
        check("OTEL_TRACES_SAMPLER_ARG", lambda value: _is_number(value, 1.0), "a number from 0 to 1", "0.05")
    for name in _COUNTS:
        check(
            name,
            lambda value: value.isascii() and value.isdecimal() and int(value) > 0,
            "a whole number from 1",
            "5000",
        )
    return problems


def _protocols(middle: str, environ: Mapping[str, str]) -> set[str]:
    """The protocols of the signals that a variable is for."""
    signals: tuple[Signal, ...] = ("traces", "metrics")
    return {_protocol(signal, environ) for signal in signals if middle in ("", f"{signal.upper()}_")}


def _check_exporter(check: Callable[..., None], prefix: str, protocols: set[str]) -> None:
    """The variables of one exporter, or of all of them."""
    compressions = [name for protocol in _PROTOCOLS if protocol in protocols for name in _COMPRESSIONS[protocol]]
    compressions = list(dict.fromkeys(compressions)) or list(_COMPRESSIONS["grpc"])
    check(f"{prefix}COMPRESSION", lambda value: value.lower() in compressions, " or ".join(compressions), "gzip")
    check(f"{prefix}TIMEOUT", lambda value: _is_number(value, math.inf, 1e-3), "a number of seconds above 0", "10")
    check(f"{prefix}HEADERS", _HEADERS.fullmatch, "name=value, comma-separated", "api-key=secret", secret=True)
    check(f"{prefix}INSECURE", lambda value: value.lower() in {"true", "false"}, "true or false", "true")
    grpc = "grpc" in protocols
    urls = "an http:// or https:// URL" + (", or HOST:PORT" if grpc else "")
    check(f"{prefix}ENDPOINT", lambda value: _is_endpoint(value, grpc=grpc), urls, "http://localhost:4317")
    for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        check(f"{prefix}{name}", _is_readable, "a file that can be read", "/etc/ssl/certs/ca.pem")


def _is_endpoint(text: str, *, grpc: bool) -> bool:
    try:
        url = URL(text)
        is_url = url.scheme in {"http", "https"} and bool(url.host)
    except ValueError:
        return False
    return is_url or (grpc and _GRPC_TARGET.fullmatch(text) is not None)


def _is_readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113


def _is_number(text: str, most: float, least: float = 0.0) -> bool:
    try:
        return least <= float(text) <= most
    except ValueError:
        return False


def _split(listed: str) -> list[str]:
    return [item.strip() for item in listed.split(",") if item.strip()]


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()
