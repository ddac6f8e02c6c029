"""What the storm looks for in the backends' and the callers' logs is found, and a good service is not accused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
import pytest
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2

import tests.chaos.__main__ as chaos
from tests.chaos import storm
from tests.chaos.caller import SILENT_S
from tests.chaos.faults import Faults, Plan
from tests.chaos.ledger import Ledger
from tests.chaos.levels import Levels
from tests.chaos.long_caller import LongCaller
from tests.chaos.refused import allowed
from tests.chaos.session import at_once_ratio
from tests.chaos.silence import Silence
from tests.chaos.verdict import missed
from tests.support.fake_backend import SeenRequest
from tests.support.virtual_time import virtual_time

if TYPE_CHECKING:
    from collections.abc import Mapping

CAP = 12
REQUEST = SeenRequest(0, "POST", "/v1/chat/completions", {}, b"{}", 0)


def asked_s(headers: Mapping[str, str]) -> float:
    """For how long a 429 of a storm asks to be left alone, a date for a second at the least."""
    if "retry-after-ms" in headers:
        return float(headers["retry-after-ms"]) / 1e3
    return float(headers["Retry-After"]) if headers["Retry-After"].isdigit() else 1.0


async def limited(plan: Plan, *, heeds: bool, answer_s: float, seconds: float) -> list[int]:
    """The 429s of each storm to a service with CAP requests in flight that leaves the backend alone, or does not."""
    loop, faults = asyncio.get_running_loop(), Faults(plan, 1)
    faults.begin()
    until = loop.time() + seconds
    paused_s = loop.time()

    async def slot() -> None:
        nonlocal paused_s
        while (now := loop.time()) < until:
            if heeds and now < paused_s:
                await asyncio.sleep(paused_s - now)
                continue
            script = faults.script(REQUEST)
            if script.status == 429:
                await asyncio.sleep(answer_s)
                paused_s = max(paused_s, loop.time() + asked_s(script.headers))
            elif script.before_headers is not None:
                await script.before_headers.wait()

    await asyncio.gather(*(slot() for _ in range(CAP)))
    return [faults.limited[number] for number in sorted(faults.limited)]


@pytest.mark.parametrize("answer_s", [0.005, 0.05, 0.3])
@pytest.mark.parametrize("storm_s", [0.5, 1.0, 3.0])
def test_a_service_that_heeds_retry_after(storm_s: float, answer_s: float) -> None:
    """O16: however late it reads a 429, it gets no more than a storm allows; one that does not heed it does."""
    plan = Plan(storm_every_s=5.0, storm_s=storm_s)

    @virtual_time
    async def run() -> None:
        heeded = await limited(plan, heeds=True, answer_s=answer_s, seconds=20)
        ignored = await limited(plan, heeds=False, answer_s=answer_s, seconds=20)
        assert len(heeded) == len(ignored) == 4
        assert max(heeded) <= allowed(plan, CAP) < min(ignored)

    run()


def test_how_many_429s_a_storm_allows() -> None:
    """One burst of the cap, and another for each shortest pause that a storm has room for."""
    assert [allowed(Plan(storm_s=storm_s), 32) for storm_s in (0.5, 1.0, 1.5)] == [32, 64, 96]


def ledger_of(*tried: list[tuple[str, str]]) -> Ledger:
    """Prompts of one call, each with these attempts."""
    sent = [f"p{number}" for number in range(len(tried))]
    rows = [[name, "succeeded", "", len(attempts), True, attempts] for name, attempts in zip(sent, tried, strict=True)]
    ledger = Ledger()
    said = {"behaviour": "stays", "cancelled": [], "left": False, "held": False, "error": ""}
    ledger.add({**said, "sent": sent, "results": rows})
    return ledger


@pytest.mark.parametrize("reason", ["FIRST_TOKEN_TIMEOUT", "IDLE_TIMEOUT", "ATTEMPT_TIMEOUT"])
def test_back_to_where_it_timed_out(reason: str) -> None:
    """A22: an attempt at the backend of an earlier time-out counts, the next one or a later one; not after errors."""
    good = ledger_of([("a", reason), ("b", "")], [("a", "BACKEND_ERROR"), ("a", "")], [("b", ""), ("a", reason)], [])
    assert (good.repeated, good.after_timeout) == ([], 1)
    bad = ledger_of([("a", reason), ("a", "")], [("a", reason), ("b", "BACKEND_ERROR"), ("a", "")])
    assert (bad.repeated, bad.after_timeout) == (["p0", "p1"], 3)
    assert missed(storm.Storm._promised(bad)) == ["repeated_after_timeout = 2, at most 0"]


@virtual_time
async def test_silence_is_broken_off() -> None:
    """What goes on being heard goes on; after the longest silence the block is left, and says so."""
    loop, silence = asyncio.get_running_loop(), Silence(10)
    begun = loop.time()
    async with silence.bounded():
        for _ in range(5):
            await asyncio.sleep(9)
            silence.heard()
    assert (loop.time() - begun, silence.broken_off) == (45, False)
    silence.heard()
    async with silence.bounded():
        await asyncio.sleep(9)
        silence.heard()
        await asyncio.Event().wait()
    assert (loop.time() - begun, silence.broken_off) == (64, True)


@virtual_time
async def test_a_time_out_that_is_not_silence() -> None:
    """An error of what is in the block stays an error."""
    silence = Silence(10)
    with pytest.raises(TimeoutError):
        async with silence.bounded(), asyncio.timeout(1):
            await asyncio.Event().wait()
    assert not silence.broken_off


class StillWorld:
    """A world in which callers wait in vain for one result of the warm-up, or of the storm."""

    still = ""

    def __init__(self, *_: object, **__: object) -> None:
        self.folder = Path()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settled(self, *_: object) -> Levels:
        """Nothing is there."""
        return Levels(0, 0, 0, 0, 0, 0, 0, 0, 0)

    levels = settled

    def begin(self) -> None:
        """No backends."""

    def call(self, *, log: str, heading: str, **_: object) -> dict[str, Any]:
        """One call of two prompts, one result."""
        rows = [["a", "succeeded", "", 1, True, []]]
        said = {"behaviour": "stays", "cancelled": [], "left": False, "held": False, "error": ""}
        Path(log).write_bytes(orjson.dumps({**said, "sent": ["a", "b"], "results": rows}) + b"\n")
        return {"stood_still": int(heading == self.still), "wall_s": 1.0}


@pytest.mark.parametrize("when", ["warm-up", "storm"])
def test_a_service_that_stands_still(
    when: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with a verdict: exit code 1, and the names of what is lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StillWorld, "still", when)
    monkeypatch.setattr(storm, "World", StillWorld)
    assert chaos.main(["storm"]) == 1
    said = capsys.readouterr()
    result = orjson.loads(said.out)
    assert result["missed"] == ["stood_still = 1, at most 0", "lost = 1, at most 0"]
    assert (result["stood_still_in"], result["callers"]["lost"]) == (when, ["b"])
    assert f"{when}: no caller has had a result for {SILENT_S:g} s; lost 1 of 2" in said.err


def response(accepted: tuple[int, ...] = (), ended: tuple[int, ...] = (), cancelled: tuple[int, ...] = ()) -> Any:
    """A message of the service; numbers are those in the custom_ids."""
    message = pb.StreamPromptsResponse(accepted=[f"l{number}" for number in accepted])
    for numbers, outcome in ((ended, types_pb2.OUTCOME_FAILED), (cancelled, types_pb2.OUTCOME_CANCELLED)):
        for number in numbers:
            message.results.add(custom_id=f"l{number}", outcome=outcome)
    return message


def test_messages_until_a_cancel_is_carried_out() -> None:
    """Counted are those with results, from when a later prompt was acknowledged: that proves that it was read."""
    caller = LongCaller("nowhere")
    for number in (10, 20, 30):
        caller._cancelled[f"l{number}"] = (0, 100)
        caller._unread.append(f"l{number}")
    for message in (
        response(accepted=(9,), ended=(1,)),
        response(accepted=(10,), cancelled=(10,)),  # before a later one was acknowledged
        response(accepted=(21,)),
        response(ended=(2,)),
        response(accepted=(25,), cancelled=(20,)),  # with the second results after it
        response(accepted=(31,), ended=(3,)),
        response(ended=(4,)),
        response(accepted=(35,), ended=(5,)),
        response(cancelled=(30,)),
    ):
        caller._take(message, 1_000)
    assert caller._messages == {0: 1, 2: 1, 4: 1}
    assert at_once_ratio({"0": 1, "2": 1, "4": 1}) == pytest.approx(2 / 3)
    assert at_once_ratio({}) == 0


def test_a_target_for_each_of_these() -> None:
    """Each is missed by what a bad service, or a run that proves nothing, leaves behind."""
    bad = {"limited_above": 1, "limited_seen": 0, "after_timeout_seen": 0, "cancelled_at_once_ratio": 0.9}
    assert {line.split()[0] for line in missed(bad)} == set(bad)
