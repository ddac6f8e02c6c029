"""Structured logs: one line an event, with the trace it belongs to; text on a terminal, JSON otherwise.

Whoever logs passes no prompt text and no secret; credentials inside URLs are hidden here all the same.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

import structlog
from opentelemetry import trace

from expresslane.variables import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["RepeatLimiter", "configure_logs"]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "text"]


class RepeatLimiter(logging.Filter):
    """Lets a repeated warning through a few times a minute, then only counts it; the next line tells how many it cost.

    Warnings are told apart by logger and text. Lines below warning always pass: they are one a call or one a change.
    """

    LINES = 5
    WINDOW_S = 60.0
    EVENTS_MAX = 512

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING:
            return True
        text = record.msg.get("event") if isinstance(record.msg, dict) else record.msg
        key = (record.name, str(text)[:200])
        now_s = self._clock()
        window = self._windows.get(key)
        if window is not None and now_s - window.start_s < self.WINDOW_S:
            window.lines += 1
            return window.lines <= self.LINES
        self._windows[key] = _Window(now_s)
        self._windows.move_to_end(key)
        if len(self._windows) > self.EVENTS_MAX:
            self._windows.popitem(last=False)
        if window is not None and window.lines > self.LINES:
            _say(record, window.lines - self.LINES)
        return True


@dataclass(slots=True)
class _Window:
    """One minute of one warning."""

    start_s: float
    lines: int = 1


def _say(record: logging.LogRecord, left_out: int) -> None:
    if isinstance(record.msg, dict):
        record.msg = {**record.msg, "left_out": left_out}
    else:
        record.msg = f"{record.msg} ({left_out} like it left out)"


def configure_logs(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send the service's log lines, and those of its libraries, to `stream` (default: standard output)."""
    out = stream if stream is not None else sys.stdout
    as_text = log_format == "text" or (log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _hide_credentials,
    ]
    render: list[Processor] = (
        # A plain traceback: a rich one prints local variables, and with them prompts.
        [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(out)
    handler.addFilter(RepeatLimiter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in ("grpc", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The trace and span that the line belongs to."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _hide_credentials(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = masked(value)
    return event
