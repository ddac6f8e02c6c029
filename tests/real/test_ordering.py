"""Short prompts overtake long ones that were queued before them, at a real engine's door."""

from statistics import median

import pytest
from expresslane_client import Result

from tests.support.service import Service

from .asking import engine_backend, prompt
from .proxy import RecordingProxy

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

LONG, SHORT = 4, 10


async def run_long_first(proxy: RecordingProxy, policy: str) -> list[Result]:
    """A batch whose long prompts come first, two at a time; results in the order they came."""
    salt = f"order {policy} "
    prompts = [prompt(f"long-{index}", 900, salt=salt, output_tokens=40) for index in range(LONG)]
    prompts += [prompt(f"short-{index}", 40 + 4 * index, salt=salt, output_tokens=4) for index in range(SHORT)]
    async with Service(engine=engine_backend(proxy.url, cap=2), policy=policy) as service:
        return await service.client.generate_batch(prompts).collect()


def short_ttft_ms(results: list[Result]) -> float:
    """Median time to first token of the short prompts, queue wait included."""
    return median(result.ttft_ms or 0.0 for result in results if result.custom_id.startswith("short"))


async def test_short_prompts_overtake_long_ones(proxy: RecordingProxy) -> None:
    """By default every short prompt is released and answered before any long one; by fcfs, after them (G07)."""
    by_default = await run_long_first(proxy, "hrrn")
    released = [one.tokens for one in proxy.generations]
    assert max(released[:SHORT]) < min(released[SHORT:])
    assert [result.custom_id[:4] for result in by_default] == ["shor"] * SHORT + ["long"] * LONG
    by_arrival = await run_long_first(proxy, "fcfs")
    released = [one.tokens for one in proxy.generations[SHORT + LONG :]]
    assert min(released[:LONG]) > max(released[LONG:])
    assert by_arrival[0].custom_id.startswith("long")
    assert short_ttft_ms(by_default) < short_ttft_ms(by_arrival)


async def test_late_short_prompts_overtake_a_queue(proxy: RecordingProxy) -> None:
    """Short prompts of a second caller go before the first caller's waiting long ones, one at a time (G07)."""
    long = [prompt(f"long-{index}", 900, salt="late ") for index in range(LONG)]
    short = [prompt(f"short-{index}", 40, salt="late ", output_tokens=4) for index in range(SHORT)]
    async with Service(engine=engine_backend(proxy.url, concurrency=False)) as service:
        first = service.client.generate_batch(long)
        await proxy.until(lambda: len(proxy.generations) == 1)
        await service.client.collect_batch(short)
        await first.collect()
        assert first.summary.succeeded == LONG
    released = ["long" if one.tokens > 500 else "short" for one in proxy.generations]
    assert released == ["long"] + ["short"] * SHORT + ["long"] * (LONG - 1)


@pytest.mark.parametrize("policy", ["sjf", "sjf-aged", "ljf"])
async def test_every_policy_orders_a_real_queue(proxy: RecordingProxy, policy: str) -> None:
    """One at a time, the shortest-first policies release by rising length and ljf by falling length (G07)."""
    sizes = [500, 60, 250, 120, 30]
    prompts = [prompt(str(size), size, salt=f"{policy} ", output_tokens=2) for size in sizes]
    async with Service(engine=engine_backend(proxy.url, cap=1), policy=policy) as service:
        await service.client.collect_batch(prompts)
    assert [one.tokens for one in proxy.generations] == sorted(sizes, reverse=policy == "ljf")
