"""The one clock: monotonic nanoseconds, replaceable in tests."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "monotonic_ns"]

Clock = Callable[[], int]

monotonic_ns: Clock = time.monotonic_ns
