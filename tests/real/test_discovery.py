"""The service finds out by itself what a llama-server can do."""

import pytest

from tests.support.service import Service

from .asking import engine_backend, prompt
from .llama_server import LlamaServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def test_slots_and_models_are_discovered(llama_server: LlamaServer) -> None:
    """With a URL and nothing else, the cap is the engine's slots and its own list gives the models (T06, P32)."""
    async with Service(engine=engine_backend(llama_server.url)) as service:
        (backend,) = await service.client.list_backends()
        assert (backend.name, backend.kind, backend.available) == ("backends/engine", "llamacpp", True)
        assert backend.discovered_slots == backend.cap == backend.effective_cap == llama_server.slots_total
        assert backend.can_run_concurrently
        assert backend.concurrency_enabled
        assert backend.lanes
        assert [model.model for model in backend.models] == [llama_server.model]
        assert not backend.notices
        named, unnamed = [prompt(name, 30, salt="discovery ") for name in ("named", "unnamed")]
        collected = await service.client.collect_batch([unnamed, named])
        assert [result.model for result in collected.results if result.ok] == [llama_server.model] * 2


async def test_a_cap_above_the_slots_is_pointed_out(llama_server: LlamaServer) -> None:
    """A configured cap wins over the slots, and a notice says what that costs (T06, O11)."""
    async with Service(engine=engine_backend(llama_server.url, cap=9)) as service:
        backend = await service.client.get_backend("engine")
        assert (backend.cap, backend.discovered_slots) == (9, llama_server.slots_total)
        assert "above the 4 parallel slots" in backend.notices[0]


async def test_an_unknown_model_fails_alone(llama_server: LlamaServer) -> None:
    """A prompt for a model that the engine does not list fails with NOT_FOUND, and its neighbour succeeds."""
    async with Service(engine=engine_backend(llama_server.url)) as service:
        prompts = [prompt("bad", 30, model="tinny"), prompt("good", 30, model=llama_server.model)]
        bad, good = (await service.client.collect_batch(prompts)).results
        assert bad.error is not None
        assert (bad.error.code, bad.error.reason, bad.attempts) == (5, "UNKNOWN_MODEL", 0)
        assert llama_server.model in bad.error.message
        assert good.ok
