"""Caps, order and connections as the backend saw them."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from expresslane_client import Outcome, Prompt, PromptClass

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.service import Service, backend


def size(request: SeenRequest) -> int:
    """Length of the prompt's text."""
    return len(request.json["messages"][-1]["content"])


@pytest.mark.parametrize("cap", [1, 3, 10])
async def test_the_cap_is_never_exceeded(cap: int) -> None:
    """However many prompts, failures and retries, no more than the cap reach the backend at once (A06, G01)."""
    chance = random.Random(7)
    async with FakeBackend() as fake:
        fake.on(lambda _: Script(status=503) if chance.random() < 0.2 else Script(pieces=2))
        service = Service(fake=backend(fake.url, cap=cap), retry_base_s=0.001, retry_attempts=10)
        async with service:
            results = [one async for one in service.client.generate_batch([f"p{n}" for n in range(150)])]
            assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
            (described,) = await service.client.list_backends()
            assert (described.in_flight, described.peak_in_flight) == (0, cap)
        assert fake.peak <= cap
        assert fake.connections <= cap + 1


async def test_default_cap() -> None:
    """An OpenAI-compatible API that says nothing of itself gets 10 requests at once (A06, T01)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda _: Script(before_headers=gate))
        call = service.client.generate_batch([str(number) for number in range(30)])
        waiting = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(10)
        snapshot = await service.client.get_snapshot()
        assert (snapshot.in_flight, snapshot.queued) == (10, 20)
        gate.set()
        await waiting
        assert len([one async for one in call]) == 29
        assert fake.peak == 10


async def test_short_prompts_before_long_ones() -> None:
    """On one slot, waiting prompts are sent by length, the short before the long, whatever their order (G07)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.script(Script(before_headers=gate))
        first = service.client.generate_batch(["first"])
        waiting = asyncio.ensure_future(anext(first))
        await fake.wait_for_generations(1)
        sizes = [400 * 3**number for number in range(6)]
        shuffled = random.Random(3).sample(sizes, len(sizes))
        call = service.client.generate_batch(["x" * length for length in shuffled])
        second = asyncio.ensure_future(anext(call))
        while (await service.client.get_snapshot()).queued < len(sizes):
            pass
        gate.set()
        await waiting
        await second
        assert len([one async for one in call]) == len(sizes) - 1
        assert [size(request) for request in fake.generations[1:]] == sizes


async def test_classes_go_first() -> None:
    """An interactive prompt is sent before standard ones, those before batch ones, even when it is longer."""
    gate = asyncio.Event()
    classes = [PromptClass.BATCH, PromptClass.STANDARD, PromptClass.INTERACTIVE]
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.script(Script(before_headers=gate))
        first = service.client.generate_batch(["first"])
        waiting = asyncio.ensure_future(anext(first))
        await fake.wait_for_generations(1)
        prompts = [Prompt(one, "x" * 10 ** (n + 1), prompt_class=one) for n, one in enumerate(classes)]
        call = service.client.generate_batch(prompts)
        second = asyncio.ensure_future(anext(call))
        while (await service.client.get_snapshot()).queued < len(prompts):
            pass
        gate.set()
        await waiting
        await second
        assert len([one async for one in call]) == 2
        assert [size(request) for request in fake.generations[1:]] == [1_000, 100, 10]


async def test_two_models_do_not_block_each_other() -> None:
    """With one model's cap used up on a backend, another model's prompts pass (O05)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake:
        served = backend(fake.url, cap=4, models=(("big", "big"), ("small", "small")), model_caps={"big": 1})
        async with Service(fake=served) as service:
            fake.on(lambda request: Script(before_headers=gate) if request.json["model"] == "big" else None)
            stuck = service.client.generate_batch([Prompt(f"b{n}", "x", model="big") for n in range(5)])
            waiting = asyncio.ensure_future(anext(stuck))
            await fake.wait_for_generations(1)
            call = service.client.generate_batch([Prompt(f"s{n}", "x", model="small") for n in range(20)])
            results = [one async for one in call]
            assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
            assert sum(request.json["model"] == "big" for request in fake.generations) == 1
            gate.set()
            await waiting
            assert len([one async for one in stuck]) == 4


async def test_models_in_memory_take_turns() -> None:
    """A backend that holds one model sees runs of each, 32 prompts in a turn, however they came (O06)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake:
        served = backend(fake.url, cap=1, models=(("a", "a"), ("b", "b")), max_loaded_models=1)
        async with Service(fake=served) as service:
            fake.script(Script(before_headers=gate))
            first = service.client.generate_batch([Prompt("first", "x", model="a")])
            waiting = asyncio.ensure_future(anext(first))
            await fake.wait_for_generations(1)
            prompts = [Prompt(f"p{n}", "x", model="ab"[n % 2]) for n in range(80)]
            call = service.client.generate_batch(prompts)
            second = asyncio.ensure_future(anext(call))
            while (await service.client.get_snapshot()).queued < len(prompts):
                pass
            gate.set()
            await waiting
            await second
            assert len([one async for one in call]) == len(prompts) - 1
    seen = [request.json["model"] for request in fake.generations]
    assert [(model, len(list(run))) for model, run in itertools.groupby(seen)] == [
        ("a", 32),
        ("b", 32),
        ("a", 9),
        ("b", 8),
    ]


async def test_prompts_go_where_their_model_is_in_memory() -> None:
    """Two backends that hold one of two models each: one load each, and the rest goes where its model is (O06)."""
    models = (("a", "a"), ("b", "b"))
    async with FakeBackend() as left, FakeBackend() as right:
        left_settings, right_settings = (
            backend(fake.url, models=models, max_loaded_models=1) for fake in (left, right)
        )
        async with Service(left=left_settings, right=right_settings) as service:
            for number in range(40):
                async for one in service.client.generate_batch([Prompt("p", "x", model="ab"[number % 2])]):
                    assert one.outcome is Outcome.SUCCEEDED
            described = await service.client.list_backends()
    assert [[request.json["model"] for request in fake.generations] for fake in (left, right)] == [
        ["a"] * 20,
        ["b"] * 20,
    ]
    assert [(one.max_loaded_models, one.model_loads) for one in described] == [(1, 1), (1, 1)]
    in_memory = [[model.model for model in one.models if model.loaded] for one in described]
    assert in_memory == [["a"], ["b"]]
    assert all(one.estimates.load_s > 0 for one in described)


async def test_two_clients_at_once() -> None:
    """Two callers' batches run side by side, and each gets its own results (O01)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:

        async def caller(name: str) -> list[str]:
            call = service.client.generate_batch([Prompt(str(number), f"{name} {number}") for number in range(100)])
            return [one.text async for one in call]

        first, second = await asyncio.gather(caller("anna"), caller("ben"))
        assert sorted(first) == sorted(f"echo anna {number}" for number in range(100))
        assert sorted(second) == sorted(f"echo ben {number}" for number in range(100))
        assert fake.peak <= 10


async def test_ollama_is_sequential_by_default() -> None:
    """A server of the Ollama kind gets one request at a time unless told otherwise (O03)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, "ollama")) as service:
        results = [one async for one in service.client.generate_batch([str(number) for number in range(20)])]
        assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
        assert fake.peak == 1


async def test_llama_server_gets_as_many_as_it_has_slots() -> None:
    """A llama-server's slots are its cap, discovered (P32)."""
    async with FakeBackend(slots=3, models=("m",)) as fake:
        async with Service(fake=backend(fake.url, "llamacpp", models=())) as service:
            results = [one async for one in service.client.generate_batch([str(number) for number in range(20)])]
            assert {one.outcome for one in results} == {Outcome.SUCCEEDED}
            assert (await service.client.get_backend("fake")).discovered_slots == 3
        assert fake.peak == 3


async def test_connections_are_reused() -> None:
    """Two hundred prompts on a cap of 5 open no more than 5 connections, and later batches use them again (A08)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=5)) as service:
        for _ in range(2):
            assert len([one async for one in service.client.generate_batch([str(n) for n in range(200)])]) == 200
        used = {request.connection for request in fake.generations}
        assert len(used) <= 5
        assert len(fake.generations) == 400


async def test_global_cap() -> None:
    """The cap over all backends holds beside their own (A06, P36)."""
    gate = asyncio.Event()
    async with FakeBackend() as one, FakeBackend() as two:
        both = {"one": backend(one.url, cap=10), "two": backend(two.url, cap=10)}
        async with Service(**both, in_flight_limit=3) as service:
            for fake in (one, two):
                fake.on(lambda _: Script(before_headers=gate))
            call = service.client.generate_batch([str(number) for number in range(20)])
            waiting = asyncio.ensure_future(anext(call))
            while (await service.client.get_snapshot()).in_flight < 3:
                pass
            assert len(one.generations) + len(two.generations) <= 3
            gate.set()
            await waiting
            assert len([result async for result in call]) == 19
            assert one.peak + two.peak <= 6
            assert (await service.client.get_snapshot()).succeeded == 20


async def test_a_raised_limit_lets_in_what_was_too_large_for_it() -> None:
    """What waits for another backend, because it is above one's whole limit, goes there once that is raised (T11)."""
    gate = asyncio.Event()
    async with (
        FakeBackend() as small,
        FakeBackend() as busy,
        Service(small=backend(small.url, tokens_per_min=1_000), busy=backend(busy.url, cap=1)) as service,
    ):
        busy.on(lambda _: Script(before_headers=gate))
        prompts = [Prompt(str(number), "x", max_tokens=2_000) for number in range(2)]
        results = asyncio.ensure_future(service.client.collect_batch(prompts))
        await busy.wait_for_generations(1)
        assert (await service.client.get_snapshot()).queued == 1
        await service.client.update_backend("small", tokens_per_min=3_000)
        await small.wait_for_generations(1)
        gate.set()
        assert [(one.ok, one.backend) for one in (await results).results] == [
            (True, "backends/busy"),
            (True, "backends/small"),
        ]
