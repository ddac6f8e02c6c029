"""Credentials of the collector, which exporters quote in their log lines when they cannot reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from expresslane.masking import url_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["endpoint_secrets"]

_PREFIX = "OTEL_EXPORTER_OTLP_"
_HEADER_CHARS_MIN = 8
"""What is shorter could be a word of any line."""


def endpoint_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What the endpoints and headers of the OTLP exporters hold that nobody else shall see.

    The gRPC exporter names its endpoint without the `http://` by which an address is known for one.
    """
    found: list[str] = []
    for middle in ("", "TRACES_", "METRICS_"):
        found += url_secrets(environ.get(f"{_PREFIX}{middle}ENDPOINT", "").strip())
        for header in environ.get(f"{_PREFIX}{middle}HEADERS", "").split(","):
            value = header.partition("=")[2].strip()
            if len(value) >= _HEADER_CHARS_MIN:
                found += [value, unquote(value)]
    return tuple(dict.fromkeys(found))
