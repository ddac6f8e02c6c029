"""Calls of raw bytes to every RPC of a running service, one after the other, on a loop of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from expresslane.batches.held import Amount
from expresslane.cli.parser import TENANT_LIMITS
from expresslane.errors import Reason, status_code
from expresslane.v1 import admin_pb2, inference_pb2, jobs_pb2
from google.protobuf import message_factory

from tests.support.fake_backend import FakeBackend
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from google.protobuf.descriptor import MethodDescriptor

__all__ = ["DOCUMENTED", "METHODS", "Caller", "Metadata"]

Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"

HANG_S = 20.0
TOKENS_PER_MIN = 900_000
"""Only the limit of one prompt: all of a test do not reach it, and one that asks for more tokens is above it."""
FILES = (inference_pb2, jobs_pb2, admin_pb2)
METHODS: dict[str, MethodDescriptor] = {
    f"{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
DOCUMENTED = {status_code(reason) for reason in Reason} - {grpc.StatusCode.INTERNAL} | {grpc.StatusCode.OK}
"""What a call may end in. INTERNAL is for one prompt's backend, and for defects."""


class Caller:
    """`with Caller() as caller: caller.call(name, [b"..."])`: the service in process, in front of a fake backend.

    With `tenants` it asks for keys; calls that make jobs or change anything are then not for this caller.
    """

    def __init__(self, tenants: Mapping[str, Any] | None = None) -> None:
        self._tenants = dict(tenants or {})
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _open(self) -> None:
        self.fake = await self._stack.enter_async_context(FakeBackend(keep=False))
        settings = {"retry_base_s": 0.001, "queue_limit_prompts": 100, "job_limit": 8, "tenants": self._tenants}
        served = backend(self.fake.url, cap=8, tokens_per_min=TOKENS_PER_MIN)
        self.service = await self._stack.enter_async_context(Service(fake=served, **settings))
        self._channel = self._stack.enter_context(grpc.insecure_channel(self.service.address))

    def call(
        self, name: str, sent: Sequence[bytes], *, cancel_after: int | None = None, metadata: Metadata = ()
    ) -> grpc.StatusCode:
        """Send these messages, read to the end, or cancel after so many responses; fails on a hang or a defect."""
        return self._runner.run(self._call(name, sent, cancel_after, metadata))

    def settle(self) -> None:
        """Wait until nothing of any call is left, jobs cancelled. Fails if something stays."""
        self._runner.run(self._settle())

    def restore(self) -> None:
        """Undo what Admin has changed."""
        self._runner.run(self._restore())

    async def _call(
        self, name: str, sent: Sequence[bytes], cancel_after: int | None, metadata: Metadata
    ) -> grpc.StatusCode:
        began_s = time.monotonic()
        code = await asyncio.to_thread(self._blocking_call, name, sent, cancel_after, metadata)
        assert time.monotonic() - began_s < HANG_S / 2, f"{name} hangs"
        return code

    def _blocking_call(
        self, name: str, sent: Sequence[bytes], cancel_after: int | None, metadata: Metadata
    ) -> grpc.StatusCode:
        """In a thread, with gRPC's blocking client: the other one forgets a status that comes while it still sends."""
        method: Any = self._channel.stream_stream(f"/{name}")
        call = method(iter(sent), timeout=HANG_S, metadata=metadata)
        answer = message_factory.GetMessageClass(METHODS[name].output_type)
        if cancel_after == 0:
            call.cancel()
        accepted: set[str] = set()
        with contextlib.suppress(grpc.RpcError):
            for number, wire in enumerate(call, 1):
                message = answer.FromString(wire)
                check(message)
                if isinstance(message, inference_pb2.StreamPromptsResponse):
                    accepted |= set(message.accepted)
                    accepted -= {result.custom_id for result in message.results}
                    assert not (message.HasField("summary") and accepted), "acknowledged, and no result"
                if number == cancel_after:
                    call.cancel()
        code: grpc.StatusCode = call.code()
        return code

    async def _settle(self) -> None:
        app = self.service.app
        async with asyncio.timeout(HANG_S):
            for job in [] if self._tenants else await self.service.client.list_jobs():
                await self.service.client.delete_job(job.name)
            await until(lambda: app.intake.open_batches == 0)
            await app.dispatcher.settled()
        now = app.scheduling.snapshot()
        ended = now.succeeded + now.failed + now.cancelled + now.expired
        assert (now.queued, now.in_flight, now.submitted) == (0, 0, ended)
        assert app.intake._held.total == Amount()
        assert (app.intake.tenants.unread.results, app.intake.tenants.unread.bytes) == (0, 0)
        await until(lambda: self.fake.in_flight == 0)

    async def _restore(self) -> None:
        app = self.service.app
        client = self.service.client
        await client.update_backend(
            "fake", cap=8, concurrency_enabled=True, requests_per_min=0, tokens_per_min=TOKENS_PER_MIN
        )
        for tenant in app.intake.tenants.known():
            await client.update_tenant(
                tenant.name, weight=1, max_class="interactive", **dict.fromkeys(TENANT_LIMITS, 0)
            )


def check(answer: Any) -> None:
    """No prompt has ended by a defect of the service."""
    results = [*getattr(answer, "results", ())]
    if "result" in answer.DESCRIPTOR.fields_by_name and answer.HasField("result"):
        results.append(answer.result)
    assert all(result.error.reason != Reason.INTERNAL for result in results), results
