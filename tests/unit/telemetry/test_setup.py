"""Telemetry by the OTEL_* variables: what is exported, what is refused, how it ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import ConfigError
from expresslane.telemetry.core_histograms import CoreHistograms
from expresslane.telemetry.setup import Telemetry
from expresslane.telemetry.spans import Tracer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Telemetry]]:
    """Start telemetry with just these OTEL_ variables, in the process as well, and stop it afterwards."""
    started: list[Telemetry] = []

    def run(**variables: str) -> Telemetry:
        environ = {f"OTEL_{name}": value for name, value in variables.items()}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        started.append(Telemetry.start("1.2.3", environ))
        return started[-1]

    yield run
    for telemetry in started:
        telemetry.shutdown(timeout_s=0.01)


def test_a_quiet_start_exports_nothing(start: Callable[..., Telemetry]) -> None:
    """With no OTEL_ variable there is no exporter, no thread and no recording."""
    before = threading.active_count()
    telemetry = start()
    assert telemetry.exporting == ()
    assert threading.active_count() == before
    assert not telemetry.tracer.start_batch(request_id="", prompts=1, method="Generate").recording


@pytest.mark.parametrize(
    ("variables", "exporting"),
    [
        ({"EXPORTER_OTLP_ENDPOINT": NOWHERE}, ("traces: otlp (grpc)", "metrics: otlp (grpc)")),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": NOWHERE}, ("traces: otlp (grpc)",)),
        ({"EXPORTER_OTLP_METRICS_ENDPOINT": NOWHERE}, ("metrics: otlp (grpc)",)),
        ({"TRACES_EXPORTER": "otlp"}, ("traces: otlp (grpc)",)),
        ({"TRACES_EXPORTER": "console", "METRICS_EXPORTER": "none"}, ("traces: console",)),
        ({"EXPORTER_OTLP_ENDPOINT": NOWHERE, "METRICS_EXPORTER": "none"}, ("traces: otlp (grpc)",)),
        (
            {"EXPORTER_OTLP_ENDPOINT": NOWHERE, "EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            ("traces: otlp (http/protobuf)", "metrics: otlp (http/protobuf)"),
        ),
        (
            {"EXPORTER_OTLP_TRACES_ENDPOINT": NOWHERE, "EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            ("traces: otlp (http/protobuf)",),
        ),
        ({"EXPORTER_OTLP_ENDPOINT": NOWHERE, "SDK_DISABLED": "true"}, ()),
    ],
)
def test_the_standard_variables_choose_the_exporters(
    start: Callable[..., Telemetry], variables: dict[str, str], exporting: tuple[str, ...]
) -> None:
    """An endpoint or an exporter name switches a signal on; none and OTEL_SDK_DISABLED switch it off."""
    assert start(**variables).exporting == exporting


@pytest.mark.parametrize(
    ("variables", "service"),
    [
        ({}, "expresslane"),
        ({"SERVICE_NAME": "lane-7"}, "lane-7"),
        ({"RESOURCE_ATTRIBUTES": "service.name=lane-8,deployment.environment.name=test"}, "lane-8"),
    ],
)
def test_the_resource_has_our_name_unless_told_otherwise(
    start: Callable[..., Telemetry], variables: dict[str, str], service: str
) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win; otherwise the service is called expresslane."""
    provider = start(TRACES_EXPORTER="console", METRICS_EXPORTER="none", **variables).tracer_provider
    assert isinstance(provider, TracerProvider)
    assert provider.resource.attributes["service.name"] == service
    assert provider.resource.attributes["service.version"] == "1.2.3"
    if "RESOURCE_ATTRIBUTES" in variables:
        assert provider.resource.attributes["deployment.environment.name"] == "test"


def test_the_sampler_is_the_environments(start: Callable[..., Telemetry]) -> None:
    """OTEL_TRACES_SAMPLER decides what is recorded."""
    telemetry = start(TRACES_EXPORTER="console", TRACES_SAMPLER="always_off")
    assert not telemetry.tracer.start_batch(request_id="", prompts=1, method="Generate").recording


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TRACES_EXPORTER", "jaeger", "otlp, console, none"),
        ("METRICS_EXPORTER", "otlp,prometheus", "otlp, console, none"),
        ("EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("EXPORTER_OTLP_TRACES_PROTOCOL", "udp", "grpc or http/protobuf"),
        ("TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"),
        ("BSP_MAX_QUEUE_SIZE", "-1", "a whole number from 1"),
        ("METRIC_EXPORT_INTERVAL", "1m", "a whole number from 1"),
        ("EXPORTER_OTLP_COMPRESSION", "zip", "gzip"),
        ("EXPORTER_OTLP_METRICS_COMPRESSION", "deflate", "gzip"),
        ("EXPORTER_OTLP_TIMEOUT", "abc", "a number of seconds above 0"),
        ("EXPORTER_OTLP_TRACES_TIMEOUT", "0", "a number of seconds above 0"),
        ("EXPORTER_OTLP_ENDPOINT", "garbage::", "an http:// or https:// URL, or HOST:PORT"),
        ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://", "an http:// or https:// URL"),
        ("EXPORTER_OTLP_METRICS_ENDPOINT", "http://h:port", "an http:// or https:// URL"),
        ("EXPORTER_OTLP_CERTIFICATE", "/nope", "a file that can be read"),
        ("EXPORTER_OTLP_TRACES_CLIENT_KEY", "/nope", "a file that can be read"),
        ("EXPORTER_OTLP_INSECURE", "perhaps", "true or false"),
    ],
)
def test_a_value_that_cannot_be_followed_is_refused(name: str, value: str, says: str) -> None:
    """P39: the error names the variable, its value, what is allowed, and an example."""
    with pytest.raises(ConfigError) as caught:
        Telemetry.start("1", {f"OTEL_{name}": value})
    assert str(caught.value).startswith(f"OTEL_{name}='{value}' is not allowed. Allowed: ")
    assert says in str(caught.value)
    assert f"Example: OTEL_{name}=" in str(caught.value)


@pytest.mark.parametrize("name", ["HEADERS", "TRACES_HEADERS", "METRICS_HEADERS"])
def test_wrong_headers_are_refused_without_showing_them(name: str) -> None:
    """P39: headers without a name are refused by the variable's name, and the secret in them is not printed."""
    with pytest.raises(ConfigError, match=rf"OTEL_EXPORTER_OTLP_{name}='\*+' is not allowed.*name=value") as caught:
        Telemetry.start("1", {f"OTEL_EXPORTER_OTLP_{name}": "zzz"})
    assert "zzz" not in str(caught.value)


@pytest.mark.parametrize("value", ["me:canary@collector", "http:/me:canary@h", f"http://me:{'x' * 90}canary@:1"])
def test_a_wrong_endpoint_is_shown_without_its_credentials(value: str) -> None:
    """However it is written and however long it is: what is shown is masked first and cut then."""
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT='(http://)?\*+@.*' is not allowed") as caught:
        Telemetry.start("1", {"OTEL_EXPORTER_OTLP_ENDPOINT": value})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"COMPRESSION": "gzip", "TIMEOUT": "2.5", "HEADERS": "authorization=Bearer a b, x=", "INSECURE": "true"},
        {"ENDPOINT": "localhost:4317"},
        {"ENDPOINT": "dns:///collector:4317"},
        {"ENDPOINT": "https://collector.example/v1", "PROTOCOL": "http/protobuf", "COMPRESSION": "deflate"},
        {"CERTIFICATE": __file__},
    ],
)
def test_right_exporter_variables_are_taken(start: Callable[..., Telemetry], variables: dict[str, str]) -> None:
    """What the exporters understand is let through to them."""
    named = {f"EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    assert start(TRACES_EXPORTER="otlp", **named).exporting


def test_what_an_exporter_itself_refuses_is_a_mistake_of_the_configuration(start: Callable[..., Telemetry]) -> None:
    """P39: an exception of an exporter names the variables instead of ending in a traceback."""
    with pytest.raises(ConfigError, match=r"OTEL_\* variables: .*deflate"):
        start(
            TRACES_EXPORTER="otlp",
            EXPORTER_OTLP_COMPRESSION="deflate",
            EXPORTER_OTLP_METRICS_PROTOCOL="http/protobuf",
        )


def test_a_sampling_ratio_must_be_one() -> None:
    """P39: a ratio sampler needs a number from 0 to 1."""
    with pytest.raises(ConfigError, match=r"OTEL_TRACES_SAMPLER_ARG='5' is not allowed.*from 0 to 1"):
        Telemetry.start("1", {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "5"})


class StuckExporter(SpanExporter):
    """An exporter whose collector never answers."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert spans
        self.asked.set()
        self.let_go.wait(30)
        return SpanExportResult.FAILURE


def test_the_end_is_bounded_in_time() -> None:
    """Shutdown tries to send what is left and gives up on a stuck collector within its limit."""
    exporter = StuckExporter()
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    metrics = MeterProvider([], shutdown_on_exit=False)
    telemetry = Telemetry(provider, metrics, Tracer(provider), CoreHistograms(), ())
    telemetry.tracer.start_batch(request_id="", prompts=1, method="Generate").end("COMPLETED", {}, cancelled=False)
    before_s = time.monotonic()
    telemetry.shutdown(timeout_s=0.2)
    assert time.monotonic() - before_s < 5
    assert exporter.asked.is_set()
    exporter.let_go.set()
