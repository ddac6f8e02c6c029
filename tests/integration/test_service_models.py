"""Model names on their way from the caller to the backend that serves them."""

from __future__ import annotations

from expresslane_client import Prompt

from tests.support.fake_backend import FakeBackend
from tests.support.service import Service, backend


def names(fake: FakeBackend) -> set[str]:
    """The model names that a backend was asked for."""
    return {request.json["model"] for request in fake.generations}


async def test_each_backend_is_asked_by_its_own_name() -> None:
    """A model that two backends serve under different names of their own runs on both, each under its name."""
    async with FakeBackend() as one, FakeBackend() as two:
        served = {
            "one": backend(one.url, cap=2, models=(("llama", "org/llama-8b"),)),
            "two": backend(two.url, cap=2, models=(("llama", "llama3:8b"),)),
        }
        async with Service(**served) as service:
            results = [one async for one in service.client.generate_batch([str(number) for number in range(60)])]
            assert all(one.ok for one in results)
            assert {(one.backend, one.model) for one in results} == {
                ("backends/one", "org/llama-8b"),
                ("backends/two", "llama3:8b"),
            }
        assert (names(one), names(two)) == ({"org/llama-8b"}, {"llama3:8b"})


async def test_alias_default_and_wildcard() -> None:
    """An alias and the default reach the model they stand for; names that nobody lists go to the wildcard backend."""
    async with FakeBackend() as engine, FakeBackend() as hosted:
        service = Service(
            engine=backend(engine.url, models=(("llama-8b", "llama-8b"),)),
            hosted=backend(hosted.url, models=(("gpt", "gpt"),)),
            aliases={"fast": "llama-8b"},
            default_model="fast",
            wildcard_backend="hosted",
        )
        async with service:
            prompts = [Prompt("a", "x"), Prompt("b", "x", model="fast"), Prompt("c", "x", model="o-new")]
            results = {one.custom_id: one async for one in service.client.generate_batch(prompts)}
            assert {custom_id: one.backend for custom_id, one in results.items()} == {
                "a": "backends/engine",
                "b": "backends/engine",
                "c": "backends/hosted",
            }
        assert (names(engine), names(hosted)) == ({"llama-8b"}, {"o-new"})


async def test_discovered_models() -> None:
    """A backend without configured models serves those that it lists, and says no to others by name."""
    async with (
        FakeBackend(models=("qwen-7b", "qwen-72b")) as fake,
        Service(fake=backend(fake.url, models=())) as service,
    ):
        prompts = [Prompt("a", "x", model="qwen-7b"), Prompt("b", "x", model="qwen-7"), Prompt("c", "x")]
        results = {one.custom_id: one async for one in service.client.generate_batch(prompts)}
        assert results["a"].ok
        for custom_id in ("b", "c"):
            error = results[custom_id].error
            assert error is not None
            assert (error.code, error.reason) == (5, "UNKNOWN_MODEL")
            assert "qwen-7b" in error.message
        assert names(fake) == {"qwen-7b"}
