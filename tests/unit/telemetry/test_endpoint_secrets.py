"""What is secret in the variables of the OTLP exporters."""

from __future__ import annotations

from expresslane.telemetry.endpoint_secrets import endpoint_secrets


def test_passwords_and_header_values() -> None:
    """As written and as sent, of all signals; short header values, plain addresses and empty ones hold none."""
    found = endpoint_secrets(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": " http://me:p%40ss@h:4317 ",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "localhost:4317",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc, x-team=blue",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=12345678=,",
        }
    )
    assert set(found) == {"me:p@ss", "p%40ss", "p@ss", "Bearer%20abc", "Bearer abc", "12345678="}
    assert endpoint_secrets({}) == ()
