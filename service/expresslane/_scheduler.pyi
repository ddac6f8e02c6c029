"""The scheduling core: decides when each prompt is released and to which backend.

A sans-IO state machine written in Rust (crate `expresslane-scheduler`). It reads no clock, does no IO and starts no
threads: every method takes `now_ns`, monotonic nanoseconds, and `poll` returns what is to be done. One mutex guards the
state; Python is never called while it is held.

Units: tokens are estimated uncached input tokens, times are monotonic nanoseconds, a limit of 0 means "no such limit"
unless said otherwise. Models and backends are small integers given by the caller (`scheduling.py` interns the names).

A *ticket* is one prompt in the core. It ends exactly once: success, failed, cancelled or expired. An in-flight ticket
holds one slot (released by `finish`) and, where lanes are on, a share of a prefill lane (released by `first_token`, or
by `finish` when no first token came).
"""

from collections.abc import Sequence
from typing import Final, Self, final

__all__ = [
    "AboveLimitError",
    "BackendSnapshot",
    "BatchTooLargeError",
    "BreakerSnapshot",
    "CancelResult",
    "Decisions",
    "DrainRate",
    "Histogram",
    "InvalidConfigError",
    "Limited",
    "QueueFullError",
    "Ratio",
    "Scheduler",
    "SchedulerError",
    "Snapshot",
    "TenantLimitSnapshot",
    "TenantSnapshot",
    "UnknownTicketError",
    "fairness_modes",
    "policies",
    "token_bucket_edge",
]

__version__: Final[str]
debug_build: Final[bool]

class SchedulerError(Exception):
    """Base of everything this module raises."""

class InvalidConfigError(SchedulerError):
    """A policy name, limit or backend description that makes no sense; nothing was applied.

    Also an integer that is negative or too large, with the name of its field; times and numbers of tickets, batches,
    tenants and backends are not looked at this way: there it is an OverflowError.
    """

class BatchTooLargeError(SchedulerError):
    """The batch alone is larger than the queue, or would wait too long: it can never fit.

    `args = (message, bound)`; the bound is `queue_limit` or `queue_limit_ns`.
    """

class QueueFullError(SchedulerError):
    """The batch does not fit now, or would wait too long.

    `args = (message, retry_after_ns, bound)`: the time by measured rates; the bound is `queue_limit` or
    `queue_limit_ns`.
    """

class AboveLimitError(SchedulerError):
    """A prompt is larger than the tokens per minute of its tenant, or of every backend of its model.

    It could never be released; the message says whose limit it is.
    """

class UnknownTicketError(SchedulerError):
    """The ticket is not in the state that the call needs (already ended, or not in flight)."""

def policies() -> list[str]:
    """Names accepted as `policy`: edf, fcfs, hrrn, lars, ljf, sjf, sjf-aged."""

def fairness_modes() -> list[str]:
    """Names accepted as `fairness`: none, tenant, tenant_batch."""

def token_bucket_edge(tokens: int) -> int:
    """Upper edge of the token bucket that holds `tokens`: round(2^(k/5)), so every power of two is an edge."""

@final
class Limited:
    """Waiting work is kept back by this limit of a backend or of a tenant; told once until its reset."""

    @property
    def backend(self) -> int | None:
        """The backend to which nothing goes, unless it is a tenant's limit."""
    @property
    def model(self) -> int | None:
        """The only model of which nothing goes there, for `requests_left` and `tokens_left`; None for all others."""
    @property
    def tenant(self) -> int | None:
        """The tenant of which nothing goes anywhere, if it is a tenant's limit."""
    @property
    def limit(self) -> str:
        """`requests_per_min` or `tokens_per_min`; of a backend also `pause` or `breaker`.

        Of a model at a backend `requests_left` or `tokens_left`: its provider says that there are none, or too few.
        """
    @property
    def reset_at_ns(self) -> int:
        """When the next release is possible."""

@final
class Decisions:
    """What `poll` decided, in the order in which it is to be carried out within each list."""

    @property
    def dispatches(self) -> tuple[list[int], list[int], list[int]]:
        """Columns (tickets, backends, attempts) of one length: release each ticket to its backend now, in this order.

        Slot and lane share are already taken. attempt: 1 for the first release of a ticket, 2 for the first retry, ...
        """
    @property
    def expired(self) -> list[tuple[int, str]]:
        """(ticket, reason): this queued ticket has ended without being released; it is terminal.

        reason: `queue` (queue timeout), `batch` (the batch's deadline), `no_backend` (all its backends down too long).
        """
    @property
    def overdue(self) -> list[tuple[int, str]]:
        """(ticket, reason): this in-flight ticket passed a deadline; reported once per deadline.

        reason: `first_token`, `idle`, `attempt` or `batch`. Abort the attempt and `finish` it, or `rearm` it.
        """
    @property
    def limited(self) -> list[Limited]: ...

@final
class CancelResult:
    """Which tickets a cancel ended at once (`removed`) and which are in flight and must be aborted (`in_flight`)."""

    @property
    def removed(self) -> list[int]: ...
    @property
    def in_flight(self) -> list[int]: ...

@final
class Histogram:
    """A cumulative-since-start histogram kept by the core."""

    @property
    def name(self) -> str:
        """`queue_wait` (submit to first release), `ttft` (submit to first token) or `total` (submit to the end)."""
    @property
    def backend(self) -> int | None:
        """The backend of the (last) release; None for tickets that were never released."""
    @property
    def prompt_class(self) -> int: ...
    @property
    def bounds_s(self) -> list[float]:
        """Ascending upper bounds in seconds; `counts` has one more entry for what lies above the last."""
    @property
    def counts(self) -> list[int]: ...
    @property
    def sum_s(self) -> float: ...

@final
class Ratio:
    """How far an estimate was off, as estimated over actual values: a cumulative-since-start histogram."""

    @property
    def name(self) -> str:
        """`input_tokens` (a prompt's estimate over its usage) or `prefill` (predicted over measured, alone in it)."""
    @property
    def backend(self) -> int: ...
    @property
    def prompt_class(self) -> int: ...
    @property
    def bounds(self) -> list[float]:
        """Ascending upper bounds, 1 = exact; `counts` has one more entry for what lies above the last."""
    @property
    def counts(self) -> list[int]: ...
    @property
    def sum(self) -> float: ...

@final
class BackendSnapshot:
    @property
    def backend(self) -> int: ...
    @property
    def available(self) -> bool: ...
    @property
    def cap(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def peak_in_flight(self) -> int: ...
    @property
    def slot_ns(self) -> int:
        """Time that slots have been taken, summed over the slots: the integral of `in_flight` up to the last call."""
    @property
    def in_flight_by_model(self) -> list[tuple[int, int]]:
        """(model, in flight), ascending by model."""
    @property
    def max_loaded_models(self) -> int:
        """Most models in memory at once; 0 = no limit."""
    @property
    def loaded_models(self) -> list[int]:
        """Models in memory as far as releases tell, ascending; none where there is no limit."""
    @property
    def model_loads(self) -> int:
        """How often a model was loaded since start, as far as releases tell, where there is a limit."""
    @property
    def load_ns(self) -> float:
        """Expected time to load a model, in force."""
    @property
    def load_samples(self) -> int:
        """Loads whose time was measured since start; from 8 on their mean is expected."""
    @property
    def cap_by_model(self) -> list[tuple[int, int]]:
        """(model served, most in flight now), ascending: its own cap, the backend's, and less after a rate limit."""
    @property
    def long_in_prefill(self) -> int:
        """Long prompts released and still without a first token."""
    @property
    def short_tokens_in_prefill(self) -> int:
        """Charged tokens of short prompts released and still without a first token."""
    @property
    def outstanding_prefill_tokens(self) -> int: ...
    @property
    def long_slots(self) -> int:
        """Most long prompts in prefill, in force, beside no short ones; 0 = no limit. Left open: more beside many."""
    @property
    def short_budget_tokens(self) -> int:
        """Most charged tokens of short prompts in prefill, in force; 0 = no limit."""
    @property
    def prefill_ns(self) -> tuple[float, float, float]:
        """c0, c1, c2 in force: a prefill of n uncached tokens takes c0 + c1 n + c2 n^2 nanoseconds.

        Where no other is in prefill; beside the decodes that there mostly are, because a busy backend is never empty.
        """
    @property
    def prefill_samples(self) -> int:
        """Prompts that were alone in prefill since start, whatever was in decode; learned from when there are 8."""
    @property
    def decode_ns(self) -> float:
        """Expected time from the first token to the end, in force; 0 = not known."""
    @property
    def decode_samples(self) -> int:
        """Answers since start that had a first token; from 8 on the decode time is learned."""
    @property
    def limited(self) -> tuple[str, int] | None:
        """(limit, reset_at_ns) of what closes it, or one of its models, now: see `Limited`."""
    @property
    def requests_in_window(self) -> int:
        """Releases within the last minute, 0 when they are not limited."""
    @property
    def tokens_in_window(self) -> int:
        """Tokens of the releases within the last minute, 0 when they are not limited."""
    @property
    def breaker(self) -> BreakerSnapshot | None:
        """How its breaker stands, None without one."""
    @property
    def dispatched(self) -> int:
        """Releases since start, retries counted again."""
    @property
    def turned_away(self) -> int:
        """Attempts since start that a rate limit of the backend turned away."""
    @property
    def outcomes(self) -> dict[str, int]:
        """Ended attempts since start by `success`, `failed`, `retry`, `cancelled`, `expired`."""

@final
class BreakerSnapshot:
    """Whether a backend is left alone because it fails."""

    @property
    def state(self) -> str:
        """`closed` (it works), `open` (it is given nothing) or `half_open` (it is tried with a few prompts)."""
    @property
    def since_ns(self) -> int:
        """Since when it is in this state."""
    @property
    def half_open_at_ns(self) -> int | None:
        """When an open one is tried, None in other states."""
    @property
    def good(self) -> int:
        """Attempts within the window that succeeded, counted while closed."""
    @property
    def bad(self) -> int:
        """Attempts within the window that were blamed on the backend, counted while closed."""
    @property
    def opened(self) -> int:
        """How often it opened since start."""

@final
class TenantLimitSnapshot:
    """The limits and the retry budget of one tenant, over all classes."""

    @property
    def tenant(self) -> int: ...
    @property
    def requests_per_min(self) -> int:
        """Its limit, 0 = none."""
    @property
    def tokens_per_min(self) -> int:
        """Its limit, 0 = none."""
    @property
    def requests_in_window(self) -> int:
        """Releases within the last minute, 0 when they are not limited."""
    @property
    def tokens_in_window(self) -> int:
        """Tokens of the releases within the last minute, 0 when they are not limited."""
    @property
    def limited(self) -> tuple[str, int] | None:
        """(limit, reset_at_ns) of what keeps back its work now: see `Limited`."""
    @property
    def retries_allowed(self) -> int:
        """Retries that its budget allowed, for as long as it is remembered; 0 without `retry_ratio`."""
    @property
    def retries_denied(self) -> int:
        """Retries that its budget did not allow, for as long as it is remembered."""

@final
class TenantSnapshot:
    """What one tenant has and had in one class."""

    @property
    def tenant(self) -> int: ...
    @property
    def prompt_class(self) -> int: ...
    @property
    def weight(self) -> int:
        """Its share relative to the others."""
    @property
    def unfinished(self) -> int:
        """Tickets that have not ended."""
    @property
    def ready(self) -> int:
        """Those of them that could be released as far as they themselves are concerned."""
    @property
    def used_tokens(self) -> int:
        """What it was charged for ended attempts (uncached input + 2 x output), for as long as it is known."""

@final
class Snapshot:
    """A consistent copy of the counters. Always: submitted = sum of ended outcomes + queued + in_flight."""

    @property
    def policy(self) -> str: ...
    @property
    def queue_limit(self) -> int: ...
    @property
    def in_flight_limit(self) -> int: ...
    @property
    def queued(self) -> int:
        """All waiting tickets: in buckets, parked for a retry, or held."""
    @property
    def held(self) -> int:
        """The part of `queued` that a batch's horizon holds back (counted when met, see `hold_batch`)."""
    @property
    def retry_waiting(self) -> int:
        """The part of `queued` that waits for its `not_before`."""
    @property
    def in_flight(self) -> int: ...
    @property
    def queued_tokens(self) -> int: ...
    @property
    def queued_by_class(self) -> tuple[int, int, int]: ...
    @property
    def queued_by_model(self) -> list[tuple[int, int]]:
        """(model, queued), ascending by model, zeros left out."""
    @property
    def submitted(self) -> int: ...
    @property
    def succeeded(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def cancelled(self) -> int: ...
    @property
    def expired(self) -> int: ...
    @property
    def retried(self) -> int: ...
    @property
    def retries_denied(self) -> int:
        """Retries that a tenant's budget did not allow."""
    @property
    def refused(self) -> int:
        """Prompts of batches that were refused at submit."""
    @property
    def drain_rate_per_s(self) -> float:
        """Measured rate at which tickets end in any way, and so make room, 0.0 before anything has ended."""
    @property
    def finish_rate_per_s(self) -> float:
        """Measured rate at which tickets succeed or fail, 0.0 before the first."""
    @property
    def backends(self) -> list[BackendSnapshot]: ...
    @property
    def histograms(self) -> list[Histogram]: ...
    @property
    def ratios(self) -> list[Ratio]: ...

@final
class DrainRate:
    """How fast things end that the caller bounds itself, measured as the core measures its tickets."""

    def __new__(cls) -> Self: ...
    def record(self, now_ns: int, ended: int = 1) -> None:
        """So many more have ended."""

    def per_s(self, now_ns: int) -> float:
        """Ends per second, 0.0 before the first."""

    def retry_after_ns(self, now_ns: int, places: int) -> int:
        """Nanoseconds in which `places` more will have ended: from 0.1 to 60 s, 1 s while nothing is known."""

@final
class Scheduler:
    """The state machine. All methods are synchronous and return in microseconds."""

    def __new__(
        cls,
        *,
        policy: str = "hrrn",
        queue_limit: int = 200_000,
        queue_limit_ns: int = 0,
        in_flight_limit: int = 0,
        no_backend_timeout_ns: int = 10_000_000_000,
        max_wait_ns: int = 0,
        sjf_aging_tokens_per_s: float = 1_000.0,
        fairness: str = "tenant_batch",
        class_min_shares: Sequence[float] = ...,
        cost_includes_output: bool = False,
        retry_ratio: float = 0.0,
    ) -> Self:
        """Make an empty scheduler.

        `queue_limit`: most tickets waiting at once. `queue_limit_ns`: longest that one may be foreseen to wait when it
        is submitted, 0 = no limit. `in_flight_limit`: the global cap, 0 = none. `max_wait_ns`: a
        ticket that waited longer is promoted within its class, for at most 10 % of the released tokens; 0 = the
        policy's default (off for all but `sjf`, where it is 60 s). `sjf_aging_tokens_per_s`: for `sjf-aged`, how many
        tokens of size one second of waiting makes up for. `fairness`: among whom a class is shared before the policy
        orders: `tenant_batch` (tenants by weight; within a tenant its batches of more than 16 unfinished prompts, and
        all smaller ones together with a share each, ordered by the policy), `tenant`, or `none`. `class_min_shares`:
        the least share of the released tokens for each class while it has work that could go; 0 = strictly after the
        classes above it. `cost_includes_output`: whether policies that go by size count `output_tokens` too.
        `retry_ratio`: most retries of a tenant per first attempt of its, beside a burst of ten; 0 = no limit.

        Raises InvalidConfigError.
        """

    def update_backend(
        self,
        now_ns: int,
        backend: int,
        *,
        cap: int,
        models: Sequence[tuple[int, int]],
        max_loaded_models: int = 0,
        available: bool = True,
        absence_timeout_ns: int = 0,
        long_threshold_tokens: int = 16_384,
        long_slots: int | None = None,
        short_budget_tokens: int | None = None,
        lanes: bool = True,
        engine_step_tokens: int = 0,
        engine_chunk_tokens: int = 0,
        prefill_tokens_per_s: float = 5_000.0,
        first_token_timeout_ns: int = 0,
        idle_timeout_ns: int = 0,
        attempt_timeout_ns: int = 0,
        requests_per_min: int = 0,
        tokens_per_min: int = 0,
        breaker_error_ratio: float = 0.0,
        breaker_min_samples: int = 20,
        breaker_window_ns: int = 30_000_000_000,
        breaker_open_ns: int = 5_000_000_000,
        breaker_open_max_ns: int = 60_000_000_000,
        breaker_probes: int = 1,
        ramp: bool = False,
    ) -> None:
        """Add a backend or replace its description; what is in flight there stays, counted against the new limits.

        `cap`: most tickets in flight, at least 1. `models`: (model, cap within this backend or 0) for each model
        served. `max_loaded_models`: most models with tickets in flight at once, 0 = no limit; those that wait for a
        place take turns of 16,384 charged tokens or 32 releases. `absence_timeout_ns`: how long work waits for it while
        it is not `available`, where that is longer than `no_backend_timeout_ns`.

        `lanes` off switches long lane and short budget off. `long_threshold_tokens` is rounded up to a bucket
        edge: a prompt of more tokens is long (0 = none is). `long_slots`: most long prompts in prefill (0 = no limit).
        `short_budget_tokens`: most tokens of short prompts in prefill, each charged its bucket's edge, unless none is
        (0 = no limit). None: what follows from the engine and from what was learned of it. `engine_step_tokens`: most
        tokens in one of its steps; `engine_chunk_tokens`: most of one prompt in a step; 0 = unknown, none.
        `prefill_tokens_per_s` holds until the backend's own prefill times are learned.
        Timeouts start at release (`idle`: at the first token); 0 = none. A shrunk cap ends nothing: no ticket is
        released until in-flight is below it. `requests_per_min` and `tokens_per_min` (input and expected output) hold
        over any 60 seconds, counted at the release and settled by the usage given to `finish`; 0 = no limit. What waits
        for them keeps its order: a prompt that does not fit keeps later ones back.

        With a `breaker_error_ratio` above 0 (at most 1) the backend is left alone for `breaker_open_ns` when at least
        this part of the attempts that ended within `breaker_window_ns` were blamed on it (see `blame`), and at least
        `breaker_min_samples` succeeded or were blamed. Then as many prompts as `breaker_probes` try it: all must
        succeed or give a first token to close the breaker, one that is blamed opens it again, for twice as long each
        time up to `breaker_open_max_ns`. So does one without a first token or an end after four times of what its
        answer is expected to take, and at least 30 s (doubled each time that this was in vain, at most 600 s). Until it
        is closed the backend counts as down for `no_backend_timeout_ns`, but nothing expires while it is tried.

        `ramp`: once a ticket was `turned_away`, half as many of its model as were in flight there may be, one more for
        each round of as many successes, up to the caps.

        Raises InvalidConfigError.
        """

    def set_tenant_limits(
        self, now_ns: int, tenant: int, *, requests_per_min: int = 0, tokens_per_min: int = 0
    ) -> None:
        """Limit what is released of a tenant, in all classes together, over any 60 seconds; 0 = no limit.

        Each release counts as a request, a retry too, and as the tokens of its input and expected output until the
        real ones are known; an attempt that failed before its first token costs no tokens. A tenant at its limit waits
        as a whole, in its order: what is smaller does not pass a prompt that does not fit. Changes count at once.

        Raises InvalidConfigError (a negative limit; `fairness` is `none`; more than 65,536 tenants with limits).
        """

    def submit(
        self,
        now_ns: int,
        batch: int,
        prompts: Sequence[tuple[int, int, int, int, int, int, bool, int]],
        *,
        queue_timeout_ns: int = 0,
        deadline_ns: int = 0,
        tenant: int = 0,
        weight: int = 1,
        may_wait: bool = False,
    ) -> list[int]:
        """Queue all prompts or none, and return their tickets in the same order.

        prompts: (model, class, tokens, queue_timeout_ns, index, output_tokens, sequential, ttft_deadline_ns).
        Class: 0 interactive, 1 standard, 2 batch. A prompt's own queue timeout (0 = none) counts from now; the batch's
        `queue_timeout_ns` counts from when the prompt began to wait (submit, or a retry but after `turned_away`) and
        restarts whenever a released ticket of the batch ends, unless that was turned away. `index` is the prompt's
        place in its batch, ascending, what `hold_batch` goes by. `output_tokens`: expected output, for fairness and
        limits: its limit or a better estimate. `sequential`: it starts only when all earlier prompts of its batch have
        ended, and later ones wait for its end. `ttft_deadline_ns`: within which time from now its first token is
        wanted, for `lars` and `edf`; 0 = none.

        `deadline_ns` is absolute: then what is queued expires and what is in flight becomes overdue. `tenant`: whose
        batch it is, from its first submit until its last ticket has ended. `weight`: the tenant's share relative to
        others. `may_wait`: whether `queue_limit_ns` is left aside. A batch may be submitted to again (a stream of
        prompts): timeouts and weight given last count.

        Raises BatchTooLargeError, QueueFullError, AboveLimitError, InvalidConfigError (a class above 2, tokens above
        2^31).
        """

    def pause(self, now_ns: int, backend: int, *, until_ns: int, model: int | None = None) -> None:
        """Release nothing to a backend, or to one model of it, before `until_ns` (a Retry-After).

        The later of two pauses counts; a time that is past lifts them. Unknown numbers are ignored.
        """

    def avoid(self, now_ns: int, backend: int, *, model: int, until_ns: int) -> None:
        """Before `until_ns` a model's prompts go elsewhere while they can: a backend says that it runs none of them.

        They can while another backend that they may go to is up and not to be avoided too; busy, paused or at its
        limits it is waited for. The later of two times counts; one that is past lifts it. Unknown numbers are ignored.
        """

    def set_policy(
        self,
        now_ns: int,
        policy: str | None,
        *,
        prompt_class: int | None = None,
        model: int | None = None,
        sjf_aging_tokens_per_s: float = 1_000.0,
    ) -> None:
        """Order what waits and what comes by another policy from now on; no ticket leaves the queue.

        It counts for one model in one class, a model, a class, or (neither given) everything that has no policy of its
        own; the narrowest counts. None takes a scope's own policy back. Where policies meet in one flow, each finds
        the first of its own; of these the one that came first goes.

        Raises InvalidConfigError.
        """

    def poll(self, now_ns: int) -> Decisions:
        """Expire what is due, then release all that fits. Call it after any other call and at `next_deadline`."""

    def first_token(self, now_ns: int, ticket: int) -> bool:
        """The first token of an in-flight ticket has come: its lane share is free, its idle clock starts.

        Returns False, and changes nothing, when it had already come. Raises UnknownTicketError when not in flight.
        """

    def rearm(self, now_ns: int, ticket: int, reason: str, at_ns: int) -> None:
        """Replace one deadline of an in-flight ticket: `first_token`, `idle` or `attempt` is overdue at `at_ns`.

        Raises UnknownTicketError when not in flight, InvalidConfigError for another reason.
        """

    def blame(self, now_ns: int, ticket: int) -> None:
        """What has just happened to an in-flight ticket speaks against its backend; to be followed by its end.

        A refused connection, a 5xx, a time-out, a broken stream: never a 4xx, which is about the request or key, nor
        a 429, which asks for a pause. It counts once for each attempt, and not for a ticket that was cancelled.

        Raises UnknownTicketError when not in flight.
        """

    def turned_away(self, now_ns: int, ticket: int) -> None:
        """The backend has not taken an in-flight ticket because of a rate limit of its own; to be followed by its end.

        A retry after it costs the tenant's budget nothing and goes on with the wait that the release had interrupted.
        With `ramp` the model's concurrency there is halved, but for a ticket released before the last time that it was.

        Raises UnknownTicketError when not in flight.
        """

    def told(
        self,
        now_ns: int,
        ticket: int,
        *,
        requests: tuple[int, int, int] | None = None,
        tokens: tuple[int, int, int] | None = None,
    ) -> tuple[str, int] | None:
        """The answer to an in-flight ticket says what its backend has left for its model.

        Each is (left, the whole limit or 0 for not known, reset_at_ns). What was released there after the ticket is
        taken off: requests, and tokens by estimate until a usage is told. From then on nothing of the model goes there
        while less is left than the next prompt asks for, besides all other limits. The reset lifts it: then the whole
        limit is left, if it is known, until the next answer says more or nothing is in flight; what is above the whole
        limit goes alone then. Of two answers that of the later released ticket counts; the other may narrow what is
        left.

        Returns (limit, reset_at_ns) of what closes the model there by now, None for nothing or where that is not known.
        Raises UnknownTicketError when not in flight.
        """

    def move_on(self, now_ns: int, ticket: int) -> None:
        """A failure of its backend has ended the attempt of an in-flight ticket; to be followed by `retry`.

        The next attempt, and only that, goes elsewhere while another backend of the model is open: available, its
        breaker closed, the model not paused or to be avoided there, something left of its provider's limits. Where none
        is, it may go to the same one again.

        Raises UnknownTicketError when not in flight.
        """

    def not_run(self, now_ns: int, ticket: int) -> None:
        """The backend has run nothing of an in-flight ticket and never will; to be told before its `retry`.

        That retry costs its tenant's retry budget nothing if it excludes the backend.

        Raises UnknownTicketError when not in flight.
        """

    def retry(
        self, now_ns: int, ticket: int, *, not_before_ns: int, exclude_backend: bool = False, asked: bool = False
    ) -> str:
        """The attempt of an in-flight ticket is over and there shall be another.

        The ticket goes back to the queue with its arrival time, off-slot, to be released from `not_before_ns` on; with
        `exclude_backend` never again on the backend that just had it. With `asked` it is the backend that wants it to
        wait, which is no time in the queue: its queue timeout counts from `not_before_ns` on, and so does that of its
        batch, until what is released after that wait is asked to wait again and none has ended.

        Returns `queued`, or why not: `no_other_backend` (available or not, serves the model), `past_deadline` (its
        batch's, its own for the queue, or without `asked` the queue timeout where it is the last of its batch),
        `budget_exhausted` (its tenant's retry budget) or `cancelled` (meanwhile). Then nothing has changed, and the
        caller ends it with `finish`. Raises UnknownTicketError.
        """

    def finish(self, now_ns: int, ticket: int, outcome: str, *, usage: tuple[int, int, int] | None = None) -> None:
        """An in-flight ticket ends: its slot and lane share are released, exactly once.

        outcome: `success`, `failed`, `cancelled` or `expired`. usage: (uncached input, cached input, output) tokens if
        known, also of an attempt that failed: the tenant is charged that instead of the estimate, without what was
        cached; limits of tokens per minute count all of it. Without it a failure before the first token is free, and a
        cancel or expiry before it costs the input only.

        Raises UnknownTicketError, InvalidConfigError.
        """

    def cancel(self, now_ns: int, ticket: int) -> CancelResult:
        """Cancel one ticket. A ticket that has ended gives an empty result: cancelling twice is no error."""

    def cancel_batch(self, now_ns: int, batch: int) -> CancelResult:
        """Cancel all tickets of a batch; an unknown batch gives an empty result."""

    def hold_batch(self, now_ns: int, batch: int, horizon: int) -> None:
        """Release only the batch's prompts numbered below `horizon` (a slow reader, a reorder window).

        When it moves, the batch's queue timeout restarts: its prompts waited for their reader, not in the queue.
        It counts until the batch has no tickets left. Before the batch's first submit it counts from then on; that is
        remembered for 1,024 batches, the lowest numbers are forgotten first.
        """

    def release_batch(self, now_ns: int, batch: int) -> None:
        """Lift the horizon."""

    def refuse(self, now_ns: int, prompts: int, places: int) -> int:
        """Count a batch that a bound of the caller's keeps out of the queue, in `Snapshot.refused`.

        Returns the nanoseconds in which `places` tickets will have ended at the measured rate: from 0.1 to 60 s, 1 s
        while nothing is known.
        """

    def queue_room(self) -> int:
        """How many more tickets may wait now."""

    def next_deadline(self) -> int | None:
        """When `poll` must be called next if nothing else happens; may change after any other call."""

    def tripped_breakers(self) -> dict[int, BreakerSnapshot]:
        """The breakers that are not closed, by backend, as of the last call that carried a time. Raises nothing.

        As `snapshot` tells of them, but for the price of a look at each backend: for what is asked of each refusal.
        """

    def tenants(self) -> list[TenantSnapshot]:
        """The tenants with unfinished tickets, and those whose service is still remembered; by class, then number."""

    def tenant_limits(self) -> list[TenantLimitSnapshot]:
        """The tenants that have limits, or a retry budget that is remembered; by number."""

    def snapshot(self) -> Snapshot: ...
