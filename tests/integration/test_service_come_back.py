"""What callers are told about coming back: the delay that a backend or the service itself knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend
from tests.support.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from expresslane_client import Result


def delay_of(result: Result) -> float | None:
    """The delay that came with a result."""
    assert result.error is not None
    return result.error.retry_after_s


@pytest.mark.parametrize(("header", "delay_s"), [("7", 7.0), ("0.5", 0.5), (None, None), ("1" * 15, 3.1536e11)])
async def test_a_busy_backends_retry_after(header: str | None, delay_s: float | None) -> None:
    """A backend's 503 is retryable, and its Retry-After is passed on, however long it is (O16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_attempts=1) as service:
        fake.on(lambda _: Script(status=503, headers={"Retry-After": header} if header else {}))
        (result,) = await service.client.generate_batch(["x"]).collect()
        assert result.error is not None
        assert (result.error.reason, result.error.retryable) == ("BACKEND_OVERLOADED", True)
        assert delay_of(result) == delay_s


async def test_a_rate_limits_retry_after() -> None:
    """A 429 that asks for longer than the caller can wait is not waited for, and says how long (O16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda _: Script(status=429, headers={"Retry-After": "7200"}))
        (result,) = await service.client.generate_batch(["x"], timeout_s=30).collect()
        assert result.error is not None
        assert (result.error.reason, result.error.retryable) == ("BACKEND_RATE_LIMITED", True)
        assert delay_of(result) == 7_200


async def test_no_delay_where_coming_back_does_not_help() -> None:
    """A spent quota and a prompt that is wrong carry no delay, whatever the backend's header says (O16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        for status in (402, 400):
            fake.on(lambda _, status=status: Script(status=status, headers={"Retry-After": "7"}))  # type: ignore[misc]
            (result,) = await service.client.generate_batch(["x"]).collect()
            assert result.error is not None
            assert (result.error.http_status, result.error.retryable) == (status, False)
            assert delay_of(result) is None


async def test_the_delay_on_the_command_line(tmp_path: Path) -> None:
    """`expresslane run` writes the delay into the result's line, and nothing where there is none (O16)."""

    def decide(request: object) -> Script:
        return Script(status=503, headers={"Retry-After": "7"} if b"busy" in request.body else {})  # type: ignore[attr-defined]

    async with FakeBackend() as fake, Service(fake=backend(fake.url), retry_attempts=1) as service:
        fake.on(decide)
        shell = Shell(tmp_path, service.address)
        prompts: list[dict[str, object]] = [{"custom_id": name, "prompt": name} for name in ("busy", "broken")]
        shell.write("p.jsonl", *prompts)
        done = await shell.run("run", "p.jsonl")
    assert done.code == 1
    delays = {line["custom_id"]: line["error"].get("retry_after_s") for line in done.lines}
    assert delays == {"busy": 7.0, "broken": None}


def test_a_very_long_delay_fits() -> None:
    """The longest delay that is passed on is one that the contract's duration can hold."""
    Duration(seconds=int(10_000 * 365 * 86_400.0)).ToJsonString()
