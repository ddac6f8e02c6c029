"""Durations: protobuf messages, milliseconds (what the service measured) and seconds (what a caller asks for)."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

__all__ = ["duration", "milliseconds"]


def milliseconds(value: Duration) -> float:
    """A protobuf duration in milliseconds."""
    return value.seconds * 1e3 + value.nanos / 1e6


def duration(seconds: float) -> Duration:
    """A protobuf duration of so many seconds, to the nanosecond."""
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=nanos)
