"""What keeps waiting prompts back for a while, or elsewhere: limits per minute, pauses, refusals; told and counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expresslane.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from expresslane.batches.batch import Batch

__all__ = ["KEY_REFUSED", "MODEL_NOT_FOUND", "PAUSE", "UNPAID_RUN", "Limit", "RateLimits", "Tally"]

PAUSE = "pause"
MODEL_NOT_FOUND = "model_not_found"
KEY_REFUSED = "key_refused"
_BREAKER = "breaker"
UNPAID_RUN = 3
"""So many prompts in a row that an account had too little for, of a model and without a success in between, count for
the account. One or two say nothing of the next prompt."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that is used up until `reset_ns` (monotonic), of a backend or else of a tenant.

    `kind`: requests_per_min or tokens_per_min; of a backend also pause (it asked for it), model_not_found (it says that
    it has no such model), key_refused (it refuses the service's key, or its quota is spent), breaker (it fails), and
    requests_left or tokens_left (its provider says that there are none, or too few).
    """

    kind: str
    reset_ns: int
    backend: str = ""
    tenant: str = ""


@dataclass(slots=True)
class Tally:
    """How often a limit has kept work waiting, and for how long in all."""

    times: int = 0
    total_ns: int = 0
    until_ns: int = 0

    def add(self, now_ns: int, reset_ns: int) -> None:
        """Work waits from now until `reset_ns`; time that was counted already is not counted again."""
        self.times += 1
        self.total_ns += max(0, reset_ns - max(now_ns, self.until_ns))
        self.until_ns = max(self.until_ns, reset_ns)


@dataclass(frozen=True, slots=True)
class _Avoided:
    """Why a model avoids a backend and until when, and since when that is so."""

    limit: Limit
    since_ns: int


@dataclass(slots=True)
class _Backend:
    """A backend, what it serves, and what closes it: a limit as a whole; for one model a pause, or nothing left.

    `avoided` closes a model only while another backend is up for it. `unpaid`: since when the run of each model is, and
    how long (`UNPAID_RUN`).
    """

    models: frozenset[int] = frozenset()
    per_min: tuple[int, int] = (0, 0)
    limit: Limit | None = None
    pauses: dict[int, Limit] = field(default_factory=dict)
    spent: dict[int, Limit] = field(default_factory=dict)
    avoided: dict[int, _Avoided] = field(default_factory=dict)
    unpaid: dict[int, tuple[int, int]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def is_paused(self, model: int, now_ns: int) -> bool:
        """Whether it asked to be left alone for a model, or has nothing left for it."""
        return any(model in of and of[model].reset_ns > now_ns for of in (self.pauses, self.spent))

    def is_avoided(self, model: int, now_ns: int) -> bool:
        """Whether it has said lately that it has no such model, or that the service's key is no good for it."""
        avoided = self.avoided.get(model)
        return avoided is not None and avoided.limit.reset_ns > now_ns

    def is_up_for(self, model: int, now_ns: int) -> bool:
        """Whether prompts of a model wait for it, rather than go where they are refused."""
        is_broken = self.limit is not None and self.limit.kind == _BREAKER and self.limit.reset_ns > now_ns
        return model in self.models and not is_broken and not self.is_avoided(model, now_ns)

    def closed_by(self, model: int, now_ns: int) -> Limit | None:
        """What keeps prompts of a model from being released there now."""
        for limit in (self.limit, self.pauses.get(model), self.spent.get(model)):
            if limit is not None and limit.reset_ns > now_ns:
                return limit
        return None


class RateLimits:
    """The limits in force, by backend number. A batch is told of one once all backends of a model of its are closed."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self._backends: dict[int, _Backend] = {}

    def describe(self, backend: int, models: Iterable[int], per_min: tuple[int, int]) -> None:
        """What a backend can be given now (model numbers, none while it is unavailable), and its limits per minute."""
        entry = self._backends.setdefault(backend, _Backend())
        entry.models = frozenset(models)
        if entry.per_min != per_min:
            entry.per_min, entry.limit = per_min, None  # what it was closed for may no longer hold

    def pause(self, backend: int, model: int, limit: Limit, now_ns: int) -> None:
        """A backend asked to be left alone for one model."""
        entry = self._backends.setdefault(backend, _Backend())
        entry.pauses = {of: pause for of, pause in entry.pauses.items() if pause.reset_ns > now_ns}
        known = entry.pauses.get(model)
        if known is None or known.reset_ns < limit.reset_ns:
            entry.pauses[model] = limit

    def avoid(self, backend: int, model: int, limit: Limit, now_ns: int) -> bool:
        """A backend runs nothing of a model, it says; it is believed until the limit's reset. True: that is news."""
        entry = self._backends.setdefault(backend, _Backend())
        is_news = not entry.is_avoided(model, now_ns)
        entry.avoided[model] = _Avoided(limit, now_ns)
        return is_news

    def note_unpaid(self, backend: int, model: int, now_ns: int) -> bool:
        """An account has too little for a prompt of a model. True: the last prompts fared no better, so it is empty.

        That may be wrong: one tenant may send nothing but prompts that are too dear. Then the others do for a minute
        with the backends that are left, as long as one is up; what comes as a last resort meanwhile does not count. An
        account that is empty would cost each prompt a round trip, and be asked first, because it answers fast.
        """
        entry = self._backends.setdefault(backend, _Backend())
        if entry.is_avoided(model, now_ns):
            return False
        since_ns, run = entry.unpaid.pop(model, (now_ns, 0))
        if run + 1 < UNPAID_RUN:
            entry.unpaid[model] = (since_ns, run + 1)
        return run + 1 >= UNPAID_RUN

    def answered(self, backend: int, model: int, started_ns: int, *, raw: bool) -> bool:
        """A backend has answered an attempt that started then. True: the model need not avoid it any longer.

        What was on its way before that was known says nothing of it. Nor does the answer to a raw prompt of a model
        that chats do not find: it may be there for completions alone.
        """
        entry = self._backends.get(backend)
        if entry is None:
            return False
        if model in entry.unpaid and started_ns >= entry.unpaid[model][0]:
            del entry.unpaid[model]
        avoided = entry.avoided.get(model)
        if avoided is None or started_ns < avoided.since_ns or (raw and avoided.limit.kind == MODEL_NOT_FOUND):
            return False
        del entry.avoided[model]
        return True

    def avoided(self, backend: int, now_ns: int) -> Limit | None:
        """For what a backend's prompts, of some model, go elsewhere now."""
        entry = self._backends.setdefault(backend, _Backend())
        limits = (self._avoiding(backend, model, now_ns) for model in entry.avoided)
        return next((limit for limit in limits if limit is not None), None)

    def spent(self, backend: int, model: int, limit: Limit | None) -> None:
        """A backend has said what it has left for a model: nothing, or (None) something."""
        entry = self._backends.setdefault(backend, _Backend())
        if limit is not None:
            entry.spent[model] = limit
        else:
            entry.spent.pop(model, None)

    def opened(self, backend: int, model: int) -> None:
        """A prompt of a model was released there: whatever was said to be left, it was enough."""
        entry = self._backends.get(backend)
        if entry is not None and entry.spent:
            entry.spent.pop(model, None)

    def closed(self, backend: int, limit: Limit, now_ns: int, model: int | None = None) -> None:
        """Work waits for a limit of a backend, of one model there or of all."""
        entry = self._backends.setdefault(backend, _Backend())
        entry.tally.add(now_ns, limit.reset_ns)
        if model is not None:
            entry.spent[model] = limit
        elif limit.kind != PAUSE:
            entry.limit = limit

    def open_elsewhere(self, model: int, backends: Collection[int], now_ns: int) -> bool:
        """Whether a backend other than these takes prompts of a model now, as far as limits go."""
        others = (one for number, one in self._backends.items() if number not in backends and model in one.models)
        return any(one.closed_by(model, now_ns) is None and not one.is_avoided(model, now_ns) for one in others)

    def refused_everywhere(self, model: int, now_ns: int) -> bool:
        """Whether the last word of each backend that serves a model was that it had too many requests."""
        backends = self._backends.items()
        serving = [
            (number, one) for number, one in backends if model in one.models and not one.is_avoided(model, now_ns)
        ]
        return bool(serving) and all(
            self.refusals.is_refusing(number, model) or one.is_paused(model, now_ns) for number, one in serving
        )

    def opens_in_ns(self, model: int, now_ns: int) -> int | None:
        """Until the first of the backends of a model that a limit closes opens; None: nobody knows of any."""
        closing = (limit.reset_ns - now_ns for limit in self._closing(model, now_ns) if limit is not None)
        return min(closing, default=None)

    def tally(self, backend: int) -> Tally:
        """How often and how long a backend's limits have kept work waiting."""
        return self._backends.setdefault(backend, _Backend()).tally

    def tell(self, batch: Batch, now_ns: int) -> None:
        """Note on a batch the limits that its waiting prompts wait for."""
        if batch.unfinished <= batch.in_flight:
            return
        for limit in self._keeping_back(batch.models, now_ns):
            batch.note_limit(limit)
        own = batch.tenant.limit
        if own is not None and own.reset_ns > now_ns:
            batch.note_limit(own)

    def _keeping_back(self, models: Collection[int], now_ns: int) -> Iterator[Limit]:
        for model in models:
            closing = self._closing(model, now_ns)
            limits = [limit for limit in closing if limit is not None]
            if len(limits) == len(closing):
                yield from limits

    def _closing(self, model: int, now_ns: int) -> list[Limit | None]:
        """For each backend that serves a model: what closes it now, None for an open one."""
        serving = ((number, one) for number, one in self._backends.items() if model in one.models)
        return [one.closed_by(model, now_ns) or self._avoiding(number, model, now_ns) for number, one in serving]

    def _avoiding(self, backend: int, model: int, now_ns: int) -> Limit | None:
        """What keeps a model's prompts from a backend that they avoid: nothing does where no other one is up."""
        entry = self._backends[backend]
        others = (one for number, one in self._backends.items() if number != backend)
        if model not in entry.models or not entry.is_avoided(model, now_ns):
            return None
        return entry.avoided[model].limit if any(one.is_up_for(model, now_ns) for one in others) else None
