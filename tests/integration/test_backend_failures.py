"""What an operator is told of backends that fail: a line in the log, and the last error in what Admin shows."""

from __future__ import annotations

import pytest
from expresslane.cli.backends import backends_table
from structlog.testing import capture_logs

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend

FAILURES = {
    "key": (Script(status=401, body=b'{"error": {"message": "SECRET"}}'), "BACKEND_UNAUTHORIZED", 401),
    "crash": (Script(status=500, body=b"SECRET"), "BACKEND_ERROR", 500),
    "html": (Script(body=b"<html>SECRET</html>", headers={"content-type": "text/html"}), "BACKEND_MALFORMED", 200),
    "closed": (Script(before_headers=None, cut_after=0), "BACKEND_DISCONNECTED", 0),
    "path": (Script(status=404, body=b"SECRET"), "BACKEND_REJECTED", 404),
}


@pytest.mark.parametrize(("script", "reason", "status"), FAILURES.values(), ids=FAILURES)
async def test_a_failing_backend_is_told_of(script: Script, reason: str, status: int) -> None:
    """One warning for each backend and reason, however many prompts fail, and the last error; none of its words."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_attempts=1) as service:
        (before,) = await service.client.list_backends()
        fake.on(lambda _: script)
        with capture_logs() as lines:
            collected = await service.client.collect_batch([f"p{number}" for number in range(8)])
        (after,) = await service.client.list_backends()
    told = [line for line in lines if line["event"].startswith("backend fails")]
    assert [(line["backend"], line["reason"], line["http_status"]) for line in told] == [("fake", reason, status)]
    assert collected.summary.failed == 8
    assert "SECRET" not in str(lines)
    assert before.last_error is None
    assert after.last_error is not None
    assert (after.last_error.reason, after.last_error.http_status) == (reason, status)
    shown = " ".join(part.plain for part in backends_table([after])[1:] if hasattr(part, "plain"))
    assert f"last error: {reason}" in shown


async def test_a_callers_mistake_is_none_of_the_backends() -> None:
    """A 400 is about one prompt: neither the log nor Admin says that the backend fails."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda _: Script(status=400))
        with capture_logs() as lines:
            collected = await service.client.collect_batch(["p"])
        (shown,) = await service.client.list_backends()
    assert collected.summary.failed == 1
    assert not [line for line in lines if line["event"].startswith("backend fails")]
    assert shown.last_error is None
