"""Backends at runtime: the switch, caps, discovery, and being down."""

from __future__ import annotations

import asyncio

import pytest
from expresslane.backends.base import Discovery
from expresslane.errors import BackendError, Reason, RefusedError
from expresslane.fleet import Change
from expresslane.results import Outcome

from tests.support.virtual_time import now_ns, virtual_time
from tests.unit.service.world import SECOND, ScriptedBackend, World, drain, prompt, second

DOWN = BackendError(Reason.BACKEND_UNREACHABLE, "nobody there", retryable=True)


@virtual_time
async def test_switched_off_takes_n_times_as_long() -> None:
    """The same batch gives the same results in both modes, in N*t when off and N*t/cap when on (T01, T02, O03)."""
    times_s = {}
    for concurrency in (False, True):
        backend = ScriptedBackend(default=second(2))
        async with World(backend, settings={"cap": 5, "concurrency": concurrency}) as world:
            started = now_ns()
            results, summary = await world.run([prompt(str(number)) for number in range(20)])
            assert {(one.custom_id, one.text) for one in results} == {(str(n), f"echo {n}") for n in range(20)}
            times_s[concurrency] = (now_ns() - started) / SECOND
            assert summary.speed_up == pytest.approx(40 / times_s[concurrency])
        assert backend.peak == (5 if concurrency else 1)
    assert times_s == {False: 40, True: 8}


@virtual_time
async def test_switching_off_during_a_run_loses_nothing() -> None:
    """Turned off, what runs finishes and the rest goes one at a time; turned on again, the cap holds (T12, T07)."""
    backend = ScriptedBackend(default=second(2))
    async with World(backend, settings={"cap": 5}) as world:
        member = world.fleet.get("b")
        batch = world.submit([prompt(str(number)) for number in range(20)])
        await asyncio.sleep(1)
        assert backend.in_flight == 5
        world.fleet.update(member, Change(enabled=False))
        assert (member.effective_cap, member.cap) == (1, 5)
        await asyncio.sleep(0.5)
        assert backend.in_flight == 5
        results = await drain(world, batch, count=5)
        backend.peak = 0
        results += await drain(world, batch, count=3)
        assert backend.peak == 1
        world.fleet.update(member, Change(enabled=True))
        results += await drain(world, batch)
        assert backend.peak == 5
        assert sorted(one.index for one in results) == list(range(20))
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
    assert backend.cancelled == 0


@pytest.mark.parametrize(
    ("slots", "cap", "refused"), [(1, None, True), (1, 4, False), (4, None, False), (0, None, False)]
)
@virtual_time
async def test_enabling_is_refused_where_it_cannot_be(slots: int, cap: int | None, refused: bool) -> None:
    """A backend with one slot and no cap of its own cannot be switched on, and says what to do about it (T09)."""
    backend = ScriptedBackend("one-slot", default_cap=1)
    backend.discovery = Discovery(models=("m",), slots=slots)
    async with World(backend, settings={"cap": cap, "concurrency": False}) as world:
        member = world.fleet.get("one-slot")
        if not refused:
            world.fleet.update(member, Change(enabled=True))
            assert member.enabled
            return
        with pytest.raises(RefusedError, match="EXPRESSLANE_BACKENDS__ONE_SLOT__CAP") as raised:
            world.fleet.update(member, Change(enabled=True))
        assert raised.value.reason is Reason.CONCURRENCY_UNSUPPORTED
        assert not member.enabled


@virtual_time
async def test_a_kind_that_cannot() -> None:
    """A kind that cannot run requests side by side stays at one whatever its cap says (T06, T09)."""
    backend = ScriptedBackend(default=second(1), can_run_concurrently=False)
    async with World(backend, settings={"cap": 8}) as world:
        assert world.fleet.get("b").effective_cap == 1
        await world.run([prompt(str(number)) for number in range(4)])
    assert backend.peak == 1


@virtual_time
async def test_cap_changes_at_runtime() -> None:
    """A smaller cap lets what runs finish and releases nothing until below it; a larger one is used at once (A06)."""
    backend = ScriptedBackend(default=second(2))
    async with World(backend, settings={"cap": 6}) as world:
        member = world.fleet.get("b")
        batch = world.submit([prompt(str(number)) for number in range(40)])
        await asyncio.sleep(1)
        world.fleet.update(member, Change(cap=2))
        await asyncio.sleep(2)
        assert backend.in_flight == 2
        world.fleet.update(member, Change(cap=9))
        await asyncio.sleep(0.1)
        assert backend.in_flight == 9
        await drain(world, batch)


@virtual_time
async def test_discovered_slots_and_models() -> None:
    """Discovery brings the cap and the models, and later ones are found by the refresh (P32)."""
    backend = ScriptedBackend(default_cap=1, default=second(1))
    backend.discovery = Discovery(models=("found",), slots=3)
    async with World(backend, settings={"models": ()}) as world:
        member = world.fleet.get("b")
        assert (member.slots, member.cap, list(member.models)) == (3, 3, ["found"])
        backend.discovery = Discovery(models=("found", "newer"), slots=5)
        await asyncio.sleep(61)
        assert (member.cap, list(member.models)) == (5, ["found", "newer"])
        results, _ = await world.run([prompt(str(number), model="newer") for number in range(10)])
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
    assert backend.peak == 5


@virtual_time
async def test_a_cap_above_the_slots_is_said() -> None:
    """A configured cap above the slots holds, with a notice that the rest waits where ordering cannot help (O11)."""
    backend = ScriptedBackend()
    backend.discovery = Discovery(slots=2)
    async with World(backend, settings={"cap": 8}) as world:
        member = world.fleet.get("b")
        assert member.effective_cap == 8
        assert any("8" in notice and "2 parallel slots" in notice for notice in member.notices())


@pytest.mark.parametrize("first_seen", [True, False])
@virtual_time
async def test_down_and_back(first_seen: bool) -> None:
    """A backend that is down is probed every second; work that waits is released when it is there again."""
    backend = ScriptedBackend()
    backend.discovery = Discovery() if first_seen else DOWN
    async with World(backend) as world:
        member = world.fleet.get("b")
        if first_seen:
            world.fleet.unreachable(member, DOWN)
            backend.discovery = DOWN
        assert not member.available
        assert any("nobody there" in notice for notice in member.notices())
        batch = world.submit([prompt("a")])
        await asyncio.sleep(4.5)
        asked = backend.discoveries
        assert backend.calls == []
        backend.discovery = Discovery()
        results = await drain(world, batch)
        assert (results[0].outcome, results[0].timings.total_ns) == (Outcome.SUCCEEDED, 5 * SECOND)
        assert member.available
        await asyncio.sleep(10)
        assert backend.discoveries == asked + 1


@virtual_time
async def test_back_without_a_list_of_models() -> None:
    """A backend that answers, although it cannot list its models, is not down."""
    backend = ScriptedBackend()
    backend.discovery = BackendError(Reason.BACKEND_REJECTED, "no such path", http_status=404)
    async with World(backend) as world:
        member = world.fleet.get("b")
        assert member.available
        world.fleet.unreachable(member, DOWN)
        await asyncio.sleep(1.5)
        assert member.available


@virtual_time
async def test_one_that_is_still_loading() -> None:
    """A backend that answers 503 while it starts is probed until it is ready; a busy one later stays available."""
    backend = ScriptedBackend()
    backend.discovery = loading = BackendError(Reason.BACKEND_OVERLOADED, "loading", retryable=True, http_status=503)
    async with World(backend, settings={"models": ()}) as world:
        member = world.fleet.get("b")
        assert not member.available
        backend.discovery = Discovery(models=("m",))
        await asyncio.sleep(1.5)
        assert (member.available, list(member.models)) == (True, ["m"])
        backend.discovery = loading
        await asyncio.sleep(120)
        assert member.available


@virtual_time
async def test_discovery_that_never_answers() -> None:
    """A backend that takes the question and says nothing does not keep the service from starting."""

    class Mute(ScriptedBackend):
        async def discover(self) -> Discovery:
            """Nothing, for ever."""
            await asyncio.Event().wait()
            raise AssertionError

    async with World(Mute("mute"), ScriptedBackend("b")) as world:
        results, _ = await world.run([prompt("a")])
        assert results[0].outcome is Outcome.SUCCEEDED


@virtual_time
async def test_discovery_goes_on_after_the_start() -> None:
    """The start waits two seconds for a slow backend; its models are served as soon as it tells them."""

    class Slow(ScriptedBackend):
        async def discover(self) -> Discovery:
            """The models, after five seconds."""
            await asyncio.sleep(5)
            return await super().discover()

    backend = Slow("slow")
    backend.discovery = Discovery(models=("late",))
    started = now_ns()
    async with World(backend, ScriptedBackend("b"), settings={"models": ()}) as world:
        assert now_ns() - started == 2 * SECOND
        results, _ = await world.run([prompt("a", model="late")])
        assert (results[0].outcome, results[0].timings.total_ns) == (Outcome.SUCCEEDED, 3 * SECOND)


@virtual_time
async def test_unknown_models_wait_for_a_backend_that_was_never_reached() -> None:
    """Down at the start: what it lists later is released, what it does not list is UNKNOWN_MODEL."""
    backend = ScriptedBackend()
    backend.discovery = DOWN
    async with World(backend, settings={"models": ()}) as world:
        batch = world.submit([prompt("a", model="late"), prompt("b", model="typo")])
        ending = world.submit([prompt(one, model="typo") for one in "cd"], fail_fast=True)
        await asyncio.sleep(3.5)
        assert batch.tally.finished == 0
        backend.discovery = Discovery(models=("late",))
        results = {one.custom_id: one for one in await drain(world, batch) + await drain(world, ending)}
        assert results["a"].outcome is Outcome.SUCCEEDED
        errors = {name: one.error.reason for name, one in results.items() if one.error is not None}
        assert errors == {
            "b": Reason.UNKNOWN_MODEL,
            "c": Reason.UNKNOWN_MODEL,
            "d": Reason.BATCH_FAILED,
        }
        assert results["b"].timings.total_ns == 4 * SECOND


@virtual_time
async def test_unknown_models_do_not_wait_for_ever() -> None:
    """A model that no backend has listed when the time without a backend is over is NO_BACKEND, worth another try."""
    backend = ScriptedBackend()
    backend.discovery = DOWN
    async with World(backend, settings={"models": ()}) as world:
        result = await world.one()
        assert result.error is not None
        assert (result.error.reason, result.error.retryable) == (Reason.NO_BACKEND, True)
        assert "for the model 'm': no backend has listed it so far; backends/b: " in result.error.message
        assert result.timings.total_ns == 10 * SECOND


@virtual_time
async def test_a_backend_whose_list_failed_is_named_where_a_model_is_not_known() -> None:
    """With a wrong key for one backend and another down, both are told, neither in the backend's own words."""
    wrong, down = ScriptedBackend("alpha"), ScriptedBackend("b")
    wrong.discovery = BackendError(
        Reason.BACKEND_UNAUTHORIZED, "GET /models: HTTP 401: no such SECRET", http_status=401
    )
    down.discovery = DOWN
    why = "BACKEND_UNAUTHORIZED (HTTP 401)"
    async with World(wrong, down, settings={"models": ()}) as world:
        waited = (await world.one()).error
        assert waited is not None
        assert f"backends/b: nobody there; backends/alpha: no list of models ({why})" in waited.message
        assert "SECRET" not in waited.message
        down.discovery = Discovery(models=("other",))
        await asyncio.sleep(2)
        refused = (await world.one()).error
        assert refused is not None
        assert refused.reason is Reason.UNKNOWN_MODEL
        assert refused.message.endswith(f"no list of models can be had from backends/alpha ({why})")
        wrong.discovery = Discovery(models=("m",))
        await asyncio.sleep(60)
        assert (await world.one()).error is None


@virtual_time
async def test_models_do_not_block_each_other() -> None:
    """A backlog for one model on one backend does not hold up another model elsewhere (O05)."""
    busy, idle = ScriptedBackend("a", default=second(100)), ScriptedBackend("b")
    busy.discovery, idle.discovery = Discovery(models=("big",)), Discovery(models=("small",))
    async with World(busy, idle, settings={"models": (), "cap": 1}) as world:
        backlog = world.submit([prompt(f"big{n}", model="big") for n in range(5)])
        results, _ = await world.run([prompt(f"small{n}", model="small") for n in range(50)])
        assert {one.timings.total_ns for one in results} == {0}
        world.intake.close(backlog)


@virtual_time
async def test_the_operators_cap_holds_whatever_the_slots() -> None:
    """A cap set at runtime on a backend with one slot is in force, noticed, and outlives the next discovery (O11)."""
    backend = ScriptedBackend(default_cap=1, default=second(1))
    backend.discovery = Discovery(models=("m",), slots=1)
    async with World(backend) as world:
        member = world.fleet.get("b")
        assert (member.can_run_concurrently, member.effective_cap, member.notices()) == (False, 1, [])
        world.fleet.update(member, Change(cap=4))
        assert (member.can_run_concurrently, member.effective_cap) == (True, 4)
        await asyncio.sleep(61)
        assert (member.cap, member.effective_cap) == (4, 4)
        assert any("cap 4 is above the 1 parallel slots" in notice for notice in member.notices())
        await world.run([prompt(str(number)) for number in range(8)])
    assert backend.peak == 4


@virtual_time
async def test_a_cap_that_cannot_be_in_force_is_said() -> None:
    """A cap set for a kind that runs one request at a time comes with a notice that it is not in force (O11)."""
    async with World(ScriptedBackend(can_run_concurrently=False)) as world:
        member = world.fleet.get("b")
        world.fleet.update(member, Change(cap=4))
        assert member.effective_cap == 1
        assert any("cap 4 is not in force" in notice for notice in member.notices())


def test_unknown_backend_is_named() -> None:
    """Asking for a backend that is not there names those that are."""
    with pytest.raises(RefusedError, match="there are backends/a, backends/b"):
        World(ScriptedBackend("b"), ScriptedBackend("a")).fleet.get("c")
