"""Log lines: their form, their trace, their rate, and what they hide (A35)."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from expresslane.telemetry.logs import RepeatLimiter, configure_logs, log_loop_errors
from expresslane.telemetry.propagation import context_from_metadata
from opentelemetry import context as otel_context

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "the prompt's own words"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Logs as JSON into a buffer; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logs("info", "auto", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    """Every line written so far."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_without_a_terminal_each_line_is_json(out: io.StringIO) -> None:
    """A35: a log line on a pipe is one JSON object with time, level, logger, event and its fields."""
    structlog.get_logger("expresslane.test").info("started", backends=2)
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "started", "level": "info", "logger": "expresslane.test", "backends": 2}


def test_libraries_log_in_the_same_form(out: io.StringIO) -> None:
    """A line of a library goes through the same door, its arguments filled in."""
    logging.getLogger("a.dependency").warning("could not reach %s", "host")
    (line,) = lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("could not reach host", "a.dependency", "warning")


def test_lines_below_the_level_are_left_out(out: io.StringIO) -> None:
    """EXPRESSLANE_LOG_LEVEL holds for the service and for its libraries."""
    structlog.get_logger("expresslane.test").debug("detail")
    logging.getLogger("a.dependency").debug("detail")
    assert out.getvalue() == ""


def test_a_line_names_the_trace_it_belongs_to(out: io.StringIO) -> None:
    """Inside a call's span each line has its trace_id and span_id."""
    token = otel_context.attach(context_from_metadata((("traceparent", CALLER),)))
    structlog.get_logger("expresslane.test").info("inside")
    otel_context.detach(token)
    structlog.get_logger("expresslane.test").info("outside")
    inside, outside = lines(out)
    assert inside["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert inside["span_id"] == "b7ad6b7169203331"
    assert "trace_id" not in outside


def test_an_exception_is_one_line_with_its_traceback(out: io.StringIO) -> None:
    """A traceback is a field of the line: types and places, neither variables nor what exceptions say."""

    def fail(prompt: str) -> None:
        try:
            int(prompt)
        except ValueError as error:
            raise RuntimeError(f"could not do {prompt}") from error

    try:
        fail(SECRET)
    except RuntimeError:
        structlog.get_logger("expresslane.test").exception("failed")
        logging.getLogger("a.dependency").exception("failed too")
    ours, theirs = lines(out)
    for line in (ours, theirs):
        assert "builtins.RuntimeError\nwhile handling:" in line["exception"]
        assert "builtins.ValueError" in line["exception"]
        assert "in fail" in line["exception"]
    assert SECRET not in out.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_words_of_exceptions_are_shown_where_that_is_switched_on(log_format: Any) -> None:
    """EXPRESSLANE_LOG_EXCEPTION_TEXT shows what exceptions say, still without variables."""
    out = io.StringIO()
    configure_logs("info", log_format, out, exception_text=True)
    try:
        int("these words")
    except ValueError:
        structlog.get_logger("expresslane.test").exception("failed")
    assert "ValueError: invalid literal for int() with base 10: 'these words'" in out.getvalue()


async def test_the_event_loop_complains_without_reprs(out: io.StringIO) -> None:
    """A task whose exception nobody took is told by type and place: its repr would hold the exception's words."""
    loop = asyncio.get_running_loop()
    log_loop_errors(loop)
    loop.call_exception_handler({"message": "Task exception was never retrieved", "exception": ValueError(SECRET)})
    (line,) = lines(out)
    assert (line["event"], line["exception"]) == ("Task exception was never retrieved", "builtins.ValueError")
    assert SECRET not in out.getvalue()


def test_a_line_never_fails(out: io.StringIO) -> None:
    """Broken UTF-8, huge numbers and objects are written somehow."""
    structlog.get_logger("expresslane.test").info("odd", text="\udcff", number=2**70, thing=object())
    assert lines(out)[0]["number"] == 2**70


def test_credentials_inside_urls_are_hidden(out: io.StringIO) -> None:
    """A URL that carries a password is written without it."""
    structlog.get_logger("expresslane.test").warning("unreachable", url="http://me:hunter2@host/v1")
    assert "hunter2" not in out.getvalue()
    assert lines(out)[0]["url"] == "http://********@host/v1"


def test_text_is_for_terminals() -> None:
    """EXPRESSLANE_LOG_FORMAT=text writes lines for people, also where there is no terminal."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logs("info", "text", stream)
    structlog.get_logger("expresslane.test").info("started", backends=2)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    assert "started" in stream.getvalue()
    assert "backends=2" in stream.getvalue()


class Clock:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def warning(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    """A log record as a library makes it."""
    return logging.LogRecord("a.dependency", level, "file", 1, text, (), None)


def test_a_repeated_warning_is_bounded() -> None:
    """The same warning is written five times a minute; the next minute's first line says how many were left out."""
    clock = Clock()
    limiter = RepeatLimiter(clock)
    passed = [limiter.filter(warning("down")) for _ in range(100)]
    assert passed == [True] * 5 + [False] * 95
    assert limiter.filter(warning("something else"))
    clock.now_s = 60.0
    record = warning("down")
    assert limiter.filter(record)
    assert record.msg == "down (95 like it left out)"


def test_lines_below_warning_are_not_limited() -> None:
    """One line a call is no repetition."""
    limiter = RepeatLimiter(Clock())
    assert all(limiter.filter(warning("call", logging.INFO)) for _ in range(100))


def test_the_limiter_itself_is_bounded() -> None:
    """Ever new warnings do not fill the memory."""
    limiter = RepeatLimiter(Clock())
    for number in range(10_000):
        limiter.filter(warning(f"warning {number}"))
    assert len(limiter._windows) <= RepeatLimiter.EVENTS_MAX


def test_our_own_repeated_warnings_are_limited_too(out: io.StringIO) -> None:
    """A structured warning is told apart by its event, whatever its fields."""
    for attempt in range(20):
        structlog.get_logger("expresslane.test").warning("backend unreachable", attempt=attempt)
    assert [line["attempt"] for line in lines(out)] == [0, 1, 2, 3, 4]
