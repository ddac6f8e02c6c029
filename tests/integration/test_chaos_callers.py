"""The fault harness's callers see what a bad service does: their log is what came, not what the client makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest
from expresslane_client import Outcome, Result
from expresslane_client.results import AttemptError
from expresslane_client.v1 import admin_pb2, inference_pb2

from tests.chaos import caller, long_caller, slow_reader
from tests.chaos.caller import Caller
from tests.chaos.ledger import Ledger
from tests.chaos.long_caller import LongCaller
from tests.support.stub_server import StubService, serve_stub

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "batch": ("stays", 0.0, inference_pb2.GenerateBatchRequest),
    "session": ("stays", 1.0, inference_pb2.StreamPromptsRequest),
    "session with cancels": ("cancels", 0.0, inference_pb2.StreamPromptsRequest),
    "slow batch": ("slow", 0.0, inference_pb2.GenerateBatchRequest),
    "slow session": ("slow session", 0.0, inference_pb2.StreamPromptsRequest),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """One kind of call, for all callers; gives the message with which it begins."""
    behaviour, sessions, message = KINDS[request.param]
    monkeypatch.setattr(caller, "SESSION_SHARE", sessions)
    monkeypatch.setattr(slow_reader, "READ_S", 0)
    monkeypatch.setattr(caller, "behaviours", lambda calls, _: [behaviour] * calls)
    return message


async def told(service: StubService, folder: Path, *, calls: int = 2, cancel_after_s: float | None = None) -> Ledger:
    """What the callers of some calls of ten prompts say afterwards."""
    async with serve_stub(service) as address:
        storm = {"calls": calls, "size": 10, "tenants": 1, "at_once": 1, "misbehave": 0.5}
        log = folder / "calls.jsonl"
        callers = Caller(address, 1)
        await callers.carry_out("storm", name="s", log=str(log), cancel_after_s=cancel_after_s, **storm)
    return Ledger.read(log)


async def test_a_good_service(kind: type, tmp_path: Path) -> None:
    """Every answer is verified; a service that does as it says leaves nothing to count (P30)."""
    service = StubService()
    ledger = await told(service, tmp_path)
    assert {type(one) for one in service.requests} - {admin_pb2.GetSnapshotRequest} == {kind}
    assert (ledger.lost, ledger.duplicated, ledger.foreign, ledger.errors) == ([], [], [], [])
    assert (ledger.sent, ledger.outcomes["succeeded"]) == (20, 20)
    # Nothing of theirs waits there.
    assert (ledger.held, ledger.held_sessions) == (0, 0)


async def test_a_batch_that_is_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A slow reader asks about its own tenant until that is held, then reads to the end; nobody else stops (A16)."""
    monkeypatch.setattr(slow_reader, "READ_S", 0)
    monkeypatch.setattr(slow_reader, "LOOK_S", 0)
    monkeypatch.setattr(slow_reader, "BESIDE", 0)
    monkeypatch.setattr(caller, "behaviours", lambda *_: ["slow", "stays", "slow"])
    unread = admin_pb2.Holdings(unread_bytes=slow_reader.OUTBOX_BYTES)
    service = StubService(tenants=[admin_pb2.Tenant(tenant="s2", queued=5, holdings=unread)])
    ledger = await told(service, tmp_path, calls=3)
    assert (ledger.held, ledger.lost, ledger.outcomes["succeeded"]) == (1, [], 30)
    # Once for each first result, and again for the one that looked as if it were held.
    assert sum(isinstance(one, admin_pb2.GetSnapshotRequest) for one in service.requests) == 3


async def test_a_result_that_comes_twice(kind: type, tmp_path: Path) -> None:
    """One doubled result of twenty: duplicated = 1, in every kind of call."""
    ledger = await told(StubService(twice={"s1-7"}), tmp_path)
    assert (ledger.duplicated, ledger.lost, ledger.errors) == (["s1-7"], [], []), kind


async def test_a_result_that_never_comes(kind: type, tmp_path: Path) -> None:
    """One missing result of twenty: lost = 1, in every kind of call."""
    ledger = await told(StubService(never={"s0-2"}), tmp_path)
    assert (ledger.lost, ledger.duplicated, ledger.errors) == (["s0-2"], [], []), kind


async def test_a_result_that_was_cancelled(kind: type, tmp_path: Path) -> None:
    """A prompt that the service cancels by itself was wanted; one that its caller cancels was not, in no other kind."""
    ledger = await told(StubService(cut_off={"s0-2", "s1-7"}), tmp_path)
    cancels = ledger.calls["cancels"] > 0
    assert ledger.outcomes["cancelled"] == 2, kind
    assert (ledger.cancelled_unasked, ledger.success_ratio) == (
        (["s0-2"], 18 / 19) if cancels else (["s0-2", "s1-7"], 18 / 20)
    )


async def test_a_connection_that_breaks(kind: type, tmp_path: Path) -> None:
    """What had no result when the connection broke is lost and the call counts as broken: nobody asks again."""
    service = StubService(break_after=4)
    ledger = await told(service, tmp_path)
    assert (len(ledger.lost), len(ledger.errors), ledger.duplicated) == (12, 2, [])
    assert sum(isinstance(one, kind) for one in service.requests) >= 2
    assert len({prompt.custom_id for prompt in service.prompts}) == len(service.prompts)


async def test_leaving_after_a_delay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A caller that leaves after a time, not at a result, closes its call; what it did not get is not lost (P13)."""
    monkeypatch.setattr(caller, "behaviours", lambda calls, _: ["leaves"] * calls)
    for sessions in (0.0, 1.0):
        monkeypatch.setattr(caller, "SESSION_SHARE", sessions)
        service = StubService(hold_after=7)
        ledger = await told(service, tmp_path, calls=1, cancel_after_s=0.2)
        await service.cancelled.wait()
        assert (ledger.lost, ledger.abandoned, ledger.errors) == ([], 3, [])


async def test_cancelling_after_a_delay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A caller that cancels after a time asks for half of its prompts to be cancelled and reads to the end (P13)."""
    monkeypatch.setattr(caller, "behaviours", lambda calls, _: ["cancels"] * calls)
    service = StubService()
    ledger = await told(service, tmp_path, calls=1, cancel_after_s=0.01)
    (cancel,) = (one for one in service.requests if isinstance(one, inference_pb2.StreamPromptsRequest) and one.cancel)
    assert list(cancel.cancel) == [f"s0-{number}" for number in range(5, 10)]
    (logged,) = map(orjson.loads, (tmp_path / "calls.jsonl").read_bytes().splitlines())
    assert logged["cancelled"] == list(cancel.cancel)
    assert (ledger.lost, ledger.errors) == ([], [])


async def test_nothing_more_comes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Callers that hear nothing any more break off with what they have: the rest is lost, and the run has an end."""
    monkeypatch.setattr(caller, "SILENT_S", 0.3)
    monkeypatch.setattr(caller, "behaviours", lambda calls, _: ["stays"] * calls)
    for sessions in (0.0, 1.0):
        monkeypatch.setattr(caller, "SESSION_SHARE", sessions)
        service = StubService(hold_after=7)
        ledger = await told(service, tmp_path, calls=2)
        await service.cancelled.wait()
        # The second call was never made.
        assert (len(ledger.lost), ledger.sent, ledger.outcomes["succeeded"], ledger.errors) == (3, 10, 7, [])


async def test_nothing_more_comes_in_a_long_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and has no result when it breaks off is lost; what was never sent is not."""
    monkeypatch.setattr(long_caller, "SILENT_S", 0.3)
    service = StubService(hold_after=7)
    async with serve_stub(service) as address:
        said = await LongCaller(address).run(prompts=40, tell_every=100)
        await service.cancelled.wait()
    # Seven answered, each for a credit beyond the four at first.
    assert (said["stood_still"], said["lost"], said["duplicated"]) == (1, 4, 0)


async def test_attempts_as_callers_log_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a prompt was tried is in the log, its last attempt too, unless it ended in the queue."""
    monkeypatch.setattr(caller, "behaviours", lambda calls, _: ["stays"] * calls)
    await told(StubService(failing={"s0-3"}), tmp_path, calls=1)
    (logged,) = map(orjson.loads, (tmp_path / "calls.jsonl").read_bytes().splitlines())
    tried = {custom_id: tried for custom_id, *_, tried in logged["results"]}
    assert tried["s0-2"] == []
    assert tried["s0-3"] == [["backends/stub", "BACKEND_UNREACHABLE"]]
    ended = Result("p", 0, Outcome.EXPIRED, history=(AttemptError("b", "IDLE_TIMEOUT", "", 0, 1.0),), backend="b")
    assert caller._tried(ended) == [("b", "IDLE_TIMEOUT")]
    assert caller._tried(replace(ended, attempt_ms=2.0)) == [("b", "IDLE_TIMEOUT"), ("b", "")]
