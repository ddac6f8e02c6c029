"""The Admin service: what the backends do, and the switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expresslane import __version__
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import RefusedError
from expresslane.servicers.encode import duration
from expresslane.servicers.status import abort, invalid
from expresslane.settings import MAX_CAP
from expresslane.v1 import admin_pb2 as pb
from expresslane.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane._scheduler import BackendSnapshot
    from expresslane.fleet import Fleet, Member
    from expresslane.intake import Intake
    from expresslane.scheduling import Scheduling

__all__ = ["AdminServicer"]

PREFIX = "backends/"
PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
MUTABLE = ("concurrency_enabled", "cap")
_CLASSES = (
    types_pb2.PROMPT_CLASS_INTERACTIVE,
    types_pb2.PROMPT_CLASS_STANDARD,
    types_pb2.PROMPT_CLASS_BATCH,
)


class AdminServicer:
    """Serves expresslane.v1.Admin. `drain()` is called when the service shall accept nothing more."""

    def __init__(
        self,
        fleet: Fleet,
        scheduling: Scheduling,
        intake: Intake,
        drain: Callable[[], object],
        *,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._fleet = fleet
        self._scheduling = scheduling
        self._intake = intake
        self._drain = drain
        self._clock = clock
        self._started_ns = clock()

    async def ListBackends(self, request: pb.ListBackendsRequest, context: Any) -> pb.ListBackendsResponse:  # noqa: N802
        """A page of backends, ordered by name."""
        if not 0 <= request.page_size <= MAX_PAGE_SIZE:
            await abort(context, invalid("page_size", f"0 to {MAX_PAGE_SIZE:,}"))
        after = request.page_token
        members = [member for member in self._fleet.members if member.id > after]
        page = members[: request.page_size or PAGE_SIZE]
        more = page[-1].id if len(members) > len(page) else ""
        return pb.ListBackendsResponse(backends=self._describe(page), next_page_token=more)

    async def GetBackend(self, request: pb.GetBackendRequest, context: Any) -> pb.Backend:  # noqa: N802
        """One backend."""
        try:
            return self._describe([self._find(request.name, "name")])[0]
        except RefusedError as refusal:
            await abort(context, refusal)

    async def UpdateBackend(self, request: pb.UpdateBackendRequest, context: Any) -> pb.Backend:  # noqa: N802
        """Turn the concurrency switch or change the cap; all of it or nothing."""
        try:
            member = self._find(request.backend.name, "backend.name")
            self._update(member, request)
        except RefusedError as refusal:
            await abort(context, refusal)
        return self._describe([member])[0]

    def _update(self, member: Member, request: pb.UpdateBackendRequest) -> None:
        paths = list(request.update_mask.paths)
        if not paths:
            raise invalid("update_mask", f"required: any of {', '.join(MUTABLE)}")
        if unknown := [path for path in paths if path not in MUTABLE]:
            raise invalid("update_mask", f"{unknown[0][:60]!r} cannot be changed; {', '.join(MUTABLE)} can")
        cap = request.backend.cap
        if "cap" in paths and not 1 <= cap <= MAX_CAP:
            raise invalid("backend.cap", f"{cap} is out of range: 1 to {MAX_CAP:,}")
        if "concurrency_enabled" in paths:
            enabled = request.backend.concurrency_enabled
            self._fleet.check_concurrency(member, enabled=enabled, with_cap="cap" in paths)
        if "cap" in paths:
            self._fleet.set_cap(member, cap)
        if "concurrency_enabled" in paths:
            self._fleet.set_concurrency(member, enabled=enabled)

    async def GetSnapshot(self, _: pb.GetSnapshotRequest, context: Any) -> pb.Snapshot:  # noqa: ARG002, N802
        """Queue depths and counters."""
        now = self._scheduling.snapshot()
        registry = self._fleet.registry
        return pb.Snapshot(
            version=__version__,
            uptime=duration(self._clock() - self._started_ns),
            policy=now.policy,
            draining=self._intake.draining,
            queue_limit=now.queue_limit,
            in_flight_limit=now.in_flight_limit,
            queued=now.queued,
            retry_waiting=now.retry_waiting,
            in_flight=now.in_flight,
            queued_tokens=now.queued_tokens,
            queued_by_class=[
                pb.ClassDepth(**{"class": prompt_class, "queued": queued})
                for prompt_class, queued in zip(_CLASSES, now.queued_by_class, strict=True)
            ],
            queued_by_model={registry.name(model): queued for model, queued in now.queued_by_model},
            submitted=now.submitted,
            succeeded=now.succeeded,
            failed=now.failed,
            cancelled=now.cancelled,
            expired=now.expired,
            retried=now.retried,
            refused=now.refused,
            drain_rate_per_s=now.drain_rate_per_s,
            open_batches=self._intake.open_batches,
            backends=self._describe(self._fleet.members),
        )

    async def Drain(self, _: pb.DrainRequest, context: Any) -> pb.DrainResponse:  # noqa: ARG002, N802
        """Stop accepting work; what was accepted goes on."""
        self._drain()
        now = self._scheduling.snapshot()
        return pb.DrainResponse(queued=now.queued, in_flight=now.in_flight)

    def _find(self, name: str, field: str) -> Member:
        if not name.startswith(PREFIX):
            raise invalid(field, f"{name[:60]!r} is not of the form {PREFIX}ID")
        return self._fleet.get(name.removeprefix(PREFIX))

    def _describe(self, members: list[Member]) -> list[pb.Backend]:
        counted = {backend.backend: backend for backend in self._scheduling.snapshot().backends}
        uptime_ns = self._clock() - self._started_ns
        return [_backend(member, counted[member.number], self._fleet, uptime_ns) for member in members]


def _backend(member: Member, counted: BackendSnapshot, fleet: Fleet, uptime_ns: int) -> pb.Backend:
    settings = member.settings
    in_flight = {fleet.registry.name(model): count for model, count in counted.in_flight_by_model}
    return pb.Backend(
        name=PREFIX + member.id,
        kind=settings.kind,
        url=member.public_url,
        models=[
            pb.BackendModel(
                model=model, backend_model=own, cap=settings.model_caps.get(model, 0), in_flight=in_flight.get(model, 0)
            )
            for model, own in sorted(member.models.items())
        ],
        can_run_concurrently=member.can_run_concurrently,
        concurrency_enabled=member.enabled and member.can_run_concurrently,
        cap=member.cap,
        effective_cap=member.effective_cap,
        discovered_slots=member.slots,
        in_flight=counted.in_flight,
        peak_in_flight=counted.peak_in_flight,
        mean_in_flight=counted.slot_ns / uptime_ns if uptime_ns else 0.0,
        long_in_prefill=counted.long_in_prefill,
        short_tokens_in_prefill=counted.short_tokens_in_prefill,
        available=member.available,
        lanes=member.lanes,
        long_threshold_tokens=settings.long_threshold_tokens if member.lanes else 0,
        long_slots=settings.long_slots if member.lanes else 0,
        short_budget_tokens=settings.short_budget_tokens if member.lanes else 0,
        outcomes=counted.outcomes,
        notices=member.notices(),
    )
