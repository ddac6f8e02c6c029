"""A result as a line of JSON."""

from __future__ import annotations

import json

from expresslane.cli.result_lines import result_line
from expresslane_client import AttemptError, Outcome, PromptError, Result


def test_earlier_attempts_have_one_place() -> None:
    """Beside the error and not in it; none where there were none (A21)."""
    earlier = AttemptError("backends/a", "BACKEND_OVERLOADED", "busy", 503, 12.0)
    error = PromptError(14, "BACKEND_UNREACHABLE", "no route", retryable=True)
    line = json.loads(result_line(Result("a", 0, Outcome.FAILED, error=error, history=(earlier,))))
    assert line["error"] == {"code": 14, "reason": "BACKEND_UNREACHABLE", "message": "no route", "retryable": True}
    told = {"backend": "backends/a", "reason": "BACKEND_OVERLOADED", "message": "busy"}
    assert line["history"] == [told | {"http_status": 503, "duration_ms": 12.0}]
    assert "history" not in json.loads(result_line(Result("a", 0, Outcome.FAILED, error=error)))
