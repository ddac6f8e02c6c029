"""The Python client against a scripted service: batches, single prompts, admin, errors, cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from expresslane_client import (
    Accepted,
    BatchState,
    CallError,
    Client,
    DeadlineExceededError,
    Delta,
    Event,
    InputError,
    MessageTooLargeError,
    Prompt,
    RefusedError,
    UnavailableError,
)
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from tests.support.stub_server import NOT_SERVING, Refusal, StubService, serve_stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def client(service: StubService) -> AsyncIterator[Client]:
    """A client of it."""
    async with serve_stub(service) as address, Client(address, metadata={"X-Tenant": "t1"}) as client:
        yield client


async def test_results_come_as_they_finish_and_keep_their_names(client: Client) -> None:
    """Each result carries the custom_id of its prompt, whatever order they come in (A03, A04)."""
    call = client.generate_batch([Prompt(f"p{number}", f"text {number}") for number in range(5)])
    results = [result async for result in call]
    assert [result.custom_id for result in results] == ["p4", "p3", "p2", "p1", "p0"]
    assert all(result.text == f"echo text {result.custom_id[1:]}" for result in results)
    assert (call.summary.state, call.summary.succeeded) == (BatchState.COMPLETED, 5)


async def test_options_reach_the_service(client: Client, service: StubService) -> None:
    """Delivery, failure policy, names, deadline and metadata are what was asked for."""
    call = client.generate_batch(
        ["a", "b"], in_order=True, fail_fast=True, max_failure_rate=0.5, request_id="r", heartbeat_s=2, timeout_s=30
    )
    assert [result.index for result in await call.collect()] == [0, 1]
    config = service.requests[0].config  # type: ignore[attr-defined]
    assert (config.delivery, config.failure_policy, config.max_failure_rate) == (2, 2, 0.5)
    assert (config.request_id, config.heartbeat_interval.seconds, config.stream_deltas) == ("r", 2, False)
    assert service.time_remaining_s is not None
    assert service.time_remaining_s == pytest.approx(30, abs=5)
    assert service.metadata["x-tenant"] == "t1"


async def test_events_and_deltas_go_to_their_callbacks(client: Client) -> None:
    """on_delta turns deltas on by itself; the first event says that the batch was accepted."""
    events: list[Event] = []
    deltas: list[Delta] = []
    await client.generate_batch([Prompt("a", "x")], on_event=events.append, on_delta=deltas.append).collect()
    assert events == [Accepted("made-up", 1)]
    assert [(delta.custom_id, delta.text) for delta in deltas] == [("a", "echo x")]


async def test_a_failed_prompt_is_a_result_not_an_exception(client: Client, service: StubService) -> None:
    """One failure says why and leaves the others alone (A11)."""
    service.failing = {"b"}
    results = {
        result.custom_id: result
        for result in await client.generate_batch([Prompt("a", "x"), Prompt("b", "y")]).collect()
    }
    failed = results["b"]
    error = failed.error
    assert results["a"].ok
    assert error is not None
    assert (error.reason, error.retryable, failed.history[0].message) == ("BACKEND_UNREACHABLE", True, "refused")


async def test_collect_returns_everything_in_request_order(client: Client) -> None:
    """The gather form (A02)."""
    collected = await client.collect_batch(["a", "b", "c"])
    assert [result.text for result in collected.results] == ["echo a", "echo b", "echo c"]
    assert collected.summary.succeeded == 3


async def test_one_prompt_token_by_token(client: Client) -> None:
    """Deltas first, then the result; or only the result."""
    call = client.generate("one two")
    with pytest.raises(RuntimeError, match="after the last delta"):
        _ = call.result
    assert [delta.text async for delta in call] == ["echo", "one two"]
    assert call.result.text == (await client.generate("one two").collect()).text == "echo one two"


async def test_the_summary_comes_last(client: Client) -> None:
    """Asking for it early says when it will be there."""
    call = client.generate_batch(["a"])
    with pytest.raises(RuntimeError, match="after the last result"):
        _ = call.summary
    await call.cancel()


async def test_cancel_ends_the_batch_at_the_service(client: Client, service: StubService) -> None:
    """What has come can still be read, the iteration then ends, and the service sees the cancellation."""
    service.hold_after = 1
    call = client.generate_batch(["a", "b", "c"])
    first = await anext(call)
    await service.held.wait()
    await call.cancel()
    assert first.custom_id == "2"
    assert await call.collect() == []
    assert call.cancelled
    await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_leaving_the_block_cancels(client: Client, service: StubService) -> None:
    """`async with` leaves nothing running behind a break."""
    service.hold_after = 1
    async with client.generate_batch(["a", "b"]) as call:
        await anext(call)
    await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_cancelling_the_task_cancels_the_batch(client: Client, service: StubService) -> None:
    """A cancelled task sees CancelledError, nothing of ours, and the service is told."""
    service.hold_after = 0
    task = asyncio.create_task(client.generate_batch(["a"]).collect())
    await service.held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_a_broken_stream_gives_what_came_first(client: Client, service: StubService) -> None:
    """Results before the break are delivered, then UnavailableError, where the batch is not to be resumed."""
    service.break_after = 1
    call = client.generate_batch(["a", "b"], resume=False)
    assert (await anext(call)).custom_id == "1"
    with pytest.raises(UnavailableError, match="connection broke"):
        await anext(call)


async def test_a_refusal_says_why(client: Client, service: StubService) -> None:
    """Reason, fields and the time to come back, on every kind of call."""
    service.refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "QUEUE_FULL", {"prompts": "too many"}, 7)
    for call in (client.generate_batch(["a"]).collect(), client.generate("a").collect(), client.collect_batch(["a"])):
        with pytest.raises(RefusedError) as caught:
            await call
        assert (caught.value.reason, caught.value.retry_after_s) == ("QUEUE_FULL", 7.0)
        assert caught.value.violations[0].field == "prompts"


async def test_a_status_of_cancelled_is_no_cancelled_task(client: Client, service: StubService) -> None:
    """When the service cancels, the caller's task gets an error and goes on."""
    service.refusal = Refusal(grpc.StatusCode.CANCELLED, "stopping")
    with pytest.raises(CallError, match="CANCELLED"):
        await client.generate_batch(["a"]).collect()


async def test_the_deadline_is_the_calls_own(client: Client, service: StubService) -> None:
    """A service that stays silent past the timeout ends in DeadlineExceededError."""
    service.hold_after = 0
    with pytest.raises(DeadlineExceededError):
        await client.generate_batch(["a"], timeout_s=0.2).collect()


async def test_a_request_that_is_too_large_is_not_sent(service: StubService) -> None:
    """The error names both sizes and the way that has no limit."""
    async with serve_stub(service) as address, Client(address, message_bytes_max=1_000) as client:
        with pytest.raises(MessageTooLargeError, match=r"one message may have 1,000.*stream_prompts"):
            client.generate_batch(["x" * 2_000])
    assert service.requests == []


async def test_the_services_own_limit_is_told_the_same_way(service: StubService) -> None:
    """GRPC's RESOURCE_EXHAUSTED for a large message becomes the same error."""
    async with serve_stub(service) as address, Client(address, message_bytes_max=80 * 1024 * 1024) as client:
        with pytest.raises(MessageTooLargeError, match="stream_prompts"):
            await client.generate_batch(["x" * (65 * 1024 * 1024)]).collect()


async def test_backends_are_listed_over_all_pages(client: Client, service: StubService) -> None:
    """The caller sees one list; names work with and without their prefix."""
    assert [backend.id for backend in await client.list_backends()] == ["hosted", "local"]
    assert (await client.get_backend("local")).notices == ("cap 10 is above the 4 slots",)
    assert (await client.get_backend("backends/local")).discovered_slots == 4
    with pytest.raises(RefusedError, match="there is no backend 'backends/none'"):
        await client.get_backend("none")
    assert len(service.requests) == 5


async def test_only_what_is_given_is_changed(client: Client, service: StubService) -> None:
    """The switch and the cap change one by one (T07); nothing to change is an error."""
    off = await client.update_backend("local", concurrency_enabled=False)
    assert (off.concurrency_enabled, off.cap, off.effective_cap) == (False, 10, 1)
    capped = await client.update_backend("local", cap=4)
    assert (capped.concurrency_enabled, capped.cap) == (False, 4)
    assert list(service.requests[-1].update_mask.paths) == ["cap"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="nothing to change"):
        await client.update_backend("local")


async def test_snapshot_and_drain(client: Client) -> None:
    """Counters arrive as values, classes by name."""
    snapshot = await client.get_snapshot()
    assert (snapshot.queued, snapshot.uptime_ms, dict(snapshot.queued_by_class)) == (7, 90_000.0, {"standard": 7})
    assert (await client.drain()).in_flight == 3


async def test_ready_means_serving(client: Client, service: StubService) -> None:
    """wait_ready returns once the health check says SERVING, else says what it saw."""
    await client.wait_ready(10)
    service.health = NOT_SERVING
    with pytest.raises(UnavailableError, match="last seen: NOT_SERVING"):
        await client.wait_ready(0.3)


async def test_nobody_there() -> None:
    """A wrong address is UnavailableError, from every call and from wait_ready."""
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(UnavailableError):
            await client.get_snapshot()
        with pytest.raises(UnavailableError, match=r"no service is ready at 127\.0\.0\.1:1"):
            await client.wait_ready(0.3)


async def test_the_callers_trace_goes_along(client: Client, service: StubService) -> None:
    """The W3C context of the caller's span is in the metadata."""
    span = TracerProvider().get_tracer("test").start_span("caller")
    with trace.use_span(span, end_on_exit=True):
        await client.get_snapshot()
    identity = span.get_span_context()
    assert str(service.metadata["traceparent"]).startswith(f"00-{identity.trace_id:032x}-{identity.span_id:016x}-")
