"""The adapter of llama-server, against a scripted server and recorded traffic of a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003 (pytest reads the annotations of fixtures)
from pathlib import Path

import orjson
import pytest
from expresslane.errors import Reason
from expresslane.prompts import Sampling
from expresslane.results import FinishReason, Usage

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import Asker, opened

RECORDED = Path(__file__).parents[1] / "fixtures" / "llamacpp"
EXCHANGES = orjson.loads((RECORDED / "exchanges.json").read_bytes())["exchanges"]


def recorded(name: str) -> Script:
    """What the real server answered, byte for byte."""
    exchange = EXCHANGES[name]
    headers = {"Content-Type": exchange["headers"]["Content-Type"]}
    data = (RECORDED / name).read_bytes()
    if name.endswith(".sse"):
        # Cut at odd places: the network does so too.
        return Script(wire=[data[at : at + 97] for at in range(0, len(data), 97)], headers=headers)
    return Script(status=exchange["status"], body=data, headers=headers)


@pytest.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    """A server."""
    async with FakeBackend() as server:
        yield server


@pytest.fixture
async def asker(fake: FakeBackend) -> AsyncIterator[Asker]:
    """A streaming adapter."""
    async with opened(fake.url, "llamacpp") as opened_asker:
        yield opened_asker


NOT_HERE = Script(status=501, body=b'{"error":{"code":501,"message":"disabled","type":"not_supported_error"}}')


@pytest.mark.parametrize(
    ("paths", "slots"),
    [
        ({}, 4),
        ({"/props": NOT_HERE}, 4),
        ({"/props": Script(body=b"{}")}, 4),
        ({"/props": Script(body=b'{"total_slots":7}')}, 7),
        ({"/props": NOT_HERE, "/slots": NOT_HERE}, 0),
        ({"/props": Script(status=401, body=b"{}"), "/slots": Script(body=b"<html>")}, 0),
    ],
)
async def test_slots(fake: FakeBackend, asker: Asker, paths: dict[str, Script], slots: int) -> None:
    """T06, P32: the slots come from /props, else from /slots, else they are unknown."""
    fake.paths.update(paths)
    found = await asker.backend.discover()
    assert (found.models, found.slots) == (("fake-model",), slots)


async def test_discovery_of_a_loading_server(fake: FakeBackend, asker: Asker) -> None:
    """P32: a server that still loads its model is overloaded, not one without slots."""
    loading = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
    fake.paths["/props"] = Script(status=503, body=loading)
    with pytest.raises(Exception, match="Loading model") as raised:
        await asker.backend.discover()
    assert getattr(raised.value, "reason", None) is Reason.BACKEND_OVERLOADED


async def test_recorded_discovery(fake: FakeBackend, asker: Asker) -> None:
    """P32: the real server's model and slots are found in what it sent."""
    fake.paths.update(
        {"/v1/models": recorded("models.json"), "/props": Script(body=(RECORDED / "props.json").read_bytes())}
    )
    found = await asker.backend.discover()
    assert (found.models, found.slots) == (("tiny",), 2)
    fake.paths.update({"/props": NOT_HERE, "/slots": recorded("slots_idle.json")})
    assert (await asker.backend.discover()).slots == 2


STREAMS: dict[str, tuple[str, Usage | None]] = {
    "chat_usage.sse": ("+cAa", Usage(19, 18, 4)),
    "chat_no_usage.sse": ("+cAa", None),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_recorded_stream(fake: FakeBackend, asker: Asker, name: str) -> None:
    """A stream of the real server gives its text, its counts (if any) and its finish reason."""
    text, usage = STREAMS[name]
    fake.script(recorded(name))
    answer = await asker.ask()
    assert (answer.text, answer.usage, answer.finish_reason) == (text, usage, FinishReason.LENGTH)


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name.endswith(".sse") and name != "native.sse"])
async def test_recorded_stream_is_complete(fake: FakeBackend, asker: Asker, name: str) -> None:
    """Every recorded stream, with pings, progress and held-back text, is read to its end."""
    fake.script(recorded(name))
    answer = await asker.ask(raw=name.startswith("completions"))
    assert answer.text
    assert answer.finish_reason in {FinishReason.STOP, FinishReason.LENGTH}


async def test_connection_is_closed_after_a_stream(fake: FakeBackend, asker: Asker) -> None:
    """P32: no request goes out on a connection that llama-server closes after its stream; whole answers keep theirs."""
    fake.on(lambda _: Script(close_after=True))
    for _ in range(3):
        await asker.ask()
    assert [seen.connection for seen in fake.generations] == [0, 1, 2]
    fake.on(lambda _: None)
    async with opened(fake.url, "llamacpp", streaming=False) as whole:
        for _ in range(3):
            await whole.ask()
    assert fake.connections == 4


@pytest.mark.parametrize("name", ["chat.json", "chat_cached.json", "completions.json", "unknown_model.json"])
async def test_recorded_body(fake: FakeBackend, name: str) -> None:
    """A whole answer of the real server gives its text, counts and finish reason."""
    fake.script(recorded(name))
    async with opened(fake.url, "llamacpp", streaming=False) as asker:
        answer = await asker.ask(raw=name.startswith("completions"))
    usage = orjson.loads((RECORDED / name).read_bytes())["usage"]
    assert answer.text
    assert answer.usage == Usage(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], 4)
    assert answer.finish_reason is FinishReason.LENGTH


async def test_recorded_logprobs(fake: FakeBackend) -> None:
    """The real server's log probabilities are passed on."""
    fake.script(recorded("chat_logprobs.json"))
    async with opened(fake.url, "llamacpp", streaming=False) as asker:
        answer = await asker.ask(sampling=Sampling(logprobs=True, top_logprobs=2))
    assert [entry["token"] for entry in orjson.loads(answer.logprobs_json)["content"]] == ["+", "c"]


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name.startswith("error_")])
async def test_recorded_refusal(fake: FakeBackend, asker: Asker, name: str) -> None:
    """A12: every refusal of the real server keeps its status, its type and its words."""
    said = orjson.loads((RECORDED / name).read_bytes())["error"]
    fake.script(recorded(name))
    error = await asker.fail()
    assert (error.http_status, error.provider_code) == (EXCHANGES[name]["status"], said["type"])
    assert said["message"][:100] in error.message
    assert error.reason is (Reason.BACKEND_ERROR if error.http_status == 500 else Reason.BACKEND_REJECTED)
