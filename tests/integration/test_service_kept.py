"""Calls that come back: KEEP batches survive their connection, the same key attaches, another payload is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from expresslane import server
from expresslane.auth.keys import new_key
from expresslane_client import Client, RefusedError, UnavailableError
from expresslane_client.errors import from_rpc_error
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.fake_backend.adapter import until
from tests.support.relay import Relay
from tests.support.service import Service, backend

KEEP = pb.ON_DISCONNECT_KEEP
FEW = ["quick", "stuck " * 9, "stuck " * 19]


def batch(*texts: str, **config: Any) -> pb.GenerateBatchRequest:
    """A batch to be kept under the request_id `r`."""
    prompts = [types_pb2.Prompt(custom_id=str(number), text=text) for number, text in enumerate(texts)]
    options: dict[str, Any] = {"request_id": "r", "on_disconnect": KEEP} | config
    return pb.GenerateBatchRequest(prompts=prompts, config=pb.BatchConfig(**options))


def gated(gate: asyncio.Event) -> Any:
    """Hold back whatever has `stuck` in it."""

    def decide(request: SeenRequest) -> Script | None:
        return Script(before_headers=gate) if b"stuck" in request.body else None

    return decide


class Heard:
    """What one call of GenerateBatch has brought."""

    def __init__(self, client: Client, request: pb.GenerateBatchRequest) -> None:
        self.call = client.inference.GenerateBatch(request, metadata=client._call_metadata())
        self.accepted = pb.Accepted()
        self.limited: list[pb.RateLimited] = []
        self.ids: list[str] = []
        self.texts: dict[str, str] = {}
        self.outcomes: set[int] = set()
        self.summary: pb.BatchSummary | None = None

    async def hear(self, results: int = 10**9) -> Heard:
        """Read until there are so many results, or to the end."""
        while len(self.ids) < results and self.summary is None:
            await self.read()
        return self

    async def read(self) -> None:
        """Read one message."""
        message = await self.call.read()
        assert isinstance(message, pb.GenerateBatchResponse)
        for event in message.events:
            if event.HasField("accepted"):
                self.accepted = event.accepted
            if event.HasField("rate_limited"):
                self.limited.append(event.rate_limited)
        for delta in message.deltas:
            assert delta.custom_id not in self.ids
            self.texts[delta.custom_id] = self.texts.get(delta.custom_id, "") + delta.text
        self.ids += [one.custom_id for one in message.results]
        self.outcomes |= {one.outcome for one in message.results}
        if message.HasField("summary"):
            self.summary = message.summary


async def refusal(call: Any) -> RefusedError:
    """How a call of a stub is refused."""
    with pytest.raises(aio.AioRpcError) as raised:
        await (call.read() if hasattr(call, "read") else call)
    error = from_rpc_error(raised.value)
    assert isinstance(error, RefusedError)
    return error


async def test_it_survives_its_connection() -> None:
    """A lost connection leaves a KEEP batch alone: the same key gets it from the start, and nothing runs twice."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(gated(gate))
        async with Client(service.address) as caller:
            lost = await Heard(caller, batch(*FEW)).hear(1)
            assert (lost.accepted.request_id, lost.accepted.prompts, lost.accepted.attached) == ("r", 3, False)
        again = Heard(service.client, batch(*FEW))
        await again.hear(1)
        assert again.accepted.attached
        gate.set()
        await again.hear()
        assert (again.ids[0], sorted(again.ids)) == ("0", ["0", "1", "2"])
        assert again.outcomes == {types_pb2.OUTCOME_SUCCEEDED}
        late = await Heard(service.client, batch(*FEW)).hear()
        assert (late.ids, late.summary) == (again.ids, again.summary)
        assert len(fake.generations) == 3
        collected = await service.client.inference.CollectBatch(
            pb.CollectBatchRequest(prompts=batch(*FEW).prompts, config=pb.BatchConfig(request_id="r"))
        )
        assert ([one.custom_id for one in collected.results], collected.summary) == (["0", "1", "2"], late.summary)
        assert len(fake.generations) == 3


async def test_a_caller_that_is_gone_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing comes any more is noticed: the time of the batch runs, and ends it."""
    monkeypatch.setattr(server, "KEEPALIVE_MS", 1_000)
    monkeypatch.setattr(server, "KEEPALIVE_TIMEOUT_MS", 500)
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url)) as service,
        Relay(service.address) as relay,
        Client(relay.address) as caller,
    ):
        fake.on(gated(gate))
        keep_for = Duration(nanos=1_000_000)
        await Heard(caller, batch(*FEW, keep_for=keep_for)).hear(1)
        kept = service.app.kept.find("default", "r")
        assert kept is not None
        assert kept.readers == 1
        await fake.wait_for_generations(3)
        relay.open.clear()
        await asyncio.gather(*[request.cancelled.wait() for request in fake.generations if b"stuck" in request.body])
        assert (kept.readers, kept.forgotten) == (0, True)


async def test_without_keep_it_does_not() -> None:
    """CANCEL is the default: the prompts of a lost call are cancelled, and its request_id is no key."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(gated(gate))
        async with Client(service.address) as caller:
            await Heard(caller, batch(*FEW, on_disconnect=0)).hear(1)
            await fake.wait_for_generations(3)
        await until(lambda: fake.cancelled == 2)
        gate.set()
        again = await Heard(service.client, batch(*FEW, on_disconnect=0)).hear()
        assert not again.accepted.attached
        assert sorted(again.ids) == ["0", "1", "2"]
        assert len(fake.generations) == 6


async def test_another_payload() -> None:
    """Another payload under a kept key is ALREADY_EXISTS, with KEEP and without; nothing of it is run."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        await Heard(service.client, batch("one")).hear()
        for other in (batch("two"), batch("one", "two"), batch("one", failure_policy=2), batch("two", on_disconnect=0)):
            error = await refusal(service.client.inference.GenerateBatch(other))
            assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_EXISTS")
        assert len(fake.generations) == 1
        await Heard(service.client, batch("two", request_id="q")).hear()


async def test_the_key_is_a_tenants_own() -> None:
    """The same request_id of two tenants is two batches: neither gets to the other's, whatever its call says."""
    records = {tenant: new_key() for tenant in ("acme", "globex")}
    tenants = {tenant: {"keys": str(record)} for tenant, (_, record) in records.items()}
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url), tenants=tenants) as service,
        Client(service.address, api_key=records["acme"][0]) as acme,
        Client(service.address, api_key=records["globex"][0], tenant="acme") as globex,
    ):
        fake.on(gated(gate))
        own = await Heard(acme, batch(*FEW)).hear(1)
        other = await Heard(globex, batch(*FEW, on_disconnect=0)).hear(1)
        assert (own.accepted.attached, other.accepted.attached) == (False, False)
        assert service.app.kept.find("globex", "r") is None
        other = await Heard(globex, batch(*FEW)).hear(1)
        assert not other.accepted.attached
        await fake.wait_for_generations(9)
        gate.set()
        again = await Heard(acme, batch(*FEW)).hear()
        assert (again.accepted.attached, sorted(again.ids)) == (True, ["0", "1", "2"])
        assert len(fake.generations) == 9


async def test_a_limit_is_told_to_a_call_that_attaches() -> None:
    """Who comes back while prompts wait for a limit is told of it, though it began to hold before (T15)."""
    tenants = {"default": {"requests_per_min": 1}}
    async with FakeBackend() as fake, Service(fake=backend(fake.url), tenants=tenants) as service:
        async with Client(service.address) as caller:
            await Heard(caller, batch("a", "b")).hear(1)
        again = Heard(service.client, batch("a", "b", delivery=pb.DELIVERY_IN_ORDER))
        while not again.limited:
            await again.read()
        assert again.accepted.attached
        assert [(one.tenant, one.limit) for one in again.limited] == [("default", "requests_per_min")]
        await service.client.update_tenant("default", requests_per_min=0)
        assert sorted((await again.hear()).ids) == ["0", "1"]


async def test_order_and_deltas_are_the_calls_own() -> None:
    """Who attaches chooses order and deltas anew; deltas add up to the text, though the batch was begun without."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        await Heard(service.client, batch("long " * 9, "a", "b")).hear()
        again = Heard(service.client, batch("long " * 9, "a", "b", delivery=pb.DELIVERY_IN_ORDER, stream_deltas=True))
        await again.hear()
        assert again.ids == ["0", "1", "2"]
        assert again.texts == {"0": f"echo {'long ' * 9}", "1": "echo a", "2": "echo b"}


async def test_generate_from_its_beginning() -> None:
    """A token stream that broke is heard again from its first token, without a second generation."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(lambda _: Script(text="one two three", pieces=3, gates={2: gate}))
        request = pb.GenerateRequest(
            prompt=types_pb2.Prompt(text="count"), request_id="g", on_disconnect=KEEP, keep_for=Duration(seconds=60)
        )

        async def heard(client: Client, pieces: int) -> tuple[str, list[pb.Event], pb.GenerateResponse]:
            call, text = client.inference.Generate(request), ""
            events: list[pb.Event] = []
            while True:
                message = await call.read()
                assert isinstance(message, pb.GenerateResponse)
                text += "".join(delta.text for delta in message.deltas)
                events += message.events
                if message.HasField("result") or len(text) >= pieces:
                    return text, events, message

        async with Client(service.address) as caller:
            begun, events, _ = await heard(caller, 1)
            assert (events[0].accepted.request_id, events[0].accepted.attached) == ("g", False)
        gate.set()
        text, events, last = await heard(service.client, 10**9)
        assert events[0].accepted.attached
        assert text == "one two three" == last.result.choices[0].text
        assert text.startswith(begun)
        assert len(fake.generations) == 1


async def test_sessions_cannot_be_kept() -> None:
    """A session with KEEP is refused and says why."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        call = service.client.inference.StreamPrompts()
        await call.write(pb.StreamPromptsRequest(config=pb.BatchConfig(request_id="s", on_disconnect=KEEP)))
        error = await refusal(call)
        assert (error.reason, error.violations[0].field) == ("UNSUPPORTED", "config.on_disconnect")


async def test_full() -> None:
    """At the limit a KEEP batch is RESOURCE_EXHAUSTED with a time; the same batch without KEEP runs."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url), kept_limit=1) as service:
        fake.on(gated(gate))
        first = await Heard(service.client, batch(*FEW)).hear(1)
        error = await refusal(service.client.inference.GenerateBatch(batch("a", request_id="q")))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "KEPT_FULL")
        assert error.retry_after_s is not None
        await Heard(service.client, batch("a", request_id="q", on_disconnect=0)).hear()
        gate.set()
        await first.hear()
        await Heard(service.client, batch("a", request_id="q")).hear()


async def test_cancelled_by_name() -> None:
    """Its owner cancels it: the rest ends CANCELLED in-band, results stay, again is no error; others cannot."""
    records = {tenant: new_key() for tenant in ("acme", "globex")}
    tenants = {tenant: {"keys": str(record)} for tenant, (_, record) in records.items()}
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url, cap=2), tenants=tenants) as service,
        Client(service.address, api_key=records["acme"][0]) as acme,
        Client(service.address, api_key=records["globex"][0], tenant="acme") as globex,
    ):
        fake.on(gated(asyncio.Event()))
        async with Client(service.address, api_key=records["acme"][0]) as lost:
            await Heard(lost, batch(*FEW)).hear(1)
        attached = await Heard(acme, batch(*FEW)).hear(1)
        await fake.wait_for_generations(3)
        with pytest.raises(RefusedError) as raised:
            await globex.cancel_batch("r")
        assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_REQUEST")
        cancelled = await acme.cancel_batch("r")
        assert (cancelled.progress.queued, cancelled.progress.finished + cancelled.progress.in_flight) == (0, 3)
        await attached.hear()
        assert attached.outcomes == {types_pb2.OUTCOME_SUCCEEDED, types_pb2.OUTCOME_CANCELLED}
        assert attached.summary is not None
        assert attached.summary.state == pb.BATCH_STATE_CANCELLED
        await asyncio.gather(*[one.cancelled.wait() for one in fake.generations if b"stuck" in one.body])
        again = await acme.cancel_batch("r")
        assert again.summary is not None
        assert (again.progress.finished, again.summary.succeeded, again.summary.cancelled) == (3, 1, 2)
        late = await Heard(acme, batch(*FEW)).hear()
        assert (late.accepted.attached, late.ids) == (True, attached.ids)
        for request_id, reason in (("never", "UNKNOWN_REQUEST"), ("", "INVALID_FIELD")):
            with pytest.raises(RefusedError) as raised:
                await acme.cancel_batch(request_id)
            assert raised.value.reason == reason
        assert len(fake.generations) == 3


async def test_what_is_not_kept_is_not_found() -> None:
    """A batch without KEEP has no key: it cannot be cancelled by name, and runs on."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(gated(gate))
        running = await Heard(service.client, batch(*FEW, on_disconnect=0)).hear(1)
        with pytest.raises(RefusedError) as raised:
            await service.client.cancel_batch("r")
        assert raised.value.reason == "UNKNOWN_REQUEST"
        gate.set()
        assert (await running.hear()).outcomes == {types_pb2.OUTCOME_SUCCEEDED}


async def test_a_name_of_a_running_batch_can_be_used_again() -> None:
    """Who repeats a call before the service has seen the first one go is served at once, and its end hurts nobody.

    The first call's connection is silent, not closed: the service cannot know that its caller is gone.
    """
    gate = asyncio.Event()
    async with (
        FakeBackend() as fake,
        Service(fake=backend(fake.url)) as service,
        Relay(service.address) as relay,
        Client(relay.address) as gone,
    ):
        fake.on(gated(gate))
        await Heard(gone, batch(*FEW, on_disconnect=0)).hear(1)
        await fake.wait_for_generations(3)
        relay.open.clear()
        again = await Heard(service.client, batch("quick", "stuck again", on_disconnect=0)).hear(1)
        assert not again.accepted.attached
        await fake.wait_for_generations(5)
        await relay.cut()
        await until(lambda: fake.cancelled == 2)
        gate.set()
        await again.hear()
        assert (sorted(again.ids), again.outcomes) == (["0", "1"], {types_pb2.OUTCOME_SUCCEEDED})
        kept = await Heard(service.client, batch("quick")).hear()
        assert (kept.accepted.attached, kept.ids) == (False, ["0"])


async def test_a_draining_service() -> None:
    """A draining service still lets a caller come back to what is kept; it waits for that, and accepts nothing new."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(gated(gate))
        async with Client(service.address) as caller:
            await Heard(caller, batch(*FEW)).hear(1)
        await service.client.drain()
        assert (await refusal(service.client.inference.GenerateBatch(batch("a", request_id="q")))).reason == "DRAINING"
        again = await Heard(service.client, batch(*FEW)).hear(1)
        stopping = asyncio.ensure_future(service.app.stop(30))
        await until(lambda: fake.in_flight == 2)
        gate.set()
        await again.hear()
        assert sorted(again.ids) == ["0", "1", "2"]
        await stopping


async def test_a_dead_service_is_unavailable() -> None:
    """A call that is cut off is UNAVAILABLE to its caller, whether its batch is kept or not."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        fake.on(gated(gate))
        heard = await Heard(service.client, batch(*FEW)).hear(1)
        await service.app.server.stop(0)
        with pytest.raises(aio.AioRpcError) as raised:
            await heard.hear()
        assert isinstance(from_rpc_error(raised.value), UnavailableError)
        gate.set()
