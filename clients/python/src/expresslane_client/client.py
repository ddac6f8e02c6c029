"""The client: one connection to one expresslane service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from expresslane_client.admin_calls import AdminCalls
from expresslane_client.batches import BatchCall
from expresslane_client.channels import check_size, translated_errors
from expresslane_client.collecting import CollectCall
from expresslane_client.events import Progress
from expresslane_client.generations import GenerateCall
from expresslane_client.health import wait_until_serving
from expresslane_client.jobs import Job, job_name
from expresslane_client.options import BatchOptions, batch_config
from expresslane_client.prompts import PromptLike, prompt_message, prompt_messages
from expresslane_client.resuming import OnResume, Resume
from expresslane_client.sessions import Prompts, PromptSession
from expresslane_client.summaries import Summary
from expresslane_client.unfinished import Unfinished
from expresslane_client.units import duration
from expresslane_client.v1 import inference_pb2, jobs_pb2
from expresslane_client.v1.inference_pb2_grpc import InferenceStub
from expresslane_client.v1.jobs_pb2_grpc import JobsStub
from expresslane_client.watches import JobWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from grpc import aio

    from expresslane_client.inbox import OnDelta, OnEvent
    from expresslane_client.results import Result
    from expresslane_client.v1.inference_pb2_grpc import InferenceAsyncStub
    from expresslane_client.v1.jobs_pb2_grpc import JobsAsyncStub

__all__ = ["CancelledBatch", "Client", "Collected"]


@dataclass(frozen=True, slots=True)
class Collected:
    """A whole batch: results in request order, and the summary."""

    results: tuple[Result, ...]
    summary: Summary


@dataclass(frozen=True, slots=True)
class CancelledBatch:
    """A kept batch after it was cancelled; what is in flight is being aborted, and until then there is no summary."""

    progress: Progress
    summary: Summary | None


class Client(AdminCalls):
    """A connection to an expresslane service, for use in `async with`, shared by as many calls at a time as you like.

    `target`: HOST:PORT, or another of gRPC's names (`dns:`, `unix:`); anything else raises InputError.
    `metadata` and the `api_key` go with every call. `tenant`: whose calls they are, where the service authenticates
    nobody; empty: its default. `tls` encrypts the connection and checks the service's certificate: True, or a Tls with
    files; `credentials` are gRPC's own, in its place. `message_bytes_max` is the largest request to send; the service
    has a limit of its own (64 MiB unless configured). `timeout_s` of a call is its gRPC deadline: a little before it,
    what is unfinished comes back as expired. Every call can raise the errors of errors.py.
    """

    @property
    def inference(self) -> InferenceAsyncStub:
        """The generated stub of the Inference service, for what this class does not cover."""
        return InferenceStub(self.channel)

    @property
    def jobs(self) -> JobsAsyncStub:
        """The generated stub of the Jobs service, for what this class does not cover."""
        return JobsStub(self.channel)

    def generate_batch(
        self,
        prompts: Iterable[PromptLike],
        *,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
        on_delta: OnDelta | None = None,
        resume: Resume | bool = True,
        on_resume: OnResume | None = None,
        **options: Unpack[BatchOptions],
    ) -> BatchCall:
        """Run a batch: `async for result in client.generate_batch(prompts)`. Accepted as a whole or refused as a whole.

        When the connection to a service that has accepted the batch breaks, what has no result yet is asked for again,
        by default for two minutes: each prompt gets exactly one result. Not by default where deltas are asked for, as
        the output of unfinished prompts would begin anew.

        Raises InputError or MessageTooLargeError before anything is sent; a refusal is raised by the iteration.
        """
        if on_delta is not None:
            options.setdefault("stream_deltas", True)
        messages = prompt_messages(prompts)
        config = batch_config(**options)
        request = inference_pb2.GenerateBatchRequest(prompts=messages, config=config)
        check_size(request, self._message_bytes_max)

        def ask(
            request: inference_pb2.GenerateBatchRequest, timeout_s: float | None
        ) -> aio.UnaryStreamCall[inference_pb2.GenerateBatchRequest, inference_pb2.GenerateBatchResponse]:
            return self.inference.GenerateBatch(request, timeout=timeout_s, metadata=self._call_metadata())

        return BatchCall(
            ask,
            request,
            Unfinished(messages, config),
            timeout_s=timeout_s,
            resume=_bounds(resume, config),
            on_event=on_event,
            on_delta=on_delta,
            on_resume=on_resume,
        )

    async def collect_batch(
        self,
        prompts: Iterable[PromptLike],
        *,
        timeout_s: float | None = None,
        resume: Resume | bool = True,
        on_resume: OnResume | None = None,
        **options: Unpack[BatchOptions],
    ) -> Collected:
        """Run a batch whose declared answer fits in one message, and return everything at once, in request order.

        After a lost connection what has no result yet is asked for again, under the conditions of generate_batch.
        """
        messages = prompt_messages(prompts)
        config = batch_config(**options)
        request = inference_pb2.GenerateBatchRequest(prompts=messages, config=config)
        check_size(request, self._message_bytes_max)

        def ask(request: inference_pb2.GenerateBatchRequest, timeout_s: float | None) -> CollectCall:
            return CollectCall(self.channel, request, timeout=timeout_s, metadata=self._call_metadata())

        unfinished = Unfinished(messages, config)
        bounds = _bounds(resume)
        call = BatchCall(ask, request, unfinished, timeout_s=timeout_s, resume=bounds, on_resume=on_resume)
        results = sorted(await call.collect(), key=lambda result: result.index)
        return Collected(tuple(results), call.summary)

    def generate(
        self,
        prompt: PromptLike,
        *,
        request_id: str = "",
        keep_s: float | None = None,
        timeout_s: float | None = None,
        resume: Resume | bool = True,
        on_resume: OnResume | None = None,
    ) -> GenerateCall:
        """Answer one prompt token by token: `async for delta in client.generate("Why?")`.

        After a lost connection it is asked for again if no delta has come yet, else the loss is an error.
        With `keep_s` and a `request_id` the service goes on for so long after a lost connection: the same call again
        gets the output from its beginning, without a second generation.
        """
        request = inference_pb2.GenerateRequest(prompt=prompt_message(prompt), request_id=request_id)
        if keep_s is not None:
            request.on_disconnect = inference_pb2.ON_DISCONNECT_KEEP
            request.keep_for.CopyFrom(duration(keep_s))
        check_size(request, self._message_bytes_max)

        def ask(
            timeout_s: float | None,
        ) -> aio.UnaryStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateResponse]:
            return self.inference.Generate(request, timeout=timeout_s, metadata=self._call_metadata())

        return GenerateCall(ask, timeout_s=timeout_s, resume=_bounds(resume), on_resume=on_resume)

    async def cancel_batch(self, request_id: str) -> CancelledBatch:
        """Cancel what is unfinished of a batch that the service keeps (`keep_s`), whether a call is attached or not.

        Its results stay until its time is over or room is needed. Safe to repeat. One that is not kept is refused with
        the reason UNKNOWN_REQUEST: it ends with its call, `await call.cancel()`.
        """
        with translated_errors():
            request = inference_pb2.CancelBatchRequest(request_id=request_id)
            answer = await self.inference.CancelBatch(request, metadata=self._call_metadata())
        summary = Summary.from_proto(answer.summary) if answer.HasField("summary") else None
        return CancelledBatch(Progress.from_proto(answer.progress), summary)

    def stream_prompts(
        self,
        prompts: Iterable[PromptLike] | AsyncIterable[PromptLike] | None = None,
        *,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
        on_delta: OnDelta | None = None,
        resume: Resume | bool = True,
        on_resume: OnResume | None = None,
        **options: Unpack[BatchOptions],
    ) -> PromptSession:
        """Open a prompt stream: `async with client.stream_prompts() as session`, for work of any length.

        With `prompts` (an iterable or async iterable, taken lazily) the session sends them itself as results are read,
        and `async for result in client.stream_prompts(prompts)` is enough; without, RuntimeError outside `async with`.
        After a lost connection what has no result yet is sent again, under the conditions of generate_batch.
        """
        if on_delta is not None:
            options.setdefault("stream_deltas", True)
        source: Prompts | None = prompts
        config = batch_config(**options)

        def ask(
            timeout_s: float | None,
        ) -> aio.StreamStreamCall[inference_pb2.StreamPromptsRequest, inference_pb2.StreamPromptsResponse]:
            return self.inference.StreamPrompts(timeout=timeout_s, metadata=self._call_metadata())

        return PromptSession(
            ask,
            config,
            prompts=source,
            message_bytes_max=self._message_bytes_max,
            timeout_s=timeout_s,
            resume=_bounds(resume, config),
            on_event=on_event,
            on_delta=on_delta,
            on_resume=on_resume,
        )

    async def create_job(
        self, prompts: Iterable[PromptLike], *, job_id: str = "", **options: Unpack[BatchOptions]
    ) -> Job:
        """Submit a batch that runs on without this call; poll or watch it by the name of the job that is returned.

        Jobs live in the service's memory and end with its process. With a `job_id` the call can be repeated safely: a
        job that exists is refused with the reason JOB_EXISTS. Of the options those about delivery do not apply.
        """
        request = jobs_pb2.CreateJobRequest(
            prompts=prompt_messages(prompts), config=batch_config(**options), job_id=job_id
        )
        check_size(request, self._message_bytes_max)
        with translated_errors():
            return Job.from_proto(await self.jobs.CreateJob(request, metadata=self._call_metadata()))

    async def get_job(self, name: str) -> Job:
        """One job, by its name with or without `jobs/`."""
        request = jobs_pb2.GetJobRequest(name=job_name(name))
        with translated_errors():
            return Job.from_proto(await self.jobs.GetJob(request, metadata=self._call_metadata()))

    async def list_jobs(self) -> list[Job]:
        """All jobs, newest first."""
        jobs: list[Job] = []
        token = ""
        while True:
            request = jobs_pb2.ListJobsRequest(page_token=token)
            with translated_errors():
                page = await self.jobs.ListJobs(request, metadata=self._call_metadata())
            jobs += map(Job.from_proto, page.jobs)
            token = page.next_page_token
            if not token:
                return jobs

    def watch_job(
        self,
        name: str,
        after: int = 0,
        *,
        on_event: OnEvent | None = None,
        heartbeat_s: float | None = None,
        resume: Resume | bool = True,
        on_resume: OnResume | None = None,
    ) -> JobWatch:
        """A job's results, those that are there and those that come, without the first `after`; as often as you like.

        `async for result in client.watch_job(name)`. After a lost connection it goes on where it was.
        """
        request = jobs_pb2.WatchJobRequest(name=job_name(name))
        if heartbeat_s is not None:
            request.heartbeat_interval.CopyFrom(duration(heartbeat_s))

        def ask(after: int) -> aio.UnaryStreamCall[jobs_pb2.WatchJobRequest, jobs_pb2.WatchJobResponse]:
            request.after = after
            return self.jobs.WatchJob(request, metadata=self._call_metadata())

        return JobWatch(ask, after, resume=_bounds(resume), on_event=on_event, on_resume=on_resume)

    async def cancel_job(self, name: str) -> Job:
        """Cancel what is unfinished of a job; prompts at a backend end a little later. Returns it as it is then."""
        request = jobs_pb2.CancelJobRequest(name=job_name(name))
        with translated_errors():
            return Job.from_proto(await self.jobs.CancelJob(request, metadata=self._call_metadata()))

    async def delete_job(self, name: str) -> None:
        """Cancel what is unfinished of a job, and forget it with its results."""
        request = jobs_pb2.DeleteJobRequest(name=job_name(name))
        with translated_errors():
            await self.jobs.DeleteJob(request, metadata=self._call_metadata())

    async def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Wait until the service is up and says that it serves. Raises UnavailableError when it does not in time."""
        await wait_until_serving(self.channel, self.target, timeout_s)


def _bounds(resume: Resume | bool, config: inference_pb2.BatchConfig | None = None) -> Resume | None:
    if isinstance(resume, Resume):
        return resume
    safe = config is None or not config.stream_deltas
    return Resume() if resume and safe else None
