"""Why nothing takes a prompt: the backends of its model, each with the state that it was last seen in."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from expresslane.masking import masked
from expresslane.models import MAX_SILENT
from expresslane.retries import plain_seconds
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from expresslane._scheduler import BreakerSnapshot
    from expresslane.batches.ticket import Ticket
    from expresslane.errors import Reason
    from expresslane.fleet import Member

__all__ = ["Serving"]

MAX_BACKENDS = 8
MAX_MODELS = 4
MAX_MODEL_CHARS = 256
MAX_TROUBLE_CHARS = 300
MAX_MASKED_CHARS = 2_048


class Serving:
    """Which backend serves which models, be it up or down. `tripped`: the breakers that are not closed, by backend."""

    def __init__(self) -> None:
        self._members: dict[int, tuple[Member, frozenset[int]]] = {}

    def note(self, member: Member, models: Iterable[int]) -> None:
        """A backend serves the models with these numbers now, as far as it is known."""
        self._members[member.number] = member, frozenset(models)

    def elsewhere(self, model: int, backend: int) -> bool:
        """Whether a backend other than this one serves a model, be it up or down."""
        return any(number != backend and model in models for number, (_, models) in self._members.items())

    def why_not(self, ticket: Ticket, tripped: Mapping[int, BreakerSnapshot], now_ns: int) -> str:
        """The model of a prompt that nothing took, and how those stand that serve it, or may."""
        excluded = {one.backend: one.reason for one in ticket.history if one.excluded}
        return self._standing(ticket.model_number, ticket.prompt.model, tripped, now_ns, excluded)

    def patience(self, ticket: Ticket) -> str:
        """The settings that say how long a prompt may wait without a backend."""
        settings = ["EXPRESSLANE_NO_BACKEND_TIMEOUT_S"]
        for member, models in self._members.values():
            if ticket.model_number in models and member.reached and not member.available:
                settings.append(environment_name(f"backends.{member.id}.absence_timeout_s"))
        more = len(settings) - 1 - MAX_BACKENDS
        named = " or ".join(settings[: MAX_BACKENDS + 1]) + (f" or {more} more" if more > 0 else "")
        return f"{named}, whichever is longest," if len(settings) > 1 else named

    def why_none(self, models: Mapping[int, str], tripped: Mapping[int, BreakerSnapshot], now_ns: int) -> str | None:
        """How the backends of these models (number -> name) stand, where none of them is open; None if one is."""
        for member, served in self._members.values():
            if member.available and member.number not in tripped and not served.isdisjoint(models):
                return None
        told = [self._standing(*model, tripped, now_ns, {}) for model in islice(models.items(), MAX_MODELS)]
        return "; ".join([*told, *([f"and {len(models) - MAX_MODELS} more"] if len(models) > MAX_MODELS else [])])

    def _standing(
        self,
        model: int,
        name: str,
        tripped: Mapping[int, BreakerSnapshot],
        now_ns: int,
        excluded: Mapping[str, Reason],
    ) -> str:
        known = self._members.values()
        serving = [member for member, models in known if model in models]
        asked = serving or [member for member, _ in known if not member.reached]
        told = [
            f"backends/{one.id}: {_left_out(one, excluded) or _state(one, tripped.get(one.number), now_ns)}"
            for one in asked[:MAX_BACKENDS]
        ]
        if not serving:
            told.insert(0, "no backend has listed it so far")
        if len(asked) > MAX_BACKENDS:
            told.append(f"and {len(asked) - MAX_BACKENDS} more")
        if not serving:
            told += _silent(member for member, _ in known)
        return f"{name[:MAX_MODEL_CHARS]!r}: {'; '.join(told)}"


def _silent(known: Iterable[Member]) -> list[str]:
    """Those that may serve any model and do not say so, a few of them, where it is known why."""
    silent = (one for one in known if one.is_silent and one.unlisted_reason)
    told = [f"backends/{one.id}: no list of models ({one.unlisted_reason})" for one in silent]
    more = [f"and {len(told) - MAX_SILENT} more without one"] if len(told) > MAX_SILENT else []
    return told[:MAX_SILENT] + more


def _left_out(member: Member, excluded: Mapping[str, Reason]) -> str:
    reason = excluded.get(member.id) if member.available else None
    return f"the prompt's attempt there ended in {reason}, and it is not sent there again" if reason else ""


def _state(member: Member, breaker: BreakerSnapshot | None, now_ns: int) -> str:
    if not member.available:
        return _shown(member.trouble) or "unavailable"
    refused = f", prompts were refused ({member.refusals['']})" if "" in member.refusals else ""
    if breaker is None:
        return f"available{refused}"
    if breaker.half_open_at_ns is None:
        return "breaker half open, being tried"
    samples = breaker.good + breaker.bad
    failed = f", {breaker.bad} of {samples} attempts failed" if samples else ""
    tried = plain_seconds(max(0, breaker.half_open_at_ns - now_ns))
    return f"breaker open{failed}{refused}, tried again in {tried} s"


def _shown(trouble: str) -> str:
    return masked(trouble[:MAX_MASKED_CHARS])[:MAX_TROUBLE_CHARS]
