"""Tenants over gRPC: sharing, classes, limits, barriers and policies as callers and backends see them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from expresslane.settings import TenantSettings
from expresslane_client import (
    CallError,
    Client,
    InputError,
    Outcome,
    Prompt,
    PromptClass,
    RateLimited,
    RefusedError,
    Snapshot,
)

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from expresslane_client import Event, Result


@asynccontextmanager
async def called_by(service: Service, tenant: str) -> AsyncIterator[Client]:
    """A client of one tenant."""
    async with Client(service.address, tenant=tenant) as client:
        yield client


def text(request: SeenRequest) -> str:
    """The prompt's own text."""
    content: str = request.json["messages"][-1]["content"]
    return content


async def collect(client: Client, prompts: list[Prompt]) -> list[Result]:
    """Run a batch to its end."""
    return [result async for result in client.generate_batch(prompts)]


async def queued(service: Service, count: int) -> Snapshot:
    """The snapshot, once that many prompts wait."""
    while (snapshot := await service.client.get_snapshot()).queued < count:
        pass
    return snapshot


async def test_a_tenant_with_few_prompts_does_not_wait_for_one_with_many() -> None:
    """Two hundred prompts of one tenant are before ten of another; the ten are served in turn with them (O01)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        async with called_by(service, "many") as many, called_by(service, "few") as few:
            fake.script(Script(before_headers=gate))
            first = asyncio.ensure_future(collect(many, [Prompt(f"m{n}", f"m{n}" + "x" * 4_000) for n in range(200)]))
            await queued(service, 199)
            second = asyncio.ensure_future(collect(few, [Prompt(f"f{n}", f"f{n}" + "x" * 4_000) for n in range(10)]))
            snapshot = await queued(service, 209)
            assert {one.tenant: one.queued for one in snapshot.tenants} == {"many": 199, "few": 10}
            gate.set()
            assert {one.outcome for one in await first + await second} == {Outcome.SUCCEEDED}
        order = [text(request)[0] for request in fake.generations]
        last_of_few = max(place for place, tenant in enumerate(order) if tenant == "f")
        assert last_of_few < 60


async def test_the_highest_class_of_a_tenant() -> None:
    """A higher class is refused and named; a prompt that asks for none gets what the tenant may have."""
    tenants = {"cheap": TenantSettings(max_class="batch")}
    async with FakeBackend() as fake, Service(fake=backend(fake.url), tenants=tenants) as service:
        async with called_by(service, "cheap") as cheap:
            with pytest.raises(RefusedError, match="BATCH and below") as raised:
                await collect(cheap, [Prompt("a", "x"), Prompt("b", "x", prompt_class=PromptClass.INTERACTIVE)])
            assert (raised.value.reason, raised.value.code.name) == ("CLASS_NOT_ALLOWED", "PERMISSION_DENIED")
            assert [one.field for one in raised.value.violations] == ["prompts[1].class"]
            (result,) = await collect(cheap, [Prompt("a", "x")])
            assert result.outcome is Outcome.SUCCEEDED
            async with cheap.stream_prompts([Prompt("c", "x", prompt_class=PromptClass.STANDARD)]) as session:
                (failed,) = [one async for one in session]
            assert failed.error is not None
            assert failed.error.reason == "CLASS_NOT_ALLOWED"
        (served,) = await collect(service.client, [Prompt("d", "x", prompt_class=PromptClass.INTERACTIVE)])
        assert served.outcome is Outcome.SUCCEEDED


async def test_short_prompts_go_now_and_long_ones_in_bulk() -> None:
    """With a threshold of 100 characters 99 stay standard and 100 get batch, by batch and by session (A24)."""
    gate = asyncio.Event()
    tenants = {"cheap": TenantSettings(max_class="batch")}
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=1), tenants=tenants, batch_class_from_chars=100) as service,
        called_by(service, "cheap") as cheap,
    ):
        fake.script(Script(before_headers=gate))
        running = [asyncio.ensure_future(collect(service.client, [Prompt("first", "first")]))]
        await fake.wait_for_generations(1)
        prompts = [Prompt("long", "l" * 100), Prompt("asked", "a" * 100, prompt_class=PromptClass.INTERACTIVE)]
        running.append(asyncio.ensure_future(collect(service.client, [*prompts, Prompt("short", "s" * 99)])))
        assert (await queued(service, 3)).queued_by_class == {"interactive": 1, "standard": 1, "batch": 1}
        running.append(asyncio.ensure_future(collect(cheap, [Prompt(str(n), "c" * n) for n in (99, 100)])))
        assert (await queued(service, 5)).queued_by_class == {"interactive": 1, "standard": 1, "batch": 3}
        async with service.client.stream_prompts([Prompt("x", "x" * 99), Prompt("y", "y" * 100)]) as session:
            assert (await queued(service, 7)).queued_by_class == {"interactive": 1, "standard": 2, "batch": 4}
            gate.set()
            assert len([one async for one in session]) == 2
        for one in running:
            assert {result.outcome for result in await one} == {Outcome.SUCCEEDED}
        assert [text(request)[0] for request in fake.generations][:2] == ["f", "a"]


async def test_a_tenant_by_a_name_that_cannot_be() -> None:
    """Metadata that names no possible tenant is refused, not taken for the default."""
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url)) as service,
        called_by(service, "Acme Inc") as client,
    ):
        with pytest.raises(RefusedError, match="x-expresslane-tenant") as raised:
            await collect(client, [Prompt("a", "x")])
        assert raised.value.reason == "INVALID_FIELD"


async def test_a_tenants_limit_is_told_and_can_be_lifted() -> None:
    """A tenant at its limit waits, is told why and until when, and goes on when the limit is raised (T10, T11, T15)."""
    tenants = {"limited": TenantSettings(requests_per_min=2)}
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url), tenants=tenants) as service,
        called_by(service, "limited") as limited,
    ):
        events: list[Event] = []
        told = asyncio.Event()

        def on_event(event: Event) -> None:
            events.append(event)
            if isinstance(event, RateLimited):
                told.set()

        call = limited.generate_batch([Prompt(str(n), "x") for n in range(6)], on_event=on_event)
        reading = asyncio.ensure_future(_all(call))
        await told.wait()
        (event,) = (one for one in events if isinstance(one, RateLimited))
        assert (event.backend, event.tenant, event.limit, event.whose) == (
            "",
            "limited",
            "requests_per_min",
            "limited",
        )
        assert 50_000 < event.reset_in_ms <= 60_000
        others = await collect(service.client, [Prompt("other", "x")])
        assert others[0].outcome is Outcome.SUCCEEDED
        snapshot = await service.client.get_snapshot()
        (tenant,) = (one for one in snapshot.tenants if one.tenant == "limited")
        assert tenant.limited_by is not None
        assert (tenant.queued, tenant.requests_in_window, tenant.rate_limited_times) == (4, 2, 1)
        changed = await service.client.update_tenant("limited", requests_per_min=0)
        assert (changed.requests_per_min, changed.limited_by) == (0, None)
        assert {one.outcome for one in await reading} == {Outcome.SUCCEEDED}


async def _all(call: AsyncIterator[Result]) -> list[Result]:
    return [one async for one in call]


async def test_a_tenants_part_of_the_queue() -> None:
    """At its own bound a tenant is refused and told when to come back; others are not."""
    gate = asyncio.Event()
    tenants = {"greedy": TenantSettings(queue_limit_prompts=2)}
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url), tenants=tenants) as service,
        called_by(service, "greedy") as greedy,
        called_by(service, "modest") as modest,
    ):
        fake.on(lambda _: Script(before_headers=gate))
        first = asyncio.ensure_future(collect(greedy, [Prompt(str(n), "x") for n in range(2)]))
        await fake.wait_for_generations(2)
        with pytest.raises(RefusedError, match="2 prompts of this tenant wait or run") as raised:
            await collect(greedy, [Prompt("late", "x")])
        assert raised.value.reason == "QUEUE_FULL"
        assert raised.value.retry_after_s is not None
        with pytest.raises(RefusedError) as raised:
            await collect(greedy, [Prompt(str(n), "x") for n in range(3)])
        assert (raised.value.reason, raised.value.retry_after_s) == ("BATCH_TOO_LARGE", None)
        second = asyncio.ensure_future(collect(modest, [Prompt(str(n), "x") for n in range(3)]))
        await fake.wait_for_generations(5)
        gate.set()
        assert {one.outcome for one in await first + await second} == {Outcome.SUCCEEDED}


async def test_a_backends_limit_is_told_and_can_be_lifted() -> None:
    """The same for a limit of a backend, which Admin changes and shows; Generate is told too (T10, T11, T14, T15)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, requests_per_min=1)) as service:
        await collect(service.client, [Prompt("a", "x")])
        waiting = service.client.generate("b")
        seen = asyncio.ensure_future(waiting.collect())
        await queued(service, 1)
        while not (limited := await service.client.get_backend("fake")).limited_by:
            pass
        assert limited.limited_by.limit == "requests_per_min"
        assert (limited.requests_per_min, limited.requests_in_window, limited.rate_limited_times) == (1, 1, 1)
        assert 50_000 < limited.rate_limited_ms <= 60_000
        await service.client.update_backend("fake", requests_per_min=100, tokens_per_min=1_000_000)
        assert (await seen).outcome is Outcome.SUCCEEDED


async def test_a_providers_own_count_is_heeded() -> None:
    """When an answer's headers say that nothing is left, the next prompt waits for the reset (A26)."""
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "100ms"}
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.script(Script(headers=used_up))
        events: list[Event] = []
        call = service.client.generate_batch([Prompt("a", "x"), Prompt("b", "x")], on_event=events.append)
        first, second = [one async for one in call]
        assert (first.ok, second.ok) == (True, True)
        assert second.queue_ms >= 90
        (event,) = (one for one in events if isinstance(one, RateLimited))
        assert (event.backend, event.limit) == ("backends/fake", "requests_left")
        assert (await service.client.get_backend("fake")).rate_limited_times == 1


async def test_limits_that_cannot_be_are_refused_whole() -> None:
    """Wrong values over Admin name the field, and nothing of the call is applied."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        client = service.client
        with pytest.raises(RefusedError, match=r"backend\.tokens_per_min: -1"):
            await client.update_backend("fake", cap=3, tokens_per_min=-1)
        assert (await client.get_backend("fake")).cap == 10
        with pytest.raises(RefusedError, match=r"tenant\.weight: 0"):
            await client.update_tenant("a", requests_per_min=5, weight=0)
        assert (await client.update_tenant("a", weight=2)).requests_per_min == 0
        with pytest.raises(RefusedError, match="is not 1 to 63"):
            await client.update_tenant("A!", weight=2)
        with pytest.raises(InputError, match="nothing to change"):
            await client.update_tenant("a")


async def test_sequential_prompts_reach_the_backend_one_after_the_other() -> None:
    """All before a sequential prompt has ended when it is sent, and nothing after it is sent before its end (T17).

    There are slots for all at once, and without it the policy would send the last ones first.
    """
    first, own = asyncio.Event(), asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url), policy="sjf") as service:
        fake.script(*[Script(before_headers=first)] * 3, Script(before_headers=own))
        texts = [*("a" * 4000 + str(number) for number in range(3)), "b" * 400, "c1", "c2"]
        prompts = [Prompt(str(at), text, sequential=text.startswith("b")) for at, text in enumerate(texts)]
        running = asyncio.ensure_future(collect(service.client, prompts))
        waiting = []
        for sent, gate in ((3, first), (4, own)):
            await fake.wait_for_generations(sent)
            waiting.append((await service.client.get_snapshot()).queued)
            gate.set()
        assert {one.outcome for one in await running} == {Outcome.SUCCEEDED}
        order = [text(request)[0] for request in fake.generations]
        assert waiting == [3, 2]
        assert order == ["a", "a", "a", "b", "c", "c"]


async def test_a_policy_for_one_class() -> None:
    """Standard prompts go short before long; those of the class batch long before short, as configured (T04)."""
    gate = asyncio.Event()
    sizes = [400 * 3**number for number in range(5)]
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), policies="batch=ljf") as service:
        fake.script(Script(before_headers=gate))
        first = asyncio.ensure_future(collect(service.client, [Prompt("first", "first")]))
        await fake.wait_for_generations(1)
        running = [
            asyncio.ensure_future(
                collect(service.client, [Prompt(f"{name}{n}", "x" * n, prompt_class=name) for n in sizes])
            )
            for name in (PromptClass.STANDARD, PromptClass.BATCH)
        ]
        snapshot = await queued(service, 10)
        assert [(one.scope, one.policy) for one in snapshot.policies] == [("batch", "ljf")]
        gate.set()
        for one in (first, *running):
            await one
        assert [len(text(request)) for request in fake.generations[1:]] == sizes + sizes[::-1]


async def test_a_policy_changed_at_runtime_loses_nothing() -> None:
    """Waiting prompts follow the new policy; all of them end once; the scope is shown and can be taken back (T04)."""
    gate = asyncio.Event()
    sizes = [400 * 3**number for number in range(5)]
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.script(Script(before_headers=gate))
        first = asyncio.ensure_future(collect(service.client, [Prompt("first", "first")]))
        await fake.wait_for_generations(1)
        second = asyncio.ensure_future(collect(service.client, [Prompt(str(n), "x" * n) for n in sizes]))
        await queued(service, 5)
        assert [one.policy for one in await service.client.set_policy("ljf")] == ["ljf"]
        gate.set()
        assert len(await first + await second) == 6
        assert [len(text(request)) for request in fake.generations[1:]] == sizes[::-1]
        policies = await service.client.set_policy("edf", prompt_class="batch", model="m")
        assert [(one.scope, one.policy) for one in policies] == [("all", "ljf"), ("batch/model/m", "edf")]
        assert len(await service.client.set_policy("", prompt_class="batch", model="m")) == 1


@pytest.mark.parametrize(
    ("policy", "prompt_class", "model", "says"),
    [
        ("fastest", "", "", "'fastest' is none of hrrn"),
        ("", "", "", "required: one of hrrn"),
        ("fcfs", "", "nope", "no backend serves the model 'nope'"),
    ],
)
async def test_policies_that_cannot_be(policy: str, prompt_class: str, model: str, says: str) -> None:
    """A policy or model that there is not is refused, and what held holds on."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        with pytest.raises(CallError, match=says):
            await service.client.set_policy(policy, prompt_class=prompt_class, model=model)
        snapshot = await service.client.get_snapshot()
        assert (snapshot.policy, snapshot.policies) == ("hrrn", ())


async def test_a_failing_backend_is_left_alone() -> None:
    """After twenty failures the breaker opens, shown in Admin; a caller's own mistakes never open it."""
    async with FakeBackend() as fake:
        failing = Service(fake=backend(fake.url, cap=1, breaker_open_s=60.0), retry_attempts=1)
        async with failing as service:
            fake.on(lambda _: Script(status=400))
            await collect(service.client, [Prompt(str(n), "x") for n in range(20)])
            closed = (await service.client.get_backend("fake")).breaker
            assert closed is not None
            assert (closed.state, closed.bad) == ("closed", 0)
            fake.on(lambda _: Script(status=500))
            call = service.client.generate_batch([Prompt(str(n), "x") for n in range(30)])
            async with call:
                results = [await anext(call) for _ in range(20)]
                assert {one.outcome for one in results} == {Outcome.FAILED}
                described = await service.client.get_backend("fake")
                assert described.breaker is not None
                assert (described.breaker.state, described.breaker.opened) == ("open", 1)
                assert len(fake.generations) == 40


async def test_a_slow_probe_is_waited_for() -> None:
    """P33: while a prompt tries a backend nobody is told that there is none, however long its first token takes.

    That the time for it is over shows at a backend that is left alone, where a prompt that came later ends for it.
    """
    gate = asyncio.Event()
    async with FakeBackend() as slow, FakeBackend() as gone:
        slow.script(Script(status=500), Script(before_headers=gate))
        gone.script(Script(status=500))
        described = {
            "slow": backend(slow.url, models=(("slow", "slow"),), breaker_min_samples=1, breaker_open_s=0.05),
            "gone": backend(gone.url, models=(("gone", "gone"),), breaker_min_samples=1, breaker_open_s=60.0),
        }
        async with Service(**described, retry_attempts=1, no_backend_timeout_s=0.2) as service:
            await collect(service.client, [Prompt("slow", "x", model="slow"), Prompt("gone", "x", model="gone")])
            waiting = asyncio.ensure_future(
                collect(service.client, [Prompt(str(n), "x", model="slow") for n in range(10)])
            )
            await slow.wait_for_generations(2)
            (late,) = await collect(service.client, [Prompt("late", "x", model="gone")])
            assert late.error is not None
            assert late.error.reason == "NO_BACKEND"
            described_slow = (await service.client.get_backend("slow")).breaker
            assert described_slow is not None
            assert described_slow.state == "half_open"
            gate.set()
            assert {one.outcome for one in await waiting} == {Outcome.SUCCEEDED}
