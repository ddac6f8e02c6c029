"""`policy`, `tenants` and limits on the command line, against the real service with a fake backend behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.settings import TenantSettings
from expresslane_client import Prompt

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend
from tests.support.shell import Shell, numbered

if TYPE_CHECKING:
    from pathlib import Path


async def test_policy_is_shown_set_and_taken_back(tmp_path: Path) -> None:
    """The table of scopes before and after; a wrong name is told with those that are right (T04, P39)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        shell = Shell(tmp_path, service.address)
        assert (await shell.run("policy", "--json")).lines == [{"prompt_class": "", "model": "", "policy": "hrrn"}]
        shown = await shell.run("policy", "set", "ljf", "--class", "batch", "--model", "m")
        assert shown.out.split() == ["scope", "policy", "all", "hrrn", "batch/model/m", "ljf"]
        assert "batch/model/m ljf" in (await shell.run("status")).out
        taken = await shell.run("policy", "unset", "--class", "batch", "--model", "m")
        assert taken.out.split() == ["scope", "policy", "all", "hrrn"]
        wrong = await shell.run("policy", "set", "fastest")
        assert wrong.code == 2
        assert "hrrn" in wrong.err
        nowhere = await shell.run("policy", "set", "ljf", "--model", "nope")
        assert (nowhere.code, "no backend serves the model 'nope'" in nowhere.err) == (3, True)
        assert (await shell.run("policy", "unset")).code == 2


async def test_models_in_memory_are_shown(tmp_path: Path) -> None:
    """Which models a backend holds, how many it may, and how often one was loaded (O06)."""
    options: dict[str, Any] = {"models": (("a", "a"), ("b", "b")), "max_loaded_models": 1}
    async with FakeBackend() as fake, Service(fake=backend(fake.url, **options)) as service:
        shell = Shell(tmp_path, service.address)
        assert "fake: in memory: nothing yet (at most 1, 0 loads since start)" in (await shell.run("backends")).out
        for model in "ab":
            async for _ in service.client.generate_batch([Prompt("p", "x", model=model)]):
                pass
        told = "fake: in memory: b (at most 1, 2 loads since start)"
        assert told in (await shell.run("backends")).out
        assert told in (await shell.run("status")).out
        (described,) = (await shell.run("backends", "--json")).lines
        assert [model["loaded"] for model in described["models"]] == [False, True]


async def test_tenants_are_shown_and_changed(tmp_path: Path) -> None:
    """Weight, class and limits as they are then; status lists tenants once there is another than the default (O01)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        shell = Shell(tmp_path, service.address)
        changed = await shell.run("tenants", "set", "acme", "--weight", "3", "--requests-per-min", "50")
        assert changed.out.splitlines()[1].split() == ["acme", "3", "0", "0", "0", "interactive"]
        assert "0 of 50 requests/min" in changed.out
        assert "acme: 0 of 50 requests/min" in (await shell.run("status")).out
        (tenant,) = (await shell.run("tenants", "--json")).lines
        assert (tenant["tenant"], tenant["weight"], tenant["requests_per_min"]) == ("acme", 3, 50)
        assert (await shell.run("tenants", "set", "acme")).code == 2
        assert (await shell.run("tenants", "set", "acme", "--weight", "-1")).code == 2


async def test_tenants_are_shown_before_their_first_call(tmp_path: Path) -> None:
    """Configured ones on a fresh service; a name that nobody configured or called by is said to be new (O01)."""
    tenants = {"acme": TenantSettings(weight=3), "small": TenantSettings(requests_per_min=2)}
    async with FakeBackend() as fake, Service(fake=backend(fake.url), tenants=tenants) as service:
        shell = Shell(tmp_path, service.address)
        assert [line["tenant"] for line in (await shell.run("tenants", "--json")).lines] == ["acme", "small"]
        known = await shell.run("tenants", "set", "acme", "--weight", "5")
        assert (known.code, known.err) == (0, "")
        new = await shell.run("tenants", "set", "acmee", "--weight", "5")
        assert (new.code, new.err) == (
            0,
            "acmee: no such tenant so far; its weight holds from its first call\n",
        )
        shown = {line["tenant"]: line["weight"] for line in (await shell.run("tenants", "--json")).lines}
        assert shown == {"acme": 5, "acmee": 5, "small": 1}
        assert (await shell.run("tenants", "set", "acmee", "--weight", "4")).err == ""


async def test_tenants_without_work_are_said_to_be_idle(tmp_path: Path) -> None:
    """A sentence and the way to see one, and no empty table; for programs nothing; shown once it is changed (O01)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        shell = Shell(tmp_path, service.address)
        assert (await shell.run("tenants")).out == "no tenant has work now, and none is configured\n"
        await service.client.collect_batch(["x"])
        idle = await shell.run("tenants")
        assert (idle.code, idle.err) == (0, "")
        assert idle.out == (
            "no tenant has work now: the only one known is idle; "
            "one is listed while it works, or after expresslane tenants set NAME\n"
        )
        assert (await shell.run("tenants", "--json")).lines == []
        assert (await shell.run("tenants", "set", "default", "--weight", "1")).code == 0
        listed = (await shell.run("tenants")).out.splitlines()
        assert listed[0].startswith("tenant")
        assert listed[1].split()[:2] == ["default", "1"]


@pytest.mark.parametrize(("whose", "tenant"), [("fake", ""), ("small", "small")])
async def test_run_says_which_limit_it_waits_for(tmp_path: Path, whose: str, tenant: str) -> None:
    """While prompts wait for a limit, `run` tells whose and how long; status counts it; raised, it lets go (T15)."""
    tenants = {"small": TenantSettings(requests_per_min=2)}
    limit = 0 if tenant else 2
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, requests_per_min=limit), tenants=tenants) as service,
    ):
        shell = Shell(tmp_path, service.address, {"EXPRESSLANE_TENANT": tenant})
        shell.write("p.jsonl", *numbered(4))
        running = asyncio.ensure_future(shell.run("run", "p.jsonl", "-o", "r.jsonl"))
        while (await service.client.get_snapshot()).queued < 2:
            pass
        status = (await shell.run("status")).out
        assert "rate limited (requests_per_min)" in status
        assert "rate limited 1 time" in status
        if tenant:
            lifted = await shell.run("tenants", "set", tenant, "--requests-per-min", "0")
        else:
            lifted = await shell.run("backends", "set-limits", "fake", "--requests-per-min", "0")
        assert lifted.code == 0
        done = await running
        assert (done.code, f"rate limited by {whose}, " in done.err) == (0, True)
        assert (await shell.run("backends", "set-limits", "fake")).code == 2


async def test_drain(tmp_path: Path) -> None:
    """The service takes no more work and tells what is left, again when asked again; what was accepted ends (T12)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        shell = Shell(tmp_path, service.address)
        fake.on(lambda _: Script(before_headers=gate))
        call = service.client.generate_batch(["a", "b", "c"])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(1)
        done = await shell.run("drain")
        assert (done.code, done.out) == (0, "takes no more work; left to do: 2 waiting · 1 in flight\n")
        assert (await shell.run("drain", "--json")).lines == [{"queued": 2, "in_flight": 1}]
        assert "draining: takes no more work" in (await shell.run("status")).out
        shell.write("p.jsonl", *numbered(1))
        refused = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--no-resume")
        assert (refused.code, "refused (DRAINING)" in refused.err) == (3, True)
        gate.set()
        assert (await reading).ok
        assert [one.ok async for one in call] == [True, True]
        assert (await shell.run("drain")).out == "takes no more work; left to do: nothing\n"


async def test_backends_say_that_one_is_left_alone(tmp_path: Path) -> None:
    """An open breaker is told below the table, with the time until the backend is tried."""
    async with FakeBackend() as fake:
        fake.on(lambda _: Script(status=500))
        async with Service(fake=backend(fake.url, breaker_open_s=60.0), retry_attempts=1) as service:
            shell = Shell(tmp_path, service.address)
            async with service.client.generate_batch([str(number) for number in range(20)]) as call:
                assert not any([one.ok async for one in call])
            shown = (await shell.run("backends")).out
            assert "breaker: left alone because it fails" in shown
            assert "opened 1 time" in shown
