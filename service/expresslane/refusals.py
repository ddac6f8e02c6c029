"""Rate limits that providers enforce: for how long a model of a backend is left alone after each refusal."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from expresslane.retries import asked_ns

__all__ = ["Refusals"]

_DOUBLINGS_MAX = 32


@dataclass(frozen=True, slots=True)
class _Run:
    """Refusals without another answer in between: how many pauses so far, and the last of them (monotonic).

    `asked`: whether its end is what the backend asked for.
    """

    pauses: int
    begun_ns: int
    until_ns: int
    asked: bool


@dataclass(slots=True)
class Refusals:
    """The runs of refusals by (backend number, model number); bounded, since both are known models.

    A refusal that says for how long is believed, up to a day. One that does not is answered by `base_s`, twice as long
    for each pause of its run, at most `max_s`, with equal jitter (see `retries`). What was on its way when a pause
    began belongs to that pause: a burst of refusals does not make it grow.
    """

    random: random.Random = field(default_factory=random.Random)
    _runs: dict[tuple[int, int], _Run] = field(default_factory=dict)

    def refused(
        self,
        backend: int,
        model: int,
        *,
        started_ns: int,
        now_ns: int,
        asked_s: float | None,
        base_s: float,
        max_s: float,
    ) -> int:
        """An attempt that started at `started_ns` was refused.

        Returns until when to leave the model alone there, which may be past. `asked_s`: what the backend asks for, 0
        says nothing.
        """
        run = self._runs.get((backend, model))
        wanted_ns = asked_ns(asked_s)
        if run is not None and started_ns <= run.begun_ns:
            asked_until_ns = now_ns + wanted_ns if wanted_ns else 0
            if asked_until_ns >= run.until_ns:
                run = replace(run, until_ns=asked_until_ns, asked=True)
        else:
            pauses = run.pauses if run is not None else 0
            wait_ns = wanted_ns or self._own_ns(pauses, base_s, max_s)
            run = _Run(pauses + 1, now_ns, now_ns + wait_ns, wanted_ns > 0)
        self._runs[backend, model] = run
        return run.until_ns

    def answered(self, backend: int, model: int, started_ns: int) -> None:
        """An attempt was answered, and not refused: the run is over, unless it was on its way before the last pause.

        A 5xx is such an answer too: what follows is not the rate limit's doing.
        """
        run = self._runs.get((backend, model))
        if run is not None and started_ns > run.begun_ns:
            del self._runs[backend, model]

    def is_asked(self, backend: int, model: int) -> bool:
        """Whether the last pause is as long as the backend asked for, not as the service thinks best."""
        run = self._runs.get((backend, model))
        return run is not None and run.asked

    def is_refusing(self, backend: int, model: int) -> bool:
        """Whether the last word of a backend about a model was a refusal."""
        return (backend, model) in self._runs

    def _own_ns(self, pauses: int, base_s: float, max_s: float) -> int:
        bound_s = min(max_s, base_s * 2.0 ** min(pauses, _DOUBLINGS_MAX))
        return max(1, int((bound_s / 2 + self.random.uniform(0, bound_s / 2)) * 1e9))
