"""The service without gRPC and HTTP: the real core, driver, dispatch and fleet over scripted backends in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from expresslane import _scheduler
from expresslane.backends.base import Answer, Backend, Call, Capabilities, Discovery
from expresslane.batches.batch import Batch, BatchOptions
from expresslane.batches.held import Amount, Bounds
from expresslane.dispatch import Dispatcher
from expresslane.fleet import Fleet
from expresslane.intake import Intake
from expresslane.models import ModelRegistry
from expresslane.prompts import Deadlines, Prompt, RequestOptions
from expresslane.retries import RetryPolicy
from expresslane.scheduling import Scheduling
from expresslane.settings import BackendSettings, TenantDefaults, TenantSettings
from expresslane.telemetry.spans import Tracer
from expresslane.tenants import Tenants
from expresslane.token_estimates import TokenEstimates

from tests.support.virtual_time import now_ns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from expresslane.batches.summary import Summary
    from expresslane.errors import BackendError
    from expresslane.results import Result

__all__ = ["Play", "ScriptedBackend", "World", "drain", "prompt", "say", "second"]

SECOND = 10**9
NONE = Deadlines()
Play = Callable[[Call, Answer], Awaitable[None]]


async def say(call: Call, answer: Answer) -> None:
    """Answer at once with the prompt's own text, so that a mix-up shows."""
    assert isinstance(call.prompt.content, str)
    answer.push(f"echo {call.prompt.content}")


def second(seconds: float) -> Play:
    """Answer after so many virtual seconds."""

    async def play(call: Call, answer: Answer) -> None:
        await asyncio.sleep(seconds)
        await say(call, answer)

    return play


class ScriptedBackend(Backend):
    """Plays what a test says, one play a call, then `default`; records calls, what is in flight, its peak, cancels."""

    def __init__(self, backend_id: str = "b", *, default: Play = say, **capabilities: Any) -> None:
        super().__init__(backend_id)
        plain = {"can_run_concurrently": True, "default_cap": 10, "engine": False, "streams": True}
        self.capabilities = Capabilities(**(plain | {"reports_usage": True, "prefix_cache": False} | capabilities))
        self.default = default
        self.plays: list[Play] = []
        self.calls: list[Call] = []
        self.in_flight = 0
        self.peak = 0
        self.cancelled = 0
        self.discovery: Discovery | BackendError = Discovery()
        self.discoveries = 0

    @property
    def asked(self) -> list[str]:
        """custom_ids in the order in which they were released here."""
        return [call.prompt.custom_id for call in self.calls]

    async def generate(self, call: Call, answer: Answer) -> None:
        """Play the next script."""
        self.calls.append(call)
        play = self.plays.pop(0) if self.plays else self.default
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await play(call, answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def discover(self) -> Discovery:
        """What the test says it serves."""
        self.discoveries += 1
        if isinstance(self.discovery, Discovery):
            return self.discovery
        raise self.discovery


def prompt(
    custom_id: str,
    text: str = "",
    *,
    model: str = "m",
    deadlines: Deadlines = NONE,
    sequential: bool = False,
    raw: bool = False,
) -> Prompt:
    """A prompt."""
    options = RequestOptions(deadlines=deadlines)
    return Prompt(custom_id, model, text or custom_id, raw=raw, options=options, sequential=sequential)


class World:
    """`async with World(ScriptedBackend()) as world:` on a virtual loop. Each backend serves the model `m`."""

    def __init__(
        self,
        *backends: ScriptedBackend,
        settings: dict[str, Any] | None = None,
        retries: RetryPolicy | None = None,
        max_open_batches: int = 100,
        registry: ModelRegistry | None = None,
        tenants: dict[str, TenantSettings] | None = None,
        tenant_defaults: TenantDefaults | None = None,
        unread_bounds: Bounds | None = None,
        **core: Any,
    ) -> None:
        plain = {"kind": "openai", "url": "http://127.0.0.1:1", "models": (("m", "m"),), "attempt_timeout_s": 600.0}
        described = BackendSettings.model_validate(plain | (settings or {}))
        self.backends = backends
        self.registry = registry or ModelRegistry(default="", aliases={}, wildcard="")
        self.fleet = Fleet({one.id: (one, described) for one in backends}, self.registry, refresh_s=60, probe_s=1)
        self.core = _scheduler.Scheduler(**core)
        self.scheduling = Scheduling(
            self.core,
            queue_timeout_s=300,
            backend_name=lambda number: self.fleet.members[number].id,
            clock=now_ns,
        )
        self.tenants = Tenants(
            tenants,
            tenant_defaults,
            put_in_force=self.scheduling.limit_tenant,
            unread_bounds=unread_bounds or Bounds(),
            readers_moved=self.scheduling.readers_moved,
            clock=now_ns,
        )
        self.estimates = TokenEstimates()
        policy = retries or RetryPolicy(attempts=3, base_s=0.5, cap_s=30)
        self.dispatcher = Dispatcher(self.scheduling, self.fleet, policy, estimates=self.estimates, clock=now_ns)
        self.intake = Intake(
            self.scheduling,
            self.registry,
            Tracer(),
            max_open_batches=max_open_batches,
            tenants=self.tenants,
            estimates=self.estimates,
            clock=now_ns,
        )

    async def __aenter__(self) -> Self:
        self.scheduling.start(self.dispatcher)
        await self.fleet.start(self.scheduling.apply, self.scheduling.refuse_models)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.intake.stop_all("the test is over")
        await self.dispatcher.settled()
        self.scheduling.stop()
        await self.fleet.close()
        if kind is None:
            now = self.scheduling.snapshot()
            ended = now.succeeded + now.failed + now.cancelled + now.expired
            assert (now.queued, now.in_flight, ended) == (0, 0, now.submitted), "a ticket was lost or ended twice"
            assert self.intake._held.total == Amount(), "a prompt was not given back"

    def submit(self, prompts: Sequence[Prompt], *, is_open: bool = False, **options: Any) -> Batch:
        """Accept a batch; `options` are those of BatchOptions."""
        batch = self.intake.open(BatchOptions("r", **options), method="Test", prompts=len(prompts), is_open=is_open)
        self.intake.accept(batch, [(one, len(str(one.content))) for one in prompts])
        return batch

    async def run(self, prompts: Sequence[Prompt], **options: Any) -> tuple[list[Result], Summary]:
        """Run a batch to its end: results as they were delivered, and the summary."""
        batch = self.submit(prompts, **options)
        results = await drain(self, batch)
        self.intake.close(batch)
        return results, batch.summary()

    async def one(self, deadlines: Deadlines = NONE) -> Result:
        """Run one prompt to its end."""
        results, _ = await self.run([prompt("a", deadlines=deadlines)])
        assert len(results) == 1
        return results[0]


async def drain(world: World, batch: Batch, count: int = 10**9) -> list[Result]:
    """Read a batch's results, as its caller would, until it is over or there are `count`."""
    results: list[Result] = []
    outbox = batch.outbox
    outbox.written()
    while len(results) < count and not (outbox.closed and outbox.empty):
        await outbox.wait(86_400)
        results += outbox.take().results
        outbox.written()
        world.scheduling.reader_moved(batch)
    return results
