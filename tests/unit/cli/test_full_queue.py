"""A run before a full queue: it asks again as it is told, within its time, and says so once."""

from __future__ import annotations

import grpc
import pytest
from expresslane.cli.full_queue import LONGEST_S, Patience
from expresslane_client import RefusedError


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    async def sleep(self, delay_s: float) -> None:
        """So much later."""
        self.now_s += delay_s

    def patience(self, timeout_s: float | None) -> Patience:
        """That of a run that begins now."""
        return Patience(timeout_s, clock=lambda: self.now_s, sleep=self.sleep)


def refused(reason: str = "QUEUE_FULL", retry_after_s: float | None = 4.0) -> RefusedError:
    """A refusal as the client raises it."""
    return RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason=reason, retry_after_s=retry_after_s)


@pytest.mark.parametrize(("timeout_s", "longest_s"), [(30.0, 30.0), (None, LONGEST_S)])
async def test_it_ends_with_the_time_limit(
    timeout_s: float | None, longest_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """As often as fits, then the refusal itself; it is told once, and what is left of a limit shrinks."""
    time = Time()
    patience = time.patience(timeout_s)

    async def ask() -> None:
        while True:
            await patience.wait(refused())

    with pytest.raises(RefusedError, match="full"):
        await ask()
    waited_s = time.now_s - 100.0
    assert longest_s - 5.0 <= waited_s <= longest_s - 1.0
    assert patience.left_s == (None if timeout_s is None else pytest.approx(longest_s - waited_s))
    assert capsys.readouterr().err.count("queue is full") == 1


@pytest.mark.parametrize("error", [refused("JOBS_FULL"), refused(retry_after_s=None)])
async def test_nothing_else_is_waited_for(error: RefusedError) -> None:
    """What the service does not promise to change is raised at once."""
    time = Time()
    with pytest.raises(RefusedError):
        await time.patience(None).wait(error)
    assert time.now_s == 100.0
