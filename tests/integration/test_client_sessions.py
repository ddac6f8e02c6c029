"""Prompt streams of the Python client: credits, flat memory, slow and absent readers, ends of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from expresslane_client import Client, InputError, Prompt, RefusedError, Resume, SessionEndedError, UnavailableError
from expresslane_client.v1 import inference_pb2

from tests.support.resuming import SOON
from tests.support.stub_server import Refusal, StubService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def test_sending_everything_before_reading_anything_does_not_deadlock(
    client: Client, service: StubService
) -> None:
    """Results are taken in while send waits for credits."""
    async with client.stream_prompts() as session:
        for number in range(200):
            await session.send(Prompt(f"p{number}", "x"))
        await session.done_sending()
        results = [result async for result in session]
        assert [result.index for result in results] == list(range(200))
        assert (session.sent, session.accepted, session.summary.succeeded) == (200, 200, 200)
    assert service.unfinished_max <= service.credits


async def test_sending_while_reading_in_one_task(client: Client) -> None:
    """A result may lead to the next prompt."""
    async with client.stream_prompts() as session:
        await session.send("seed")
        count = 0
        async for _ in session:
            count += 1
            if count == 20:
                await session.done_sending()
            elif count < 20:
                await session.send("more")
    assert count == 20


async def test_prompts_are_taken_only_as_fast_as_results_are_read(client: Client) -> None:
    """With a source the session feeds itself; an unread session stops taking prompts (flat memory)."""
    taken = 0

    def source() -> Iterator[Prompt]:
        nonlocal taken
        for number in range(20_000):
            taken += 1
            yield Prompt(f"p{number}", "x")

    async with client.stream_prompts(source()) as session:
        await anext(session)
        while session.sent <= 1_024 or session.accepted < session.sent:  # noqa: ASYNC110 - coming to rest is no event
            await asyncio.sleep(0)
        assert session.sent <= taken < 1_024 + 3 * 64
        await anext(session)


async def test_any_iterable_is_a_source(client: Client) -> None:
    """A list and an async generator give the same results."""

    async def source() -> AsyncIterator[str]:
        for number in range(30):
            yield f"text {number}"

    async with client.stream_prompts(source(), in_order=True) as session:
        lazily = [result.text async for result in session]
    async with client.stream_prompts([f"text {number}" for number in range(30)]) as session:
        assert [result.text async for result in session] == lazily


async def test_a_session_with_a_source_can_be_iterated_without_entering_it(client: Client) -> None:
    """As every other call can: it starts with the loop, and its summary is there after it."""
    async with asyncio.timeout(5):
        session = client.stream_prompts(["a", "b", "c"])
        assert [result.text async for result in session] == ["echo a", "echo b", "echo c"]
        assert session.summary.succeeded == 3
        assert [result async for result in session] == []


async def test_leaving_the_loop_of_a_session_that_was_not_entered_cancels_its_call(
    client: Client, service: StubService
) -> None:
    """Nobody could read on: nothing goes on behind the caller's back."""
    service.hold_after = 1
    async with asyncio.timeout(5):
        session = client.stream_prompts(["a", "b"])
        async for _ in session:
            await service.held.wait()
            break
        await service.cancelled.wait()
        with pytest.raises(SessionEndedError, match="left before"):
            _ = [result async for result in session]


async def test_a_session_begins_once(client: Client, service: StubService) -> None:
    """Its prompts would be sent, and run, twice."""
    session = client.stream_prompts(["a", "b"])
    first, second = aiter(session), aiter(session)
    async with asyncio.timeout(5):
        assert (await anext(first)).text == "echo a"
        with pytest.raises(RuntimeError, match="has begun"):
            await anext(second)
        assert [result.text async for result in first] == ["echo b"]
    assert len(service.prompts) == 2


async def test_a_session_without_a_source_says_that_it_has_to_be_entered(client: Client) -> None:
    """Nothing waits for a session that nobody has started."""
    session = client.stream_prompts()
    async with asyncio.timeout(5):
        for early in (session.send("a"), session.cancel("a"), session.done_sending(), anext(session)):
            with pytest.raises(RuntimeError, match="async with"):
                await early
        async with session:
            await session.send("a")
            await session.done_sending()
            assert [result.text async for result in session] == ["echo a"]


async def test_a_source_that_fails_ends_the_session_with_its_own_error(client: Client) -> None:
    """Whoever reads learns why the prompts stopped."""

    def source() -> Iterator[Prompt]:
        yield Prompt("good", "x")
        raise LookupError("the source is broken")

    async with client.stream_prompts(source()) as session:
        with pytest.raises(LookupError, match="source is broken"):
            [result async for result in session]
    async with client.stream_prompts([Prompt("bad", "\ud800")]) as session:
        with pytest.raises(InputError, match="bad"):
            [result async for result in session]


async def test_cancels_need_no_credit(client: Client, service: StubService) -> None:
    """A cancel goes out at once, whether or not the service grants anything."""
    service.credits = 0
    async with client.stream_prompts() as session:
        await session.cancel("a", "b")
        await session.done_sending()
        assert [result async for result in session] == []
    request = service.requests[-1]
    assert isinstance(request, inference_pb2.StreamPromptsRequest)
    assert list(request.cancel) == ["a", "b"]


async def test_nothing_can_be_sent_after_the_end(client: Client) -> None:
    """After done_sending, and after the service ended the session, send says so."""
    async with client.stream_prompts() as session:
        await session.send("a")
        await session.done_sending()
        with pytest.raises(SessionEndedError):
            await session.send("b")
        assert len([result async for result in session]) == 1
        with pytest.raises(SessionEndedError):
            await session.send("c")
        await session.cancel("a")
        await session.done_sending()


async def test_a_refused_session_tells_reader_and_sender(client: Client, service: StubService) -> None:
    """The refusal is raised wherever the caller waits."""
    service.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "draining", "DRAINING")
    async with client.stream_prompts() as session:
        with pytest.raises(RefusedError, match="draining"):
            await session.send("a")
        with pytest.raises(RefusedError, match="draining"):
            await anext(session)


async def test_a_broken_session_gives_what_came_first(client: Client, service: StubService) -> None:
    """Results before the break are delivered, then UnavailableError, where the session is not to be resumed."""
    service.break_after = 2
    async with client.stream_prompts(["a", "b", "c", "d"], resume=False) as session:
        assert [(await anext(session)).text for _ in range(2)] == ["echo a", "echo b"]
        with pytest.raises(UnavailableError):
            await anext(session)


@pytest.mark.parametrize("resume", [False, SOON], ids=["not resumed", "resumed"])
async def test_between_summary_and_status(client: Client, service: StubService, resume: Resume | bool) -> None:
    """With its summary there a session is over: done_sending and cancel do nothing, send says that it has ended."""
    status_due = asyncio.Event()
    service.session_results, service.last = 2, lambda _: status_due.wait()
    async with client.stream_prompts(resume=resume) as session:
        await session.send("a", "b")
        await service.half_closed.wait()
        with pytest.raises(SessionEndedError):
            await session.send("c")
        await session.cancel("0")
        await session.done_sending()
        with pytest.raises(SessionEndedError):
            await session.send("d")
        status_due.set()
        assert [one.text async for one in session] == ["echo a", "echo b"]
    assert (session.sent, session.summary.total_prompts) == (2, 2)


@pytest.mark.parametrize("resume", [False, SOON], ids=["not resumed", "resumed"])
async def test_a_summary_is_the_last_word(client: Client, service: StubService, resume: Resume | bool) -> None:
    """Whatever becomes of the call after its summary: the session has ended well, and nothing is asked for again."""
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "the connection broke")
    service.session_results, service.last = 2, refusal.abort
    async with client.stream_prompts(resume=resume) as session:
        await session.send("a", "b")
        assert [one.text async for one in session] == ["echo a", "echo b"]
    assert session.summary.total_prompts == 2
    assert len(service.requests) == 1


async def test_leaving_early_cancels_the_rest(client: Client, service: StubService) -> None:
    """Nothing is left running behind the block, at neither end."""
    service.hold_after = 1
    async with client.stream_prompts(["a", "b", "c"]) as session:
        await anext(session)
        await service.held.wait()
    await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_cancelling_one_read_does_not_end_the_session(client: Client, service: StubService) -> None:
    """A timeout around one read leaves results and session intact."""
    async with client.stream_prompts() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(session)
        await session.send("a")
        assert (await anext(session)).text == "echo a"
        await session.done_sending()
    assert len(service.prompts) == 1
