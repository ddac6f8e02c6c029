"""The scheduler's laws end to end: what the backends' own logs and the callers' own results say of a running service.

Random scenarios come from a seed, which is part of a test's name: `pytest -k "name and 3"` repeats one.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from expresslane_client import Client, Outcome, Prompt, PromptClass, Result
from expresslane_client.v1 import inference_pb2, types_pb2

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.fake_backend.echo import prompt_of
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import Sequence

SEEDS = range(4)
ATTEMPTS = 3
RANKS = {PromptClass.INTERACTIVE: 0, PromptClass.STANDARD: 1, PromptClass.BATCH: 2}


def name_of(request: SeenRequest) -> str:
    """The first word of a prompt: which one it is."""
    return prompt_of(request.json).split(" ")[0]


def sends(fakes: Sequence[FakeBackend]) -> Counter[str]:
    """How often each prompt was sent, over all backends."""
    return Counter(name_of(request) for fake in fakes for request in fake.generations)


def faults(chance: random.Random) -> Script:
    """Mostly an answer; else something that is tried again, or something that is not.

    No connection is cut before the first byte: within an attempt such a request is sent once more, on a new connection.
    """
    kind = chance.random()
    if kind < 0.10:
        return Script(status=503)
    if kind < 0.15:
        return Script(status=429, headers={"Retry-After-Ms": "1"})
    if kind < 0.20:
        return Script(cut_after=chance.choice([0, 1]))
    if kind < 0.25:
        return Script(status=400)
    return Script(pieces=chance.randint(1, 4))


def mixed(prefix: str, count: int, chance: random.Random, models: Sequence[str] = ("m",)) -> list[Prompt]:
    """Prompts of all sizes and classes; their text begins with their name."""
    return [
        Prompt(
            f"{prefix}{number}",
            f"{prefix}{number} " + "x" * int(4 * 10 ** chance.uniform(0, 3.5)),
            model=chance.choice(models),
            prompt_class=chance.choice(list(RANKS)),
        )
        for number in range(count)
    ]


async def blocked(service: Service, fake: FakeBackend, gate: asyncio.Event) -> asyncio.Future[Result]:
    """A prompt that keeps the backend's only slot until the gate opens; all that is sent now has to wait."""
    fake.script(Script(before_headers=gate))
    call = service.client.generate_batch([Prompt("blocker", "blocker")])
    waiting = asyncio.ensure_future(anext(call))
    await fake.wait_for_generations(1)
    return waiting


async def queued(service: Service, count: int) -> None:
    """Return once that many prompts wait."""
    while (await service.client.get_snapshot()).queued < count:
        pass


@pytest.mark.parametrize("seed", SEEDS)
async def test_caps_results_and_sends(seed: int) -> None:
    """Whatever fails, no cap is exceeded, each prompt has one result and was sent as often as that says (A06, G01).

    A backend that says when to come back has not tried: such an answer is a send, but none of the attempts allowed.
    """
    chance = random.Random(seed)
    caps = [chance.randint(1, 5) for _ in range(2)]
    async with FakeBackend() as one, FakeBackend() as two:
        fakes = [one, two]
        put_off: Counter[str] = Counter()

        def decide(request: SeenRequest) -> Script:
            script = faults(chance)
            put_off[name_of(request)] += script.status == 429
            return script

        for fake in fakes:
            fake.on(decide)
        backends = {f"b{n}": backend(fake.url, cap=cap) for n, (fake, cap) in enumerate(zip(fakes, caps, strict=True))}
        async with Service(**backends, retry_attempts=ATTEMPTS, retry_base_s=0.001) as service:
            batches = [mixed(f"{prefix}-", chance.randint(1, 80), chance) for prefix in "abcd"]

            async def caller(prompts: list[Prompt]) -> list[Result]:
                return [result async for result in service.client.generate_batch(prompts)]

            async def leaver(prompts: list[Prompt]) -> None:
                call = service.client.generate_batch(prompts)
                await anext(call)
                await call.cancel()

            leaving = asyncio.create_task(leaver(mixed("gone-", 60, chance)))
            answers = await asyncio.gather(*map(caller, batches))
            await leaving
            await asyncio.wait_for(service.app.scheduling.idle(), 10)
            now = await service.client.get_snapshot()
            ended = now.succeeded + now.failed + now.cancelled + now.expired
            assert (now.submitted, now.queued, now.in_flight) == (ended, 0, 0)
        counted = sends(fakes)
        for prompts, results in zip(batches, answers, strict=True):
            assert sorted(result.custom_id for result in results) == sorted(prompt.custom_id for prompt in prompts)
            for result in results:
                assert counted[result.custom_id] == result.attempts + result.turned_away
        assert max((counted - put_off).values()) <= ATTEMPTS
        assert all(fake.peak <= cap for fake, cap in zip(fakes, caps, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_cap_that_shrinks(seed: int) -> None:
    """After a cap has shrunk nothing is sent until fewer are in flight than it allows (A07)."""
    chance = random.Random(seed)
    cap, smaller = chance.randint(4, 8), chance.randint(1, 3)
    gates = {f"p{number}": asyncio.Event() for number in range(30)}
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=cap), policy="fcfs") as service:
        fake.on(lambda request: Script(before_headers=gates[name_of(request)]))
        call = service.client.generate_batch([Prompt(name, name) for name in gates])
        reading = asyncio.ensure_future(anext(call))
        await fake.wait_for_generations(cap)
        await service.client.update_backend("fake", cap=smaller)
        held = [name_of(request) for request in fake.generations]
        for done, name in enumerate(held[: cap - smaller], 1):
            gates[name].set()
            while (await service.client.get_snapshot()).succeeded < done:
                pass
            assert len(fake.generations) == cap
        fake.peak = 0
        for gate in gates.values():
            gate.set()
        await reading
        assert len([result async for result in call]) == len(gates) - 1
        assert fake.peak <= smaller


@pytest.mark.parametrize("seed", SEEDS)
async def test_lanes(seed: int) -> None:
    """One long prompt at a time is in prefill, and no more short ones than their budget holds (G02)."""
    chance = random.Random(seed)
    longs, shorts = chance.randint(2, 5), chance.randint(20, 40)
    size, budget = chance.choice([1_900, 3_900, 7_900]), 4_096
    short_gate, ends = asyncio.Event(), asyncio.Event()
    firsts = {f"long{number}": asyncio.Event() for number in range(longs)}
    prompts = [Prompt(name, f"{name} " + "x" * 80_000) for name in firsts]
    prompts += [Prompt(f"short{number}", f"short{number} " + "x" * size) for number in range(shorts)]
    chance.shuffle(prompts)

    def decide(request: SeenRequest) -> Script:
        # Piece 1 is the first text.
        name = name_of(request)
        return Script(gates={1: firsts[name], 2: ends}) if name in firsts else Script(gates={1: short_gate})

    async with FakeBackend() as fake:
        fake.on(decide)
        lanes = backend(fake.url, cap=64, lanes=True, long_slots=1, short_budget_tokens=budget)
        async with Service(fake=lanes) as service:
            call = service.client.generate_batch(prompts)
            reading = asyncio.ensure_future(anext(call))
            while not (now := await service.client.get_snapshot()).in_flight:
                pass
            sent = [name_of(request) for request in await fake.wait_for_generations(now.in_flight)]
            assert sum(name in firsts for name in sent) == 1
            in_prefill = len(sent) - 1
            assert in_prefill * size / 4 <= budget < (in_prefill + 1) * size / 4 * 1.2
            short_gate.set()
            await fake.wait_for_generations(shorts + 1)
            for count in range(1, longs + 1):
                seen = await fake.wait_for_generations(shorts + count)
                order = [name_of(request) for request in seen if name_of(request) in firsts]
                assert len(order) == count
                firsts[order[-1]].set()
            ends.set()
            results = [await reading] + [result async for result in call]
            assert {result.outcome for result in results} == {Outcome.SUCCEEDED}


@pytest.mark.parametrize("seed", SEEDS)
async def test_class_order_at_the_backend(seed: int) -> None:
    """On one slot what waits is sent class by class, strictly."""
    chance = random.Random(seed)
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        waiting = await blocked(service, fake, gate)
        batches = [mixed(f"{prefix}-", chance.randint(1, 20), chance) for prefix in "abc"]
        calls = [service.client.generate_batch(prompts) for prompts in batches]
        reading = [asyncio.ensure_future(anext(call)) for call in calls]
        await queued(service, sum(map(len, batches)))
        gate.set()
        await asyncio.gather(waiting, *reading)
        for call in calls:
            assert all([result.ok async for result in call])
        rank = {
            prompt.custom_id: RANKS[prompt.prompt_class or PromptClass.STANDARD] for each in batches for prompt in each
        }
        ranks = [rank[name_of(request)] for request in fake.generations[1:]]
        assert ranks == sorted(ranks)


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_head_of_line_blocking(seed: int) -> None:
    """A backend that answers nothing, and a model at its cap, keep back none but their own prompts (O05)."""
    chance = random.Random(seed)
    stuck = asyncio.Event()
    async with FakeBackend() as dead, FakeBackend() as busy, FakeBackend() as good:
        dead.on(lambda _: Script(before_headers=stuck))
        busy.on(lambda request: Script(before_headers=stuck) if request.json["model"] == "full" else None)
        backends = {
            "dead": backend(dead.url, cap=2, models=(("lost", "lost"),)),
            "busy": backend(busy.url, cap=4, models=(("full", "full"), ("free", "free")), model_caps={"full": 1}),
            "good": backend(good.url, cap=3, models=(("fine", "fine"),)),
        }
        async with Service(**backends) as service:
            first = [
                Prompt(
                    f"s{number}",
                    f"s{number} x",
                    model=chance.choice(["lost", "full"]),
                    prompt_class=PromptClass.INTERACTIVE,
                )
                for number in range(40)
            ]
            held = service.client.generate_batch(first)
            holding = asyncio.ensure_future(anext(held))
            await dead.wait_for_generations(2)
            await busy.wait_for_generations(1)
            others = mixed("o", 60, chance, ["free", "fine"])
            results = [result async for result in service.client.generate_batch(others)]
            assert {result.outcome for result in results} == {Outcome.SUCCEEDED}
            assert (len(dead.generations), sum(one.json["model"] == "full" for one in busy.generations)) == (2, 1)
            stuck.set()
            await holding
            assert all([result.ok async for result in held])


async def test_a_retry_waits_off_slot_and_keeps_its_place() -> None:
    """While a prompt backs off its slot is another's; then it goes before all that came after it (A18, T15)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake:
        served = backend(fake.url, cap=1)
        async with Service(fake=served, policy="fcfs", retry_base_s=0.02, retry_jitter="none") as service:
            fake.script(Script(status=503), Script(before_headers=gate))
            call = service.client.generate_batch([Prompt(f"p{number}", f"p{number}") for number in range(6)])
            reading = asyncio.ensure_future(anext(call))
            await fake.wait_for_generations(2)
            while (await service.client.get_snapshot()).retry_waiting:
                pass
            now = await service.client.get_snapshot()
            assert (now.in_flight, now.queued, now.retried) == (1, 5, 1)
            gate.set()
            results = [await reading] + [result async for result in call]
        assert [name_of(request) for request in fake.generations] == ["p0", "p1", "p0", "p2", "p3", "p4", "p5"]
        assert {result.custom_id: result.attempts for result in results} == {"p0": 2} | {
            f"p{n}": 1 for n in range(1, 6)
        }


@pytest.mark.parametrize("ratio", [0.1, 0.5])
async def test_retries_stay_within_their_budget(ratio: float) -> None:
    """When all fails, at most ten and a ratio of what was sent at first is sent again; who is refused that is told."""
    count = 100
    async with FakeBackend() as fake:
        fake.on(lambda _: Script(status=503))
        served = backend(fake.url, cap=8, breaker_error_ratio=0)
        async with Service(fake=served, retry_ratio=ratio, retry_base_s=0.001) as service:
            prompts = [Prompt(f"p{number}", f"p{number} x") for number in range(count)]
            results = [result async for result in service.client.generate_batch(prompts)]
        assert {result.outcome for result in results} == {Outcome.FAILED}
        again = len(fake.generations) - count
        assert again == sum(result.attempts for result in results) - count
        # Each prompt wants two: nearly all of the budget is used. What was earned while it was full is lost.
        assert max(10, 0.8 * ratio * count) <= again <= 10 + ratio * count
        told = [result for result in results if result.error and "retry budget" in result.error.message]
        assert told
        assert all(result.attempts < ATTEMPTS for result in told)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_stop_ends_everything(seed: int) -> None:
    """A service that stops tells every accepted prompt's one end, be it in flight, waiting or backing off (T12)."""
    chance = random.Random(seed)
    async with FakeBackend() as fake:
        scripts = [
            Script(status=503),
            Script(before_headers=asyncio.Event()),
            Script(gates={2: asyncio.Event()}),
            Script(),
        ]
        fake.on(lambda _: chance.choice(scripts))
        served = backend(fake.url, cap=chance.randint(1, 6))
        async with Service(fake=served, retry_base_s=30.0, retry_jitter="none") as service:
            batches = [mixed(f"{prefix}-", chance.randint(1, 40), chance) for prefix in "abc"]
            calls = [service.client.generate_batch(prompts, resume=False) for prompts in batches]

            async def read(call: Any) -> list[Result]:
                return [result async for result in call]

            reading = asyncio.gather(*map(read, calls))
            while (await service.client.get_snapshot()).submitted < sum(map(len, batches)):
                pass
            await service.app.stop(0.05)
            for prompts, results in zip(batches, await reading, strict=True):
                assert sorted(result.custom_id for result in results) == sorted(prompt.custom_id for prompt in prompts)
        counted = sends([fake])
        assert all(count <= ATTEMPTS for count in counted.values())


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_slow_reader_stalls_only_itself(seed: int) -> None:
    """Results that nobody reads hold their own batch, however many others run beside it (A16)."""
    chance = random.Random(seed)
    cap, limit = chance.randint(1, 4), chance.randint(2, 8)
    prompts = [types_pb2.Prompt(custom_id=f"slow{number}", text=f"slow{number} x") for number in range(120)]
    async with FakeBackend() as fake:
        fake.on(lambda request: Script(text="y" * 200_000, pieces=1) if b"slow" in request.body else None)
        service = Service(fake=backend(fake.url, cap=cap), outbox_limit_results=limit)
        async with service, Client(service.address) as slow:
            call: Any = slow.inference.GenerateBatch(inference_pb2.GenerateBatchRequest(prompts=prompts))
            message = await call.read()
            seen = [result.custom_id for result in message.results]
            while True:
                now = await service.client.get_snapshot()
                if now.queued and not now.in_flight:
                    break
            others = [mixed(f"{prefix}-", chance.randint(5, 40), chance) for prefix in "abc"]
            gathered = await asyncio.gather(*map(service.client.collect_batch, others))
            assert all(result.ok for collected in gathered for result in collected.results)
            assert (await service.client.get_snapshot()).queued > 0
            while not (message := await call.read()).HasField("summary"):
                seen += [result.custom_id for result in message.results]
            assert sorted(seen) == sorted(prompt.custom_id for prompt in prompts)
        assert fake.peak <= cap
