"""Integers that the core cannot take are refused by name, and nothing of the call is applied."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from expresslane import _scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = {
    "model": 0,
    "class": 1,
    "tokens": 10,
    "queue_timeout_ns": 0,
    "index": 0,
    "output_tokens": 0,
    "sequential": False,
    "ttft_deadline_ns": 0,
}
"""The fields of a prompt, in order."""
BACKEND_FIELDS = (
    "cap",
    "max_loaded_models",
    "absence_timeout_ns",
    "long_threshold_tokens",
    "long_slots",
    "short_budget_tokens",
    "engine_step_tokens",
    "engine_chunk_tokens",
    "first_token_timeout_ns",
    "idle_timeout_ns",
    "attempt_timeout_ns",
    "requests_per_min",
    "tokens_per_min",
    "breaker_min_samples",
    "breaker_window_ns",
    "breaker_open_ns",
    "breaker_open_max_ns",
    "breaker_probes",
)


def submit_with(field: str) -> Callable[[_scheduler.Scheduler, int], object]:
    """A batch whose second prompt has a field of this value."""

    def submit(core: _scheduler.Scheduler, value: int) -> object:
        rows: list[Any] = [tuple(PROMPT.values()), tuple({**PROMPT, field: value}.values())]
        return core.submit(0, 1, rows)

    return submit


def update_with(field: str) -> Callable[[_scheduler.Scheduler, int], None]:
    """A backend of which a field has this value."""

    def update(core: _scheduler.Scheduler, value: int) -> None:
        fields: dict[str, Any] = {"cap": 1, "models": [(0, 0)], field: value}
        core.update_backend(0, 0, **fields)

    return update


CALLS: dict[str, Callable[[_scheduler.Scheduler, int], object]] = {
    **{f"prompt {field}": submit_with(field) for field in PROMPT if field != "sequential"},
    **{f"backend {field}": update_with(field) for field in BACKEND_FIELDS},
    "backend models": lambda core, value: core.update_backend(0, 0, cap=1, models=[(0, value)]),
    "batch weight": lambda core, value: core.submit(0, 1, [tuple(PROMPT.values())], weight=value),  # type: ignore[list-item]
    "batch queue_timeout_ns": lambda core, value: core.submit(0, 1, [], queue_timeout_ns=value),
    "batch deadline_ns": lambda core, value: core.submit(0, 1, [], deadline_ns=value),
    "tenant requests_per_min": lambda core, value: core.set_tenant_limits(0, 1, requests_per_min=value),
    "tenant tokens_per_min": lambda core, value: core.set_tenant_limits(0, 1, tokens_per_min=value),
    "policy prompt_class": lambda core, value: core.set_policy(0, "fcfs", prompt_class=value),
    "policy model": lambda core, value: core.set_policy(0, "fcfs", model=value),
    "pause model": lambda core, value: core.pause(0, 0, until_ns=1, model=value),
    "finish usage": lambda core, value: core.finish(0, 1, "success", usage=(value, 0, 0)),
    "core queue_limit": lambda _core, value: _scheduler.Scheduler(queue_limit=value),
    "core queue_limit_ns": lambda _core, value: _scheduler.Scheduler(queue_limit_ns=value),
    "core in_flight_limit": lambda _core, value: _scheduler.Scheduler(in_flight_limit=value),
    "core no_backend_timeout_ns": lambda _core, value: _scheduler.Scheduler(no_backend_timeout_ns=value),
    "core max_wait_ns": lambda _core, value: _scheduler.Scheduler(max_wait_ns=value),
    "bucket tokens": lambda _core, value: _scheduler.token_bucket_edge(value),
}


@pytest.mark.parametrize("value", [-1, 2**64, 10**5_000], ids=["negative", "too large", "beyond printing"])
@pytest.mark.parametrize("name", CALLS)
def test_an_integer_out_of_range_is_refused_by_name(name: str, value: int) -> None:
    """The message names the field, shows its value and says what it must be; nothing is applied."""
    core = _scheduler.Scheduler()
    field = name.partition(" ")[2]
    with pytest.raises(_scheduler.InvalidConfigError) as raised:
        CALLS[name](core, value)
    assert re.fullmatch(rf"{field} = .+: must be at least 0 and fit (32|64) bits", str(raised.value))
    now = core.snapshot()
    assert (now.submitted, now.backends, core.tenant_limits()) == (0, [], [])


def test_the_value_is_shown() -> None:
    """As it was given, where that can be printed."""
    with pytest.raises(_scheduler.InvalidConfigError) as raised:
        _scheduler.Scheduler().submit(0, 1, [], weight=-1)
    assert str(raised.value) == "weight = -1: must be at least 0 and fit 32 bits"


def test_what_is_no_integer_stays_a_type_error() -> None:
    """Only ranges are told this way."""
    core: Any = _scheduler.Scheduler()
    with pytest.raises(TypeError, match="cap"):
        core.update_backend(0, 0, cap="many", models=[])
    with pytest.raises(TypeError):
        core.submit(0, 1, [("x",) * 8])
