"""Trace context in and out, by the propagators that OTEL_PROPAGATORS names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context

from expresslane.errors import ConfigError

try:
    # The API reads OTEL_PROPAGATORS when it is imported, and fails then if it cannot follow it.
    from opentelemetry import propagate
except ValueError as error:
    raise ConfigError(
        f"OTEL_PROPAGATORS is not allowed ({error}) Allowed: tracecontext, baggage, none, comma-separated. "
        "Example: OTEL_PROPAGATORS=tracecontext,baggage"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["context_from_metadata", "headers_of"]


def context_from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Context:
    """The caller's trace context, from gRPC metadata; an empty one where it sent none or a broken one."""
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    return propagate.extract(carrier, Context())


def headers_of(context: Context) -> Mapping[str, str]:
    """A context as HTTP headers, lower-case names."""
    headers: dict[str, str] = {}
    propagate.inject(headers, context)
    return headers
