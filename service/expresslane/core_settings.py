"""What is configured, put in force in the core: a backend as it is now, a tenant's limits, a policy.

Each raises RefusedError (INVALID_FIELD) for what the core refuses, and nothing has changed then.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from expresslane._scheduler import InvalidConfigError
from expresslane.core_words import refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from expresslane._scheduler import Scheduler
    from expresslane.fleet import Member
    from expresslane.policies import Scope
    from expresslane.tenants import Tenant

__all__ = ["put_backend", "put_policy", "put_tenant_limits"]


def put_backend(core: Scheduler, now_ns: int, member: Member, models: Sequence[tuple[int, int]]) -> None:
    """Tell the core what a backend is now, with the numbers and caps of the models that it serves."""
    settings = member.settings
    with _refusals():
        core.update_backend(
            now_ns,
            member.number,
            cap=member.effective_cap,
            models=models,
            max_loaded_models=settings.max_loaded_models,
            available=member.available,
            absence_timeout_ns=int(settings.absence_timeout_s * 1e9) if member.reached else 0,
            long_threshold_tokens=settings.long_threshold_tokens,
            long_slots=settings.long_slots,
            short_budget_tokens=settings.short_budget_tokens,
            lanes=member.lanes,
            engine_step_tokens=settings.engine_step_tokens,
            engine_chunk_tokens=settings.engine_chunk_tokens,
            prefill_tokens_per_s=settings.prefill_tokens_per_s,
            first_token_timeout_ns=int((settings.first_token_timeout_s or 0) * 1e9) if member.streams else 0,
            idle_timeout_ns=int(settings.idle_timeout_s * 1e9),
            attempt_timeout_ns=int(member.attempt_timeout_s * 1e9),
            requests_per_min=member.requests_per_min,
            tokens_per_min=member.tokens_per_min,
            breaker_error_ratio=settings.breaker_error_ratio,
            breaker_min_samples=settings.breaker_min_samples,
            breaker_window_ns=int(settings.breaker_window_s * 1e9),
            breaker_open_ns=int(settings.breaker_open_s * 1e9),
            breaker_open_max_ns=int(settings.breaker_open_max_s * 1e9),
            ramp=member.ramp,
        )


def put_tenant_limits(core: Scheduler, now_ns: int, tenant: Tenant) -> None:
    """Put a tenant's limits per minute in force."""
    with _refusals():
        core.set_tenant_limits(
            now_ns,
            tenant.number,
            requests_per_min=tenant.requests_per_min,
            tokens_per_min=tenant.tokens_per_min,
        )


def put_policy(core: Scheduler, now_ns: int, scope: Scope, policy: str | None, model: int | None) -> None:
    """Order a scope by a policy, None: by what holds around it. `model`: the core's number of the scope's model."""
    prompt_class = None if scope.prompt_class is None else int(scope.prompt_class)
    with _refusals():
        core.set_policy(now_ns, policy, prompt_class=prompt_class, model=model)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except InvalidConfigError as error:
        raise refused(error) from None
