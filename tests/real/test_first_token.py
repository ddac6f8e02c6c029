"""The first token is the first content: not headers, pings, progress events or the chunk that only names a role."""

import pytest

from tests.support.service import Service

from .asking import engine_backend, prompt
from .proxy import RecordingProxy

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

LONG_TOKENS = 1_800


async def test_time_to_first_token_is_time_to_content(proxy: RecordingProxy) -> None:
    """TTFT ends no sooner than the first content went by, however many events without content came before (G04)."""
    one = prompt("one", LONG_TOKENS, salt="ttft ", extra={"return_progress": True})
    async with Service(engine=engine_backend(proxy.url)) as service:
        (result,) = (await service.client.collect_batch([one])).results
    (seen,) = proxy.generations
    assert seen.silent_events >= 3, "the engine told no progress"
    assert seen.opened_ns < seen.headers_ns < seen.content_ns < seen.ended_ns
    assert result.attempt_ttft_ms is not None
    assert result.attempt_ms is not None
    content_ms = (seen.content_ns - seen.opened_ns) / 1e6
    headers_ms = (seen.headers_ns - seen.opened_ns) / 1e6
    assert headers_ms < content_ms <= result.attempt_ttft_ms <= result.attempt_ms


@pytest.mark.parametrize("extra", ["", '{"return_progress": true}'])
async def test_the_lane_is_held_until_content(proxy: RecordingProxy, extra: str) -> None:
    """Headers and progress of a long prefill do not free its lane; its first content does (G04)."""
    prompts = [prompt(f"{index}", LONG_TOKENS, salt=f"held {extra} ", extra=extra) for index in range(2)]
    backend = engine_backend(proxy.url, long_threshold_tokens=1_024)
    async with Service(engine=backend) as service:
        call = service.client.generate_batch(prompts)
        await proxy.until(lambda: bool(proxy.generations and proxy.generations[0].headers_ns))
        first = proxy.generations[0]
        state = await service.client.get_backend("engine")
        assert not first.content_ns, "the prefill was over too soon to prove anything"
        assert (state.long_in_prefill, state.in_flight, len(proxy.generations)) == (1, 1, 1)
        await call.collect()
    second = proxy.generations[1]
    assert first.headers_ns < first.content_ns < second.opened_ns
    assert (first.silent_events > 2) == bool(extra)
