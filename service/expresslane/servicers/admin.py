"""The Admin service: what the backends do, and the switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from expresslane import __version__
from expresslane.clock import Clock, monotonic_ns
from expresslane.errors import RefusedError
from expresslane.fleet import Change
from expresslane.policies import POLICY_NAMES, Scope
from expresslane.servicers.admin_messages import (
    CLASSES,
    PREFIX,
    backend_message,
    holdings_message,
    policy_messages,
    tenant_messages,
)
from expresslane.servicers.encode import duration
from expresslane.servicers.status import abort, invalid
from expresslane.settings import MAX_CAP, MAX_REQUESTS_PER_MIN, MAX_TOKENS_PER_MIN, TenantDefaults
from expresslane.v1 import admin_pb2 as pb
from expresslane.variables import is_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from expresslane.backend_failures import BackendFailures
    from expresslane.fleet import Fleet, Member
    from expresslane.holdings import Holdings
    from expresslane.intake import Intake
    from expresslane.scheduling import Scheduling
    from expresslane.tenants import Tenant

__all__ = ["AdminServicer"]

log = structlog.get_logger(__name__)

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
MUTABLE = ("concurrency_enabled", "cap", "requests_per_min", "tokens_per_min")
_RANGES = (
    ("cap", 1, MAX_CAP),
    ("requests_per_min", 0, MAX_REQUESTS_PER_MIN),
    ("tokens_per_min", 0, MAX_TOKENS_PER_MIN),
)
TENANT_MUTABLE = tuple(TenantDefaults.model_fields)
_TENANT_RANGES = tuple((field, *TenantDefaults.range_of(field)) for field in TENANT_MUTABLE if field != "max_class")
_SCOPES = {message: prompt_class for prompt_class, message in CLASSES.items()}


class AdminServicer:
    """Serves expresslane.v1.Admin.

    `drain()` is awaited when the service shall accept nothing more; `holdings` says what is held for a tenant, or for
    all.
    """

    def __init__(
        self,
        fleet: Fleet,
        scheduling: Scheduling,
        intake: Intake,
        drain: Callable[[], Awaitable[None]],
        *,
        failures: BackendFailures,
        holdings: Callable[[Tenant | None], Holdings],
        fairness: str = "tenant_batch",
        queue_limit_s: float = 0.0,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._fairness = fairness
        self._queue_limit_ns = int(queue_limit_s * 1e9)
        self._failures = failures
        self._holdings = holdings
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
        """Turn the concurrency switch, change cap or limits; all of it or nothing."""
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
        for field, low, high in _RANGES:
            value = getattr(request.backend, field)
            if field in paths and not low <= value <= high:
                raise invalid(f"backend.{field}", f"{value} is out of range: {low} to {high:,}")

        def wanted(field: str) -> Any:
            return getattr(request.backend, field) if field in paths else None

        change = Change(
            enabled=wanted("concurrency_enabled"),
            cap=wanted("cap"),
            requests_per_min=wanted("requests_per_min"),
            tokens_per_min=wanted("tokens_per_min"),
        )
        self._fleet.update(member, change)

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, context: Any) -> pb.Tenant:  # noqa: N802
        """Change what holds for a tenant; all of it or nothing."""
        name = request.tenant.tenant
        try:
            self._update_tenant(request)
        except RefusedError as refusal:
            await abort(context, refusal)
        messages = tenant_messages(self._intake.tenants, self._scheduling, self._holdings, self._clock(), only=name)
        return messages[0]

    def _update_tenant(self, request: pb.UpdateTenantRequest) -> None:
        wanted, paths = request.tenant, list(request.update_mask.paths)
        if not is_id(wanted.tenant):
            raise invalid("tenant.tenant", f"{wanted.tenant[:70]!r} is not 1 to 63 of a-z, 0-9 and -")
        if not paths:
            raise invalid("update_mask", f"required: any of {', '.join(TENANT_MUTABLE)}")
        if unknown := [path for path in paths if path not in TENANT_MUTABLE]:
            raise invalid("update_mask", f"{unknown[0][:60]!r} cannot be changed; {', '.join(TENANT_MUTABLE)} can")
        changes: dict[str, Any] = {}
        for field, low, high in _TENANT_RANGES:
            if field in paths:
                changes[field] = value = getattr(wanted, field)
                if not low <= value <= high:
                    raise invalid(f"tenant.{field}", f"{value} is out of range: {low} to {high:,}")
        if "max_class" in paths:
            if wanted.max_class not in _SCOPES:
                raise invalid("tenant.max_class", f"{wanted.max_class} is no PromptClass")
            changes["max_class"] = _SCOPES[wanted.max_class].name.lower()
        self._intake.tenants.update(wanted.tenant, changes)
        log.info("tenant changed", tenant=wanted.tenant, **changes)

    async def SetPolicy(self, request: pb.SetPolicyRequest, context: Any) -> pb.SetPolicyResponse:  # noqa: N802
        """Order what waits and what comes in a scope by another policy."""
        try:
            self._set_policy(request.policy)
        except RefusedError as refusal:
            await abort(context, refusal)
        return pb.SetPolicyResponse(policies=self._policies())

    def _set_policy(self, wanted: pb.Policy) -> None:
        number = getattr(wanted, "class")
        if number and number not in _SCOPES:
            raise invalid("policy.class", f"{number} is no PromptClass")
        if wanted.policy and wanted.policy not in POLICY_NAMES:
            raise invalid("policy.policy", f"{wanted.policy[:60]!r} is none of {', '.join(POLICY_NAMES)}")
        if not (wanted.policy or number or wanted.model):
            raise invalid("policy.policy", f"required: one of {', '.join(POLICY_NAMES)}")
        model = self._fleet.registry.listed(wanted.model) if wanted.model else None
        scope = Scope(_SCOPES.get(number), "" if model is None else model.name)
        self._scheduling.set_policy(scope, wanted.policy or None, None if model is None else model.number)
        log.info("policy set", scope=str(scope), policy=wanted.policy or "as around it")

    def _policies(self) -> list[pb.Policy]:
        return policy_messages(self._scheduling.snapshot().policy, self._scheduling.policies)

    async def GetSnapshot(self, _: pb.GetSnapshotRequest, context: Any) -> pb.Snapshot:  # noqa: ARG002, N802
        """Queue depths and counters."""
        now = self._scheduling.snapshot()
        registry = self._fleet.registry
        tenants = self._intake.tenants
        return pb.Snapshot(
            version=__version__,
            uptime=duration(self._clock() - self._started_ns),
            policy=now.policy,
            draining=self._intake.draining,
            queue_limit=now.queue_limit,
            queue_time_limit=duration(self._queue_limit_ns) if self._queue_limit_ns else None,
            in_flight_limit=now.in_flight_limit,
            queued=now.queued,
            retry_waiting=now.retry_waiting,
            in_flight=now.in_flight,
            queued_tokens=now.queued_tokens,
            queued_by_class=[
                pb.ClassDepth(**{"class": prompt_class, "queued": queued})
                for prompt_class, queued in zip(CLASSES.values(), now.queued_by_class, strict=True)
            ],
            queued_by_model={registry.name(model): queued for model, queued in now.queued_by_model},
            submitted=now.submitted,
            succeeded=now.succeeded,
            failed=now.failed,
            cancelled=now.cancelled,
            expired=now.expired,
            retried=now.retried,
            retries_denied=now.retries_denied,
            refused=self._intake.refused.prompts.total(),
            refused_by_reason=self._intake.refused.prompts,
            calls_refused_by_reason=self._intake.refused.calls,
            drain_rate_per_s=now.drain_rate_per_s,
            finish_rate_per_s=now.finish_rate_per_s,
            open_batches=self._intake.open_batches,
            backends=self._describe(self._fleet.members),
            policies=policy_messages(now.policy, self._scheduling.policies)[1:],
            tenants=tenant_messages(tenants, self._scheduling, self._holdings, self._clock()),
            tenants_total=len(tenants.known()),
            fairness=self._fairness,
            holdings=holdings_message(self._holdings(None)),
        )

    async def Drain(self, _: pb.DrainRequest, context: Any) -> pb.DrainResponse:  # noqa: ARG002, N802
        """Stop accepting work; what was accepted goes on."""
        await self._drain()
        now = self._scheduling.snapshot()
        return pb.DrainResponse(queued=now.queued, in_flight=now.in_flight)

    def _find(self, name: str, field: str) -> Member:
        if not name.startswith(PREFIX):
            raise invalid(field, f"{name[:60]!r} is not of the form {PREFIX}ID")
        return self._fleet.get(name.removeprefix(PREFIX))

    def _describe(self, members: list[Member]) -> list[pb.Backend]:
        counted = {backend.backend: backend for backend in self._scheduling.snapshot().backends}
        now = self._clock()
        return [
            backend_message(
                member,
                counted[member.number],
                self._fleet,
                self._scheduling.limits,
                self._intake.estimates,
                now_ns=now,
                uptime_ns=now - self._started_ns,
                failure=self._failures.last(member.id),
            )
            for member in members
        ]
