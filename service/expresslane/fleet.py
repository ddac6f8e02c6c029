"""The backends as they are now: switch, caps, models, slots, availability; each change is told to the core."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from yarl import URL

from expresslane.errors import BackendError, Reason, RefusedError
from expresslane.masking import masked
from expresslane.settings import BackendSettings
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from expresslane.backends.base import Backend, Capabilities
    from expresslane.errors import PromptError
    from expresslane.models import ModelRegistry
    from expresslane.settings import BackendSettings

__all__ = ["Change", "Fleet", "Member"]

log = structlog.get_logger(__name__)

DISCOVERY_TIMEOUT_S = 10.0
START_WAIT_S = 2.0
_DOWN = frozenset({Reason.BACKEND_UNREACHABLE, Reason.BACKEND_DISCONNECTED})


@dataclass(slots=True)
class Member:
    """One backend and what may change about it at runtime. `models`: name callers use -> backend's own name.

    `cap_is_set`: the cap was configured or set at runtime, and discovery leaves it alone. `refusals`: how it last
    refused the key or for a spent quota, under the empty name, or a model, under the model's; never in its own words,
    which may quote a caller's prompt. `unlisted`: why it does not list its models; `unlisted_reason`: the same
    in few words, none of them the backend's.
    """

    number: int
    id: str
    adapter: Backend
    settings: BackendSettings
    enabled: bool
    cap: int
    cap_is_set: bool = False
    requests_per_min: int = 0
    tokens_per_min: int = 0
    models: dict[str, str] = field(default_factory=dict)
    slots: int = 0
    available: bool = True
    reached: bool = False
    trouble: str = ""
    unlisted: str = ""
    unlisted_reason: str = ""
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def capabilities(self) -> Capabilities:
        """What its kind can do."""
        return self.adapter.capabilities

    @property
    def can_run_concurrently(self) -> bool:
        """Whether requests can run side by side: the kind can, and it reports several slots or the cap is set."""
        return self.capabilities.can_run_concurrently and (self.slots != 1 or self.cap_is_set)

    @property
    def effective_cap(self) -> int:
        """The cap in force: one at a time while the switch is off or where it cannot be on."""
        return self.cap if self.enabled and self.can_run_concurrently else 1

    @property
    def lanes(self) -> bool:
        """Whether long lane and short budget are on."""
        return self.capabilities.engine if self.settings.lanes is None else self.settings.lanes

    @property
    def ramp(self) -> bool:
        """Whether fewer prompts of a model run at once after a rate limit."""
        return not self.capabilities.engine if self.settings.rate_limit_ramp is None else self.settings.rate_limit_ramp

    @property
    def streams(self) -> bool:
        """Whether its answers come as a stream, so that a first token can be seen."""
        return self.capabilities.streams and self.settings.streaming

    @property
    def attempt_timeout_s(self) -> float:
        """Longest attempt, from release."""
        return self.settings.attempt_timeout_s or self.capabilities.attempt_timeout_s

    @property
    def is_silent(self) -> bool:
        """Whether it answers, and no model of it is known."""
        return self.reached and not self.models

    @property
    def public_url(self) -> str:
        """The URL without credentials."""
        url = URL(self.settings.url) if self.settings.url else None
        return masked(str(url.with_user(None))) if url is not None else ""

    def own_name(self, model: str) -> str:
        """The backend's own name for a model."""
        return self.models.get(model, model)

    def notices(self) -> list[str]:
        """What an operator should know."""
        notices = []
        if not self.available:
            notices.append(f"unavailable: {self.trouble}")
        notices += [
            f"refuses {f'the model {name!r}' if name else 'prompts'}: {what}" for name, what in self.refusals.items()
        ]
        if self.unlisted:
            notices.append(f"does not list its models: {self.unlisted}")
        if self.slots and self.effective_cap > self.slots:
            notices.append(
                f"cap {self.effective_cap} is above the {self.slots} parallel slots that the backend reports: "
                "the rest waits inside the backend, where ordering cannot help"
            )
        if self.cap_is_set and self.enabled and self.cap > self.effective_cap:
            notices.append(f"cap {self.cap} is not in force: this kind of backend runs one request at a time")
        if self.is_silent:
            notices.append(f"no model is known: name them in {environment_name(f'backends.{self.id}.models')}")
        if self.capabilities.simulated:
            notices.append("SIMULATED: answers are made up")
        return notices


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a backend; None: nothing. A cap is from 1 to 100,000, a limit of 0 is none."""

    enabled: bool | None = None
    cap: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None


_CHANGEABLE = ("enabled", "cap", "cap_is_set", "requests_per_min", "tokens_per_min")


class Fleet:
    """All backends. Every change is told to the core: the member, and (model number, its cap or 0) for each model."""

    def __init__(
        self,
        adapters: Mapping[str, tuple[Backend, BackendSettings]],
        registry: ModelRegistry,
        *,
        wildcard: str = "",
        refresh_s: float = 60.0,
        probe_s: float = 1.0,
    ) -> None:
        self.registry = registry
        self._wildcard = wildcard
        self._refresh_s = refresh_s
        self._probe_s = probe_s
        self._tell: Callable[[Member, list[tuple[int, int]]], None] = lambda *_: None
        self._refuse: Callable[[Mapping[str, PromptError]], None] = lambda _: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing: set[str] = set()
        self.members = [
            self._member(number, adapter, settings)
            for number, (_, (adapter, settings)) in enumerate(sorted(adapters.items()))
        ]
        self._by_id = {member.id: member for member in self.members}
        self._publish()

    @staticmethod
    def _member(number: int, adapter: Backend, settings: BackendSettings) -> Member:
        cap = settings.cap or adapter.capabilities.default_cap
        enabled = settings.concurrency is not False
        models = dict(settings.models)
        return Member(
            number,
            adapter.id,
            adapter,
            settings,
            enabled,
            cap,
            cap_is_set=settings.cap is not None,
            requests_per_min=settings.requests_per_min,
            tokens_per_min=settings.tokens_per_min,
            models=models,
        )

    async def start(
        self,
        tell: Callable[[Member, list[tuple[int, int]]], None],
        refuse: Callable[[Mapping[str, PromptError]], None],
    ) -> None:
        """Open every adapter and ask all backends at once. Waits a little for their answers, which may come later.

        `refuse` is told the models that prompts wait for and that nobody serves after all.
        """
        self._tell = tell
        self._refuse = refuse
        for member in self.members:
            await member.adapter.start()
            self._apply(member)
        first = [self._spawn(self._refresh(member)) for member in self.members]
        await asyncio.wait(first, timeout=START_WAIT_S)
        for member in self.members:
            if not member.capabilities.simulated:
                self._spawn(self._keep_fresh(member))

    async def close(self) -> None:
        """Stop the background work and close every adapter."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in self.members:
            await member.adapter.close()

    def get(self, backend_id: str) -> Member:
        """The member with this id. Raises RefusedError (UNKNOWN_BACKEND)."""
        member = self._by_id.get(backend_id)
        if member is None:
            known = ", ".join(f"backends/{known}" for known in self._by_id)
            raise RefusedError(Reason.UNKNOWN_BACKEND, f"there is no backends/{backend_id[:256]}; there are {known}")
        return member

    def update(self, member: Member, change: Change) -> None:
        """Change a backend, all of it or nothing; what is in flight goes on.

        Raises RefusedError (CONCURRENCY_UNSUPPORTED, INVALID_FIELD).
        """
        if change.enabled:
            self._check_concurrency(member, with_cap=change.cap is not None)
        before = {name: getattr(member, name) for name in _CHANGEABLE}
        if change.cap is not None:
            member.cap_is_set, member.cap = True, change.cap
        for name in ("enabled", "requests_per_min", "tokens_per_min"):
            if (value := getattr(change, name)) is not None:
                setattr(member, name, value)
        try:
            self._apply(member)
        except RefusedError:
            for name, value in before.items():
                setattr(member, name, value)
            raise

    @staticmethod
    def _check_concurrency(member: Member, *, with_cap: bool) -> None:
        able = member.capabilities.can_run_concurrently if with_cap else member.can_run_concurrently
        if not able:
            raise RefusedError(
                Reason.CONCURRENCY_UNSUPPORTED,
                f"backends/{member.id} ({member.settings.kind}, parallel slots reported: {member.slots}) runs one "
                f"request at a time; give it more slots, or set {environment_name(f'backends.{member.id}.cap')}",
            )

    def unreachable(self, member: Member, error: BackendError) -> None:
        """A connection failed: release nothing there until a probe succeeds."""
        if member.available:
            member.available = False
            member.trouble = error.message
            log.warning("backend unavailable", backend=member.id, error=error.message)
            self._publish()
            self._apply(member)
        if member.id not in self._probing:
            self._probing.add(member.id)
            self._spawn(self._probe(member))

    @staticmethod
    def refused(member: Member, error: BackendError, model: str = "") -> None:
        """A backend refuses the service's key, or says that it has no such model: noted until it answers again."""
        member.refusals[model] = _named(error)

    @staticmethod
    def answered(member: Member, model: str, *, raw: bool) -> None:
        """A prompt was answered there: what was refused before is no longer, but for chats where it was a raw one."""
        if member.refusals:
            member.refusals.pop("", None)
            if not raw:
                member.refusals.pop(model, None)

    async def _probe(self, member: Member) -> None:
        try:
            while not member.available:
                await asyncio.sleep(self._probe_s)
                await self._refresh(member)
        finally:
            self._probing.discard(member.id)

    async def _keep_fresh(self, member: Member) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self._refresh(member)

    async def _refresh(self, member: Member) -> None:
        try:
            async with asyncio.timeout(DISCOVERY_TIMEOUT_S):  # wait_for can lose the cancel that `close` sends
                discovery = await member.adapter.discover()
        except TimeoutError:
            if not (member.reached or member.settings.models):
                reason = f"no answer within {DISCOVERY_TIMEOUT_S:g} s when asked for its models"
                self.unreachable(member, BackendError(Reason.BACKEND_UNREACHABLE, reason))
            return
        except BackendError as error:
            ready = member.reached and member.available
            if error.reason in _DOWN or (error.reason is Reason.BACKEND_OVERLOADED and not ready):
                self.unreachable(member, error)
            else:
                # Not even a 401 makes it unavailable: some keys are for prompts alone. Prompts will show (its breaker).
                member.unlisted, member.unlisted_reason = error.message, _named(error)
                if not ready:
                    log.warning("backend does not list its models", backend=member.id, error=error.message)
                    self._reach(member)
            return
        member.unlisted = member.unlisted_reason = ""
        if not member.settings.models:
            member.models = {name: name for name in discovery.models}
            member.refusals = {
                name: what for name, what in member.refusals.items() if not name or name in member.models
            }
        if discovery.slots:
            if discovery.slots != member.slots and member.cap_is_set:
                self._warn_cap(member, discovery.slots)
            member.slots = discovery.slots
            if not member.cap_is_set:
                member.cap = discovery.slots
        self._reach(member)

    @staticmethod
    def _warn_cap(member: Member, slots: int) -> None:
        if member.effective_cap > slots:
            log.warning("cap above the backend's slots", backend=member.id, cap=member.effective_cap, slots=slots)

    def _reach(self, member: Member) -> None:
        if not member.available:
            log.info("backend available again", backend=member.id)
        member.available = True
        member.reached = True
        member.trouble = ""
        self._publish()
        self._apply(member)

    def _publish(self) -> None:
        served: dict[str, float] = {}
        for member in self.members:
            for name in member.models:
                served.setdefault(name, member.settings.bytes_per_token)
        unreached = {m.id: m.trouble for m in self.members if not m.reached and not m.settings.models}
        silent = {m.id: m.unlisted_reason for m in self.members if m.is_silent}
        wildcard = self._by_id[self._wildcard].settings.bytes_per_token if self._wildcard else 0.0
        if refused := self.registry.update(served, unreached, silent, wildcard_bytes_per_token=wildcard):
            self._refuse(refused)

    def _apply(self, member: Member) -> None:
        caps = member.settings.model_caps
        models = [(self.registry.number(name), caps.get(name, 0)) for name in member.models]
        if member.id == self._wildcard:
            models.append((self.registry.wildcard_number, 0))
        self._tell(member, models)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _named(error: BackendError) -> str:
    """What kind of error it is, without words of the backend's."""
    return f"{error.reason} (HTTP {error.http_status})" if error.http_status else str(error.reason)
