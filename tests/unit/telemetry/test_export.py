"""Spans and metrics on the wire: a collector receives what the service exports, over gRPC and over HTTP."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from expresslane.telemetry.metrics import Metrics
from expresslane.telemetry.setup import Telemetry
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.unit.telemetry.fake_snapshot import FakeSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from expresslane._scheduler import Snapshot


class Received:
    """What a collector got: span names, and data points by metric name."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.services: set[str] = set()
        self.metrics: dict[str, Any] = {}

    def traces(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            named = (a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.services.update(named)
            self.spans += [span.name for scope in resource.scope_spans for span in scope.spans]

    def numbers(self, request: metrics_service_pb2.ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}


@contextmanager
def grpc_collector(received: Received) -> Iterator[str]:
    """An OTLP collector that speaks gRPC."""

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the service's own name
            received.traces(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    class Numbers(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the service's own name
            received.numbers(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        untyped: Any = (trace_service_pb2_grpc, metrics_service_pb2_grpc)
        untyped[0].add_TraceServiceServicer_to_server(Traces(), server)
        untyped[1].add_MetricsServiceServicer_to_server(Numbers(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop(None).wait()


@contextmanager
def http_collector(received: Received) -> Iterator[str]:
    """An OTLP collector that speaks protobuf over HTTP."""

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                received.traces(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
            elif self.path == "/v1/metrics":
                received.numbers(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("protocol", "collector"), [("grpc", grpc_collector), ("http/protobuf", http_collector)])
def test_a_collector_receives_spans_metrics_and_the_cores_histograms(
    monkeypatch: pytest.MonkeyPatch, protocol: str, collector: Callable[[Received], Any]
) -> None:
    """With just an endpoint set, everything arrives; shutdown sends what is left."""
    received = Received()
    with collector(received) as endpoint:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        telemetry = Telemetry.start("1.2.3", environ)
        Metrics(
            telemetry.meter_provider,
            telemetry.histograms,
            snapshot=cast("Callable[[], Snapshot]", FakeSnapshot),
            backend_name=str,
            model_name=str,
        )
        batch = telemetry.tracer.start_batch(request_id="r", prompts=1, method="GenerateBatch")
        batch.end("COMPLETED", {"success": 1}, cancelled=False)
        telemetry.shutdown(timeout_s=20)

    assert received.spans == ["expresslane.batch"]
    assert received.services == {"expresslane"}
    assert received.metrics["expresslane.prompts.submitted"].sum.data_points[0].as_int == 50
    (ttft,) = received.metrics["expresslane.prompt.ttft"].histogram.data_points
    assert list(ttft.bucket_counts) == [2, 3, 1]
