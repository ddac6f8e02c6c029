"""What the Admin service shows, as messages: backends, policies, tenants."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from expresslane.policies import Scope
from expresslane.prefill_rate import prefill_rate
from expresslane.prompts import PromptClass
from expresslane.servicers.encode import duration
from expresslane.v1 import admin_pb2 as pb
from expresslane.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from expresslane._scheduler import BackendSnapshot, BreakerSnapshot, TenantLimitSnapshot
    from expresslane.backend_failures import Failure
    from expresslane.fleet import Fleet, Member
    from expresslane.holdings import Holdings
    from expresslane.rate_limits import RateLimits
    from expresslane.scheduling import Scheduling
    from expresslane.tenants import Tenant, Tenants
    from expresslane.token_estimates import ModelEstimate, TokenEstimates

__all__ = [
    "CLASSES",
    "PREFIX",
    "backend_message",
    "holdings_message",
    "policy_messages",
    "tenant_messages",
]

PREFIX = "backends/"
TENANTS_MAX = 100
CLASSES = {
    PromptClass.INTERACTIVE: types_pb2.PROMPT_CLASS_INTERACTIVE,
    PromptClass.STANDARD: types_pb2.PROMPT_CLASS_STANDARD,
    PromptClass.BATCH: types_pb2.PROMPT_CLASS_BATCH,
}


def holdings_message(held: Holdings) -> pb.Holdings:
    """What is held, as a message."""
    return pb.Holdings(**asdict(held))


def policy_messages(default: str, policies: Mapping[Scope, str]) -> list[pb.Policy]:
    """The policy that holds where no other does, then the others by scope."""
    return [_policy(Scope(), default), *(_policy(scope, policies[scope]) for scope in sorted(policies, key=str))]


def _policy(scope: Scope, policy: str) -> pb.Policy:
    message = pb.Policy(model=scope.model, policy=policy)
    if scope.prompt_class is not None:
        setattr(message, "class", CLASSES[scope.prompt_class])
    return message


def tenant_messages(
    tenants: Tenants,
    scheduling: Scheduling,
    holdings: Callable[[Tenant], Holdings],
    now_ns: int,
    *,
    only: str = "",
) -> list[pb.Tenant]:
    """Those with settings of their own, with work, with service that the core remembers or with results that are kept.

    Most waiting prompts first; or just one.
    """
    counts: defaultdict[str, _Counts] = defaultdict(_Counts)
    for batch in scheduling.open_batches:
        counts[batch.tenant.name].queued += batch.unfinished - batch.in_flight
        counts[batch.tenant.name].in_flight += batch.in_flight
    for one in scheduling.tenants():
        if (tenant := tenants.by_number(one.tenant)) is not None:
            counts[tenant.name].used_tokens += one.used_tokens
    for limited in scheduling.tenant_limits():
        if (tenant := tenants.by_number(limited.tenant)) is not None:
            counts[tenant.name].limits = limited
    if only:
        return [_tenant(tenants.find(only), counts[only], holdings, now_ns)]
    shown = [
        one
        for one in tenants.known()
        if one.open or one.name in counts or tenants.is_configured(one) or _keeps(holdings(one))
    ]
    shown.sort(key=lambda one: (*counts[one.name].order, one.name))
    return [_tenant(one, counts[one.name], holdings, now_ns) for one in shown[:TENANTS_MAX]]


def _keeps(held: Holdings) -> bool:
    return bool(held.jobs or held.kept_batches)


@dataclass(slots=True)
class _Counts:
    """What one tenant has and had."""

    queued: int = 0
    in_flight: int = 0
    used_tokens: int = 0
    limits: TenantLimitSnapshot | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Most waiting first, then most in flight, then most used."""
        return -self.queued, -self.in_flight, -self.used_tokens


def _tenant(tenant: Tenant, counts: _Counts, holdings: Callable[[Tenant], Holdings], now_ns: int) -> pb.Tenant:
    message = pb.Tenant(
        tenant=tenant.name,
        weight=tenant.weight,
        max_class=CLASSES[tenant.max_class],
        open_batches=tenant.open,
        queued=counts.queued,
        in_flight=counts.in_flight,
        used_tokens=counts.used_tokens,
        requests_per_min=tenant.requests_per_min,
        tokens_per_min=tenant.tokens_per_min,
        rate_limited_times=tenant.tally.times,
        rate_limited_time=duration(tenant.tally.total_ns),
        holdings=holdings_message(holdings(tenant)),
        queue_limit_prompts=tenant.queue_bounds.count,
        queue_limit_bytes=tenant.queue_bounds.bytes,
        max_open_calls=tenant.max_open_calls,
        max_open_sessions=tenant.max_open_sessions,
        unread_limit_results=tenant.unread.bounds.count,
        unread_limit_bytes=tenant.unread.bounds.bytes,
        job_limit=tenant.job_bounds.count,
        job_results_limit_bytes=tenant.job_bounds.bytes,
        kept_limit=tenant.kept_bounds.count,
        kept_results_limit_bytes=tenant.kept_bounds.bytes,
    )
    if (limits := counts.limits) is not None:
        message.requests_in_window = limits.requests_in_window
        message.tokens_in_window = limits.tokens_in_window
        message.retries_allowed = limits.retries_allowed
        message.retries_denied = limits.retries_denied
        if (limited_by := _limit(limits.limited, now_ns)) is not None:
            message.limited_by.CopyFrom(limited_by)
    return message


def backend_message(
    member: Member,
    counted: BackendSnapshot,
    fleet: Fleet,
    limits: RateLimits,
    tokens: TokenEstimates,
    *,
    now_ns: int,
    uptime_ns: int,
    failure: Failure | None,
) -> pb.Backend:
    """One backend as it is now."""
    settings = member.settings
    in_flight = {fleet.registry.name(model): count for model, count in counted.in_flight_by_model}
    loaded = {fleet.registry.name(model) for model in counted.loaded_models}
    caps = {fleet.registry.name(model): cap for model, cap in counted.cap_by_model}
    tally = limits.tally(member.number)
    avoided = limits.avoided(member.number, now_ns)
    limited = counted.limited or ((avoided.kind, avoided.reset_ns) if avoided is not None else None)
    return pb.Backend(
        name=PREFIX + member.id,
        kind=settings.kind,
        url=member.public_url,
        models=[
            _model(
                pb.BackendModel(
                    model=model,
                    backend_model=own,
                    cap=settings.model_caps.get(model, 0),
                    in_flight=in_flight.get(model, 0),
                    loaded=model in loaded,
                    effective_cap=caps.get(model, 0),
                ),
                tokens.find(fleet.registry.number(model)),
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
        long_slots=counted.long_slots if member.lanes else 0,
        short_budget_tokens=counted.short_budget_tokens if member.lanes else 0,
        outcomes=counted.outcomes,
        notices=[*member.notices(), *_ramps(member, caps)],
        requests_per_min=member.requests_per_min,
        tokens_per_min=member.tokens_per_min,
        requests_in_window=counted.requests_in_window,
        tokens_in_window=counted.tokens_in_window,
        limited_by=_limit(limited, now_ns),
        rate_limited_times=tally.times,
        rate_limited_time=duration(tally.total_ns),
        estimates=_estimates(counted),
        breaker=_breaker(counted.breaker, now_ns),
        max_loaded_models=counted.max_loaded_models,
        model_loads=counted.model_loads,
        turned_away=counted.turned_away,
        last_error=_failure(failure, now_ns),
    )


def _failure(failure: Failure | None, now_ns: int) -> pb.BackendFailure | None:
    if failure is None:
        return None
    age = duration(max(0, now_ns - failure.at_ns))
    return pb.BackendFailure(reason=failure.reason.value, http_status=failure.http_status, age=age)


def _ramps(member: Member, caps: Mapping[str, int]) -> Iterator[str]:
    """Models that get fewer prompts at once than configured, after a rate limit."""
    for model, cap in sorted(caps.items()):
        configured = min(member.settings.model_caps.get(model) or member.effective_cap, member.effective_cap)
        if cap < configured:
            yield f"{model}: {cap} of {configured} at once after a rate limit, more with each round of successes"


def _breaker(breaker: BreakerSnapshot | None, now_ns: int) -> pb.Breaker | None:
    if breaker is None:
        return None
    message = pb.Breaker(state=breaker.state, good=breaker.good, bad=breaker.bad, opened=breaker.opened)
    if breaker.state != "closed":
        message.since.CopyFrom(duration(max(0, now_ns - breaker.since_ns)))
    if breaker.half_open_at_ns is not None:
        message.half_open_in.CopyFrom(duration(max(0, breaker.half_open_at_ns - now_ns)))
    return message


def _model(message: pb.BackendModel, learned: ModelEstimate | None) -> pb.BackendModel:
    if learned is not None:
        message.prompt_overhead_tokens, message.bytes_per_token = learned.line
        message.estimate_samples = learned.samples
        message.mean_output_tokens = learned.output_tokens
    return message


def _estimates(counted: BackendSnapshot) -> pb.BackendEstimates:
    fixed_ns, per_token_ns, per_square_ns = counted.prefill_ns
    return pb.BackendEstimates(
        prefill_fixed_s=fixed_ns / 1e9,
        prefill_s_per_token=per_token_ns / 1e9,
        prefill_s_per_token_squared=per_square_ns / 1e9,
        prefill_samples=counted.prefill_samples,
        prefill_tokens_per_s=prefill_rate(counted.prefill_ns),
        decode_s=counted.decode_ns / 1e9,
        decode_samples=counted.decode_samples,
        load_s=counted.load_ns / 1e9 if counted.max_loaded_models else 0.0,
        load_samples=counted.load_samples,
    )


def _limit(limited: tuple[str, int] | None, now_ns: int) -> pb.Limit | None:
    if limited is None or limited[1] <= now_ns:
        return None
    return pb.Limit(limit=limited[0], reset_in=duration(limited[1] - now_ns))
