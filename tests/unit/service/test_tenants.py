"""Tenants: what holds for each, how they share, and that names cost no memory for good."""

from __future__ import annotations

from expresslane.batches.batch import BatchOptions
from expresslane.batches.held import Bounds
from expresslane.errors import Reason
from expresslane.prompts import Deadlines, PromptClass
from expresslane.results import Outcome
from expresslane.retries import RetryPolicy
from expresslane.settings import TenantDefaults, TenantSettings
from expresslane.tenants import IDLE_MAX, Tenants

from tests.support.virtual_time import virtual_time
from tests.unit.service.test_retries import failing
from tests.unit.service.world import ScriptedBackend, World, drain, prompt, second


def test_what_a_tenant_does_not_set_is_left_to_the_defaults() -> None:
    """Each field by itself; a tenant that nobody configured has the defaults alone."""
    configured = {"a": TenantSettings(weight=3), "b": TenantSettings(max_class="batch")}
    tenants = Tenants(configured, TenantDefaults(weight=2, max_class="standard"))
    held = {name: (tenants.find(name).weight, tenants.find(name).max_class) for name in ("a", "b", "c")}
    assert held == {"a": (3, PromptClass.STANDARD), "b": (2, PromptClass.BATCH), "c": (2, PromptClass.STANDARD)}


def test_bounds_of_the_queue_are_a_tenants_own() -> None:
    """Prompts and bytes each by itself; 0 lifts the default for one tenant."""
    configured = {"a": TenantSettings(queue_limit_prompts=5), "b": TenantSettings(queue_limit_bytes=0)}
    tenants = Tenants(configured, TenantDefaults(queue_limit_prompts=7, queue_limit_bytes=100))
    bounds = {name: tenants.find(name).queue_bounds for name in ("a", "b", "c")}
    assert bounds == {"a": Bounds(5, 100), "b": Bounds(7, 0), "c": Bounds(7, 100)}


def test_a_bound_is_named_by_what_sets_it() -> None:
    """Whoever wants to raise it has to find it: the tenant's own variable, or that of the defaults."""
    tenants = Tenants({"a-b": TenantSettings(queue_limit_prompts=5)}, TenantDefaults(queue_limit_bytes=100))
    assert tenants.variable_of("a-b", "queue_limit_prompts") == "EXPRESSLANE_TENANTS__A_B__QUEUE_LIMIT_PROMPTS"
    assert tenants.variable_of("a-b", "queue_limit_bytes") == "EXPRESSLANE_TENANT_DEFAULTS__QUEUE_LIMIT_BYTES"
    assert tenants.variable_of("new", "queue_limit_prompts") == "EXPRESSLANE_TENANT_DEFAULTS__QUEUE_LIMIT_PROMPTS"


def test_a_million_names_are_not_remembered() -> None:
    """Whoever invents names makes the service remember a bounded number of them; who has work is not forgotten."""
    tenants = Tenants()
    busy = tenants.enter("busy")
    for number in range(IDLE_MAX + 1_000):
        tenants.leave(tenants.enter(f"made-up-{number}"))
    known = tenants.known()
    assert len(known) == IDLE_MAX + 1
    assert tenants.find("busy") is busy
    assert tenants.by_number(busy.number) is busy
    assert len({one.number for one in known}) == len(known)


def test_a_number_is_not_given_again_at_once() -> None:
    """A new tenant does not inherit what the core remembers of one that was forgotten."""
    tenants = Tenants()
    numbers = []
    for number in range(2 * IDLE_MAX):
        tenants.leave(tenant := tenants.enter(f"t{number}"))
        numbers.append(tenant.number)
    assert len(set(numbers)) == len(numbers)


@virtual_time
async def test_tenants_share_by_weight() -> None:
    """Of two tenants with equal work waiting, the one with three times the weight gets three times as much (O01)."""
    backend = ScriptedBackend(default=second(1), default_cap=1)
    async with World(backend, tenants={"big": TenantSettings(weight=3)}) as world:
        batches = [
            world.submit([prompt(f"{tenant}{number}", "x" * 40_000) for number in range(60)], tenant=tenant)
            for tenant in ("small", "big")
        ]
        await drain(world, batches[1], 45)
        big = sum(name.startswith("big") for name in backend.asked[:60])
        assert 42 <= big <= 48
        for batch in batches:
            world.intake.close(batch)


@virtual_time
async def test_a_batch_that_is_refused_leaves_no_tenant_behind() -> None:
    """Every way a batch can end gives its tenant's place back, once."""
    async with World(ScriptedBackend()) as world:
        batch = world.intake.open(BatchOptions("r", tenant="t"), method="Test", prompts=1)
        assert world.intake.tenants.find("t").open == 1
        for _ in range(2):
            world.intake.close(batch)
        assert world.intake.tenants.find("t").open == 0


@virtual_time
async def test_sequential_prompts_are_barriers() -> None:
    """A sequential prompt starts when all earlier ones have ended; later ones wait for its end (T17)."""
    backend = ScriptedBackend(default=second(1))
    async with World(backend) as world:
        first = [prompt(f"a{number}") for number in range(4)]
        last = [prompt(f"c{number}") for number in range(4)]
        results, summary = await world.run([*first, prompt("b", sequential=True), *last])
        assert [result.custom_id[0] for result in results] == ["a"] * 4 + ["b"] + ["c"] * 4
        assert summary.wall_ns == 3 * 10**9
        assert backend.peak == 4


@virtual_time
async def test_deadlines_for_the_first_token_order_what_waits() -> None:
    """Under edf the prompt whose first token is wanted first goes first; those without a target go last (T04)."""
    backend = ScriptedBackend(default=second(1), default_cap=1)
    async with World(backend, policy="edf") as world:
        targets = {"later": 50, "none": 0, "soon": 5, "then": 20}
        prompts = [prompt(name, deadlines=Deadlines(ttft_target_ns=target * 10**9)) for name, target in targets.items()]
        await world.run([prompt("first", deadlines=Deadlines(ttft_target_ns=1)), *prompts])
        assert backend.asked == ["first", "soon", "then", "later", "none"]


@virtual_time
async def test_a_tenants_retries_have_a_budget() -> None:
    """Beside a burst of ten, a fifth of the first attempts may be repeated; a refusal is told (A22, P36)."""
    backend = ScriptedBackend(default=failing(Reason.BACKEND_ERROR, http_status=500))
    retries = RetryPolicy(attempts=3, base_s=0.5, cap_s=30)
    async with World(backend, settings={"breaker_error_ratio": 0.0}, retries=retries, retry_ratio=0.2) as world:
        results, _ = await world.run([prompt(str(number)) for number in range(100)])
        assert {result.outcome for result in results} == {Outcome.FAILED}
        snapshot = world.scheduling.snapshot()
        assert snapshot.retried <= 10 + 20
        assert snapshot.retries_denied >= 70
        told = [one for one in results if one.error and "retry budget is used up" in one.error.message]
        assert len(told) == snapshot.retries_denied


@virtual_time
async def test_a_breaker_is_opened_by_backends_not_by_callers() -> None:
    """Prompts that set short deadlines themselves say nothing against the backend; the configured time-outs do."""
    backend = ScriptedBackend(default=second(10_000))
    retries = RetryPolicy(attempts=1, base_s=0.5, cap_s=30)
    async with World(backend, retries=retries, settings={"attempt_timeout_s": 60.0}) as world:
        hurried = Deadlines(attempt_ns=10**9)
        await world.run([prompt(str(number), deadlines=hurried) for number in range(40)])
        (described,) = world.scheduling.snapshot().backends
        assert described.breaker is not None
        assert (described.breaker.state, described.breaker.bad) == ("closed", 0)
    backend = ScriptedBackend(default=second(10_000), default_cap=20)
    async with World(backend, retries=retries, settings={"attempt_timeout_s": 60.0}) as world:
        batch = world.submit([prompt(str(number)) for number in range(20)])
        await drain(world, batch)
        (described,) = world.scheduling.snapshot().backends
        assert described.breaker is not None
        assert described.breaker.state == "open"
        world.intake.close(batch)
