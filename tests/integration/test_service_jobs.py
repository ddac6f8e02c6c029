"""Jobs through gRPC and the client: submitted, left, polled, watched from anywhere, cancelled, deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from expresslane_client import (
    BatchState,
    Client,
    JobState,
    MessageTooLargeError,
    Outcome,
    Progress,
    Prompt,
    RefusedError,
)
from expresslane_client.v1.jobs_pb2 import ListJobsRequest, WatchJobRequest

from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.service import Service, backend


def gated(gate: asyncio.Event) -> Any:
    """Hold back whatever has `stuck` in it."""

    def decide(request: SeenRequest) -> Script | None:
        return Script(before_headers=gate) if b"stuck" in request.body else None

    return decide


async def reason(call: Any) -> str:
    """Why a call is refused."""
    with pytest.raises(RefusedError) as raised:
        await call
    return f"{raised.value.code.name} {raised.value.reason}"


async def test_a_job_outlives_its_caller() -> None:
    """A job goes on when the connection that brought it is gone; another polls it and gets everything (A05)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(gated(gate))
        async with Client(service.address) as caller:
            job = await caller.create_job(["quick", "stuck " * 9, "stuck " * 19], request_id="mine", job_id="one")
            assert (job.name, job.id, job.request_id, job.total) == ("jobs/one", "one", "mine", 3)
            assert (job.state, job.running, job.ended, job.summary) == (JobState.RUNNING, True, None, None)
        await fake.wait_for_generations(2)
        job = await service.client.get_job("one")
        assert (job.succeeded, job.in_flight, job.queued, job.finished) == (1, 1, 1, 1)
        gate.set()
        watch = service.client.watch_job("jobs/one")
        results = [one async for one in watch]
        assert [one.outcome for one in results] == [Outcome.SUCCEEDED] * 3
        assert (watch.summary.state, watch.summary.succeeded) == (BatchState.COMPLETED, 3)
        job = await service.client.get_job("one")
        assert (job.state, job.succeeded, job.queued, job.in_flight) == (JobState.COMPLETED, 3, 0, 0)
        assert job.summary == watch.summary
        assert job.ended is not None
        assert job.expires is not None
        assert job.created <= job.ended
        assert job.expires - job.ended == timedelta(hours=1)


async def test_watches_from_anywhere() -> None:
    """Two watches get the same results; one that goes on where another broke off gets just the rest (A05)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(gated(gate))
        await service.client.create_job(["a", "b", "c", "stuck " * 9], job_id="j")
        events: list[object] = []
        whole = service.client.watch_job("j", on_event=events.append)
        async with service.client.watch_job("j") as broken:
            seen = [await anext(broken), await anext(broken)]
            assert broken.position == 2
            with pytest.raises(RuntimeError, match="no summary yet"):
                _ = broken.summary
        rest = service.client.watch_job("j", after=broken.position)
        third = await anext(rest)
        gate.set()
        results = [one async for one in whole]
        assert [*seen, third, *[one async for one in rest]] == results
        assert (rest.position, rest.summary) == (4, whole.summary)
        assert isinstance(events[0], Progress)
        nothing = service.client.watch_job("j", after=4)
        assert [one async for one in nothing] == []
        assert nothing.summary == whole.summary


async def test_many_results_come_in_few_messages() -> None:
    """A finished job of thousands of results is read whole, in order, without a message for each (A05, A16)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=50)) as service:
        job = await service.client.create_job([str(number) for number in range(3_000)])
        results = [one async for one in service.client.watch_job(job.name)]
        assert sorted(one.index for one in results) == list(range(3_000))
        again = service.client.jobs.WatchJob(WatchJobRequest(name=job.name))
        messages = [message async for message in again]
        assert len(messages) < 20
        assert [one.position for one in messages] == sorted(one.position for one in messages)
        assert messages[-1].position == 3_000
        assert messages[-1].HasField("summary")


async def test_cancel_and_delete() -> None:
    """Cancelling ends in-band what is unfinished, twice is once; a deleted job is unknown and its name free (A05)."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        client = service.client
        fake.on(gated(gate))
        await client.create_job(["quick", "stuck " * 9, "stuck " * 19], job_id="j")
        await fake.wait_for_generations(2)
        await client.cancel_job("j")
        watch = client.watch_job("j")
        assert [one.outcome async for one in watch] == [Outcome.SUCCEEDED] + [Outcome.CANCELLED] * 2
        assert watch.summary.state is BatchState.CANCELLED
        job = await client.cancel_job("j")
        assert (job.state, job.cancelled, job.succeeded) == (JobState.CANCELLED, 2, 1)
        await fake.generations[1].cancelled.wait()
        await client.delete_job("j")
        assert await reason(client.get_job("j")) == "NOT_FOUND UNKNOWN_JOB"
        assert await reason(client.delete_job("j")) == "NOT_FOUND UNKNOWN_JOB"
        assert await reason(client.cancel_job("j")) == "NOT_FOUND UNKNOWN_JOB"
        assert await reason(anext(client.watch_job("j"))) == "NOT_FOUND UNKNOWN_JOB"
        await client.create_job(["again"], job_id="j")


async def test_refusals() -> None:
    """What cannot be a job is refused before any work, with its own reason (A05, A07)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), job_limit=2) as service:
        client = service.client
        await client.create_job(["a"], job_id="j")
        assert await reason(client.create_job(["a"], job_id="j")) == "ALREADY_EXISTS JOB_EXISTS"
        for wrong in ("UPPER", "-a", "a/b", "a" * 64, "a\n"):
            assert await reason(client.create_job(["a"], job_id=wrong)) == "INVALID_ARGUMENT INVALID_FIELD"
        assert await reason(client.create_job([])) == "INVALID_ARGUMENT EMPTY_BATCH"
        twice = [Prompt("same", "a"), Prompt("same", "b")]
        assert await reason(client.create_job(twice)) == "INVALID_ARGUMENT DUPLICATE_CUSTOM_ID"
        assert await reason(anext(client.watch_job("j", after=2))) == "INVALID_ARGUMENT INVALID_FIELD"
        assert await reason(anext(client.watch_job("j", after=-1))) == "INVALID_ARGUMENT INVALID_FIELD"
        assert await reason(anext(client.watch_job("j", heartbeat_s=0.1))) == "INVALID_ARGUMENT INVALID_FIELD"
        with pytest.raises(RefusedError) as raised:
            [await client.create_job(["a"]) for _ in range(2)]
        assert (raised.value.code.name, raised.value.reason) == ("RESOURCE_EXHAUSTED", "JOBS_FULL")
        assert raised.value.retry_after_s
        async with Client(service.address, message_bytes_max=1_000) as small:
            with pytest.raises(MessageTooLargeError):
                await small.create_job(["x" * 2_000])
        await client.drain()
        await client.delete_job("j")
        assert await reason(client.create_job(["a"])) == "UNAVAILABLE DRAINING"


async def test_pages() -> None:
    """Jobs are listed newest first, in pages; a page token or size that is none is refused (A05)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        names = [(await service.client.create_job(["a"])).name for _ in range(5)]
        assert [job.name for job in await service.client.list_jobs()] == names[::-1]
        first = await service.client.jobs.ListJobs(ListJobsRequest(page_size=3))
        rest = await service.client.jobs.ListJobs(ListJobsRequest(page_size=3, page_token=first.next_page_token))
        assert [job.name for job in (*first.jobs, *rest.jobs)] == names[::-1]
        assert (len(first.jobs), rest.next_page_token) == (3, "")
        for wrong in (
            ListJobsRequest(page_size=-1),
            ListJobsRequest(page_size=1_001),
            ListJobsRequest(page_token="x"),
        ):
            with pytest.raises(Exception, match="page_"):
                await service.client.jobs.ListJobs(wrong)


async def test_options_of_a_job() -> None:
    """FAIL_FAST holds for a job, options about delivery do nothing, and its call's deadline is not its own (A05)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.script(Script(status=400))
        options: Any = {"in_order": True, "stream_deltas": True, "fail_fast": True}
        job = await service.client.create_job(["a", "b " * 9], **options)
        watch = service.client.watch_job(job.name)
        assert [one.outcome async for one in watch] == [Outcome.FAILED, Outcome.CANCELLED]
        assert watch.summary.state is BatchState.FAILED_FAST
        assert (await service.client.get_job(job.name)).state is JobState.FAILED_FAST


async def test_a_stopping_service_tells_the_watches() -> None:
    """What a stopping service cannot finish of a job ends CANCELLED, and a watch gets it and the summary (A05, T12)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(gated(asyncio.Event()))
        job = await service.client.create_job(["quick", "stuck " * 9])
        watch = service.client.watch_job(job.name)
        assert (await anext(watch)).ok
        stopping = asyncio.ensure_future(service.app.stop(0))
        rest = [one async for one in watch]
        assert [one.error and one.error.reason for one in rest] == ["DRAINING"]
        assert watch.summary.state is BatchState.CANCELLED
        await stopping


async def test_a_stopping_service_waits_for_watches() -> None:
    """A watch that reads slowly gets everything within the grace, though the job itself has long ended (A05, T12)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=4)) as service:
        fake.on(lambda _: Script(text="y" * 200_000, pieces=1))
        job = await service.client.create_job([str(number) for number in range(100)])
        async with Client(service.address) as slow:
            call: Any = slow.jobs.WatchJob(WatchJobRequest(name=job.name))
            messages = [await call.read()]
            while (await service.client.get_job(job.name)).running:
                pass
            stopping = asyncio.ensure_future(service.app.stop(30))
            for _ in range(50):  # a server that is being stopped takes no further calls
                assert (await service.client.get_job(job.name)).finished == 100
            assert not stopping.done()
            while not messages[-1].HasField("summary"):
                messages.append(await call.read())
            assert sum(len(message.results) for message in messages) == 100
        await stopping
