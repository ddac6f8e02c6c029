"""The service's metrics, read from the core's counters when they are collected; prompts record nothing themselves."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from opentelemetry.metrics import CallbackOptions, Observation

from expresslane.prefill_rate import RATE_TOKENS, prefill_rate
from expresslane.prompts import PromptClass
from expresslane.rate_limits import RateLimits, Tally
from expresslane.telemetry import names
from expresslane.telemetry.core_histograms import Series, core_series, ratio_series, token_series
from expresslane.token_estimates import TokenEstimates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.metrics import MeterProvider

    from expresslane._scheduler import BackendSnapshot, Snapshot
    from expresslane.holdings import Holdings
    from expresslane.telemetry.core_histograms import CoreHistograms

__all__ = ["Metrics"]

_T = TypeVar("_T")

_FRESH_NS = 50_000_000
_BREAKER_STATES = ("closed", "open", "half_open")
_CLASSES = tuple(prompt_class.name.lower() for prompt_class in PromptClass)


@dataclass(frozen=True, slots=True)
class _Instrument:
    """One metric: how it is read from a snapshot. A counter only grows."""

    name: str
    unit: str
    description: str
    read: Callable[[Snapshot], Iterable[Observation]]
    counter: bool = False


class Metrics:
    """Registers every metric. `snapshot` is called on the exporting thread, once a collection.

    `backend_name` and `model_name` give the names behind numbers. `estimates` and `limits` are read there too, and
    `held`: what is held for callers, by tenant; and `refused`: prompts by reason.
    """

    def __init__(
        self,
        provider: MeterProvider,
        histograms: CoreHistograms,
        *,
        snapshot: Callable[[], Snapshot],
        backend_name: Callable[[int], str],
        model_name: Callable[[int], str],
        estimates: TokenEstimates | None = None,
        limits: RateLimits | None = None,
        held: Callable[[], Iterable[tuple[str, Holdings]]] = tuple,
        refused: Callable[[], Iterable[tuple[str, int]]] = tuple,
        version: str = "",
    ) -> None:
        self._limits = limits or RateLimits()
        self._snapshots = _Latest(snapshot)
        self._refused = refused
        self._held = _Latest(lambda: list(held()))
        self._backend_name = backend_name
        self._model_name = model_name
        meter = provider.get_meter(names.SCOPE, version)
        for instrument in (
            *self._queue(),
            *self._prompts(),
            *self._backends(),
            *self._breakers(),
            *self._holdings(),
        ):
            create = meter.create_observable_counter if instrument.counter else meter.create_observable_gauge
            create(instrument.name, [self._callback(instrument)], instrument.unit, instrument.description)
        estimates = estimates or TokenEstimates()

        def series() -> Iterator[Series]:
            now = self._snapshots.latest()
            yield from core_series(now.histograms, backend_name)
            yield from ratio_series(now.ratios, backend_name)
            yield from token_series(estimates, model_name)

        histograms.bind(series)

    def _callback(self, instrument: _Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return instrument.read(self._snapshots.latest())

        return observe

    def _queue(self) -> Sequence[_Instrument]:
        def by_class(now: Snapshot) -> Iterator[Observation]:
            for name, count in zip(_CLASSES, now.queued_by_class, strict=True):
                yield Observation(count, {names.CLASS: name})

        def by_model(now: Snapshot) -> Iterator[Observation]:
            for model, count in now.queued_by_model:
                yield Observation(count, {names.MODEL: self._model_name(model)})

        return (
            _Instrument(names.QUEUE_PROMPTS, "{prompt}", "Waiting prompts by class", by_class),
            _Instrument(names.QUEUE_MODEL_PROMPTS, "{prompt}", "Waiting prompts by model", by_model),
            _Instrument(
                names.QUEUE_TOKENS, "{token}", "Tokens of waiting prompts", _one(lambda now: now.queued_tokens)
            ),
            _Instrument(names.QUEUE_LIMIT, "{prompt}", "Most prompts that may wait", _one(lambda now: now.queue_limit)),
            _Instrument(
                names.QUEUE_HELD, "{prompt}", "Waiting prompts that their reader holds", _one(lambda now: now.held)
            ),
            _Instrument(
                names.QUEUE_RETRY_WAITING,
                "{prompt}",
                "Waiting prompts whose retry is not due yet",
                _one(lambda now: now.retry_waiting),
            ),
        )

    def _prompts(self) -> Sequence[_Instrument]:
        def ended(now: Snapshot) -> Iterator[Observation]:
            yield Observation(now.succeeded, {names.OUTCOME: "success"})
            yield Observation(now.failed, {names.OUTCOME: "failed"})
            yield Observation(now.cancelled, {names.OUTCOME: "cancelled"})
            yield Observation(now.expired, {names.OUTCOME: "expired"})

        def refused(_: Snapshot) -> Iterator[Observation]:
            for reason, prompts in self._refused():
                yield Observation(prompts, {names.REASON: reason})

        def count(name: str, description: str, value: Callable[[Snapshot], int]) -> _Instrument:
            return _Instrument(name, "{prompt}", description, _one(value), counter=True)

        return (
            count(names.PROMPTS_SUBMITTED, "Accepted prompts", lambda now: now.submitted),
            count(names.PROMPTS_RETRIED, "Retries", lambda now: now.retried),
            count(
                names.PROMPTS_RETRIES_DENIED,
                "Retries that a tenant's budget did not allow",
                lambda now: now.retries_denied,
            ),
            _Instrument(
                names.PROMPTS_REFUSED, "{prompt}", "Prompts that were not accepted by reason", refused, counter=True
            ),
            _Instrument(names.PROMPTS_ENDED, "{prompt}", "Ended prompts by outcome", ended, counter=True),
        )

    def _backends(self) -> Sequence[_Instrument]:
        def each(value: Callable[[BackendSnapshot], float]) -> Callable[[Snapshot], Iterator[Observation]]:
            def read(now: Snapshot) -> Iterator[Observation]:
                for backend in now.backends:
                    yield Observation(value(backend), {names.BACKEND: self._backend_name(backend.backend)})

            return read

        def ended(now: Snapshot) -> Iterator[Observation]:
            for backend in now.backends:
                for outcome, count in backend.outcomes.items():
                    yield Observation(
                        count, {names.BACKEND: self._backend_name(backend.backend), names.OUTCOME: outcome}
                    )

        def gauge(name: str, unit: str, description: str, value: Callable[[BackendSnapshot], float]) -> _Instrument:
            return _Instrument(name, unit, description, each(value))

        def limited(name: str, unit: str, description: str, value: Callable[[Tally], float]) -> _Instrument:
            read = each(lambda now: value(self._limits.tally(now.backend)))
            return _Instrument(name, unit, description, read, counter=True)

        return (
            gauge(names.BACKEND_AVAILABLE, "1", "1 if prompts may be released to it", lambda now: int(now.available)),
            gauge(names.BACKEND_CAP, "{prompt}", "Most prompts in flight", lambda now: now.cap),
            _Instrument(
                names.BACKEND_MODEL_CAP,
                "{prompt}",
                "Most prompts of a model in flight, less than its caps after a rate limit",
                self._model_caps,
            ),
            gauge(names.BACKEND_IN_FLIGHT, "{prompt}", "Prompts in flight", lambda now: now.in_flight),
            gauge(
                names.BACKEND_LONG_IN_PREFILL,
                "{prompt}",
                "Long prompts without a first token: the long lane in use",
                lambda now: now.long_in_prefill,
            ),
            gauge(
                names.BACKEND_SHORT_TOKENS,
                "{token}",
                "Tokens of short prompts without a first token: the short budget in use",
                lambda now: now.short_tokens_in_prefill,
            ),
            gauge(
                names.BACKEND_PREFILL_TOKENS,
                "{token}",
                "Tokens of all prompts without a first token",
                lambda now: now.outstanding_prefill_tokens,
            ),
            gauge(
                names.BACKEND_PREFILL_RATE,
                "{token}/s",
                f"Expected prefill rate of a prompt of {RATE_TOKENS:,} tokens alone",
                lambda now: prefill_rate(now.prefill_ns),
            ),
            gauge(
                names.BACKEND_SHORT_BUDGET,
                "{token}",
                "Tokens of short prompts that may be in prefill, 0 for no limit",
                lambda now: now.short_budget_tokens,
            ),
            gauge(
                names.BACKEND_LONG_SLOTS,
                "{prompt}",
                "Long prompts that may be in prefill, 0 for no limit",
                lambda now: now.long_slots,
            ),
            gauge(
                names.BACKEND_LOADED_MODELS,
                "{model}",
                "Models in memory where their number is limited, as far as releases tell",
                lambda now: len(now.loaded_models),
            ),
            _Instrument(
                names.BACKEND_MODEL_LOADS,
                "{load}",
                "Loads of models where their number is limited, as far as releases tell",
                each(lambda now: now.model_loads),
                counter=True,
            ),
            limited(
                names.BACKEND_LIMITED, "{time}", "How often a limit kept prompts waiting", lambda tally: tally.times
            ),
            limited(
                names.BACKEND_LIMITED_TIME,
                "s",
                "How long limits kept prompts waiting",
                lambda tally: tally.total_ns / 1e9,
            ),
            _Instrument(
                names.BACKEND_TURNED_AWAY,
                "{attempt}",
                "Attempts that its rate limit turned away",
                each(lambda now: now.turned_away),
                counter=True,
            ),
            _Instrument(
                names.ATTEMPTS_STARTED, "{attempt}", "Attempts started", each(lambda now: now.dispatched), counter=True
            ),
            _Instrument(names.ATTEMPTS_ENDED, "{attempt}", "Attempts ended by outcome", ended, counter=True),
        )

    def _model_caps(self, now: Snapshot) -> Iterator[Observation]:
        for backend in now.backends:
            for model, cap in backend.cap_by_model:
                of = {names.BACKEND: self._backend_name(backend.backend), names.MODEL: self._model_name(model)}
                yield Observation(cap, of)

    def _breakers(self) -> Sequence[_Instrument]:
        def breakers(now: Snapshot) -> Iterator[Observation]:
            for backend in now.backends:
                if backend.breaker is not None:
                    of = self._backend_name(backend.backend)
                    for state in _BREAKER_STATES:
                        attributes = {names.BACKEND: of, names.STATE: state}
                        yield Observation(int(backend.breaker.state == state), attributes)

        def openings(now: Snapshot) -> Iterator[Observation]:
            for backend in now.backends:
                if backend.breaker is not None:
                    yield Observation(backend.breaker.opened, {names.BACKEND: self._backend_name(backend.backend)})

        return (
            _Instrument(
                names.BACKEND_BREAKER,
                "1",
                "1 for the state of its breaker: closed, open (left alone because it fails) or half_open (tried)",
                breakers,
            ),
            _Instrument(
                names.BACKEND_BREAKER_OPENINGS, "{time}", "How often its breaker opened", openings, counter=True
            ),
        )

    def _holdings(self) -> Sequence[_Instrument]:
        def gauge(name: str, unit: str, description: str, value: Callable[[Holdings], int]) -> _Instrument:
            def read(_: Snapshot) -> Iterator[Observation]:
                for tenant, held in self._held.latest():
                    yield Observation(value(held), {names.TENANT: tenant})

            return _Instrument(name, unit, description, read)

        return (
            gauge(names.HELD_OPEN_CALLS, "{call}", "Open calls, sessions included", lambda held: held.open_calls),
            gauge(names.HELD_OPEN_SESSIONS, "{session}", "Open sessions", lambda held: held.open_sessions),
            gauge(
                names.HELD_UNREAD_RESULTS,
                "{result}",
                "Results that wait for readers of calls",
                lambda held: held.unread_results,
            ),
            gauge(names.HELD_UNREAD_BYTES, "By", "Bytes of their answers", lambda held: held.unread_bytes),
            gauge(names.HELD_JOBS, "{job}", "Jobs, running and ended", lambda held: held.jobs),
            gauge(
                names.HELD_JOB_RESULT_BYTES, "By", "Memory of their results, about", lambda held: held.job_result_bytes
            ),
            gauge(
                names.HELD_KEPT_BATCHES,
                "{batch}",
                "Batches kept for callers that may come back",
                lambda held: held.kept_batches,
            ),
            gauge(
                names.HELD_KEPT_RESULT_BYTES,
                "By",
                "Memory of their results, about",
                lambda held: held.kept_result_bytes,
            ),
        )


class _Latest(Generic[_T]):
    """What was read last, shared by the callbacks of one collection so that their numbers agree."""

    def __init__(self, take: Callable[[], _T]) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._latest: _T | None = None
        self._taken_ns = 0

    def latest(self) -> _T:
        with self._lock:
            now_ns = time.monotonic_ns()
            if self._latest is None or now_ns - self._taken_ns > _FRESH_NS:
                self._latest, self._taken_ns = self._take(), now_ns
            return self._latest


def _one(value: Callable[[Snapshot], int]) -> Callable[[Snapshot], Iterable[Observation]]:
    def read(now: Snapshot) -> Iterable[Observation]:
        return (Observation(value(now)),)

    return read
