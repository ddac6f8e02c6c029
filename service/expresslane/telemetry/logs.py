"""Structured logs: one line an event, with the trace it belongs to; text on a terminal, JSON otherwise.

Whoever logs passes no prompt text and no secret; credentials inside URLs are hidden here all the same. What an
exception says may quote a prompt: tracebacks show types and places, and its words only where that is switched on.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

import orjson
import structlog
from opentelemetry import trace

from expresslane.masking import SecretCutter
from expresslane.variables import masked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

    from expresslane.telemetry.log_stream import LogStream

__all__ = ["RepeatLimiter", "configure_logs", "log_loop_errors"]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "text"]

_QUIET = frozenset({"debug", "info"})


class RepeatLimiter:
    """Lets a repeated warning through `lines` times a minute, then only counts it; the next line tells how many.

    Shared by our own lines and those of libraries. Lines below warning always pass: they are one a call or a change.
    """

    LINES = 5
    WINDOW_S = 60.0
    EVENTS_MAX = 512

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, lines: int = LINES) -> None:
        self._clock = clock
        self._lines = lines
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def allow(self, logger: str, text: str) -> int | None:
        """How many lines like this one were left out before it; None: leave this one out too."""
        key = (logger, text[:200])
        now_s = self._clock()
        window = self._windows.get(key)
        if window is not None and now_s - window.start_s < self.WINDOW_S:
            window.lines += 1
            return 0 if window.lines <= self._lines else None
        self._windows[key] = _Window(now_s)
        self._windows.move_to_end(key)
        if len(self._windows) > self.EVENTS_MAX:
            self._windows.popitem(last=False)
        return max(0, window.lines - self._lines) if window is not None else 0

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Limit a line of our own: a structlog processor."""
        if method not in _QUIET:
            left_out = self.allow(logger.name, str(event.get("event", "")))
            if left_out is None:
                raise structlog.DropEvent
            if left_out:
                event["left_out"] = left_out
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Limit a line of a library: a logging filter."""
        if record.levelno < logging.WARNING:
            return True
        left_out = self.allow(record.name, str(record.msg))
        if left_out:
            record.msg = f"{record.msg} ({left_out} like it left out)"
        return left_out is not None


@dataclass(slots=True)
class _Window:
    """One minute of one warning."""

    start_s: float
    lines: int = 1


class _Writer:
    """The end of our own lines: one write each. Not the standard library's logging, which costs ten times as much."""

    def __init__(self, stream: TextIO | LogStream, name: str) -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def configure_logs(
    level: LogLevel,
    log_format: LogFormat,
    stream: TextIO | LogStream | None = None,
    *,
    exception_text: bool = False,
    secrets: Iterable[str] = (),
) -> None:
    """Send the service's log lines, and those of its libraries, to `stream` (default: standard output).

    `exception_text`: whether tracebacks show what exceptions say. `secrets` are cut out of what libraries say.
    """
    out = stream if stream is not None else sys.stdout
    as_text = log_format == "text" or (log_format == "auto" and out.isatty())
    severity = logging.getLevelNamesMapping()[level.upper()]
    limiter = RepeatLimiter()
    common: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _hide_credentials,
    ]
    common.append(structlog.processors.ExceptionRenderer(_full_traceback if exception_text else _bare_traceback))
    render: list[Processor] = [
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer(serializer=_json)
    ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, limiter, _add_name, *common, *render],
        logger_factory=lambda name="": _Writer(out, name),
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.addFilter(limiter)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common, _cutting(SecretCutter(secrets))],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(severity)
    for library in ("grpc", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, severity))


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log what an event loop has to complain of without the repr of what failed, which holds its exception's words."""
    loop.set_exception_handler(_on_loop_error)


def _on_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log = structlog.get_logger("asyncio")
    log.error(context.get("message", "error in the event loop"), exc_info=context.get("exception"))


def _bare_traceback(exc_info: ExcInfo) -> str:
    """Types and places of an exception and what led to it, without a word of what they say."""
    whole = traceback.TracebackException(*exc_info, lookup_lines=False, capture_locals=False)
    lines: list[str] = []
    seen: traceback.TracebackException | None = whole
    while seen is not None:
        frames = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in seen.stack]
        lines += [*frames, _type_name(seen)]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        if seen is not None:
            lines.append("while handling:")
    return "\n".join(lines)


def _full_traceback(exc_info: ExcInfo) -> str:
    # Not a rich one: that would print local variables, and with them every prompt.
    return "".join(traceback.format_exception(*exc_info)).rstrip()


def _type_name(error: traceback.TracebackException) -> str:
    kind = error.exc_type
    return f"{kind.__module__}.{kind.__qualname__}" if kind is not None else "Exception"


def _json(event: EventDict, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # Broken UTF-8 or a huge number: a log line never fails.
        return json.dumps(event, default=str)


def _add_name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The trace and span that the line belongs to."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _cutting(cutter: SecretCutter) -> Processor:
    def cut(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: cutter.text(value) if isinstance(value, str) else value for key, value in event.items()}

    return cut


def _hide_credentials(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = masked(value)
    return event
