"""The composition root: builds everything from the settings, and owns the order of start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from expresslane import __version__, _scheduler, memory
from expresslane.arrivals import Arrivals
from expresslane.auth.access import Access
from expresslane.backends.factory import make_backend
from expresslane.batches.held import Bounds
from expresslane.clock import Clock, monotonic_ns
from expresslane.config import load
from expresslane.dispatch import Dispatcher
from expresslane.errors import ConfigError
from expresslane.fleet import Fleet
from expresslane.handshakes import Handshakes
from expresslane.holdings import Holds
from expresslane.intake import Intake
from expresslane.interceptors.auth import AuthInterceptor
from expresslane.interceptors.observe import ObserveInterceptor
from expresslane.interceptors.open_calls import OpenCalls
from expresslane.interceptors.open_methods import OpenMethods
from expresslane.jobs import JobStore
from expresslane.kept_batches import KeptBatches
from expresslane.models import ModelRegistry
from expresslane.policies import Scope
from expresslane.refused import Refused
from expresslane.reloading import Reloader
from expresslane.retries import RetryPolicy
from expresslane.scheduling import Scheduling
from expresslane.server import Server
from expresslane.servicers.admin import AdminServicer
from expresslane.servicers.inference import InferenceServicer
from expresslane.servicers.jobs import JobsServicer
from expresslane.session_places import SessionPlaces, sessions_limit_bytes
from expresslane.telemetry.endpoint_secrets import endpoint_secrets
from expresslane.telemetry.log_stream import LogStream
from expresslane.telemetry.logs import configure_logs, log_loop_errors
from expresslane.telemetry.metrics import Metrics
from expresslane.telemetry.setup import Telemetry
from expresslane.tenants import Tenant, Tenants
from expresslane.tls import Tls
from expresslane.token_estimates import TokenEstimates

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from expresslane.config import Configuration
    from expresslane.settings import Settings

__all__ = ["App", "serve"]

EXIT_OK = 0
EXIT_CONFIG = 2
TOLD_S = 1.5
"""How long calls may still be read after the grace, when everybody has been told in-band: longer than a session's last
words, so that a caller that has its summary is not cut."""
CUT_S = 1.0
"""The same after they were cut."""

ADMIN_READ_AT_ONCE = 4
"""Messages to Admin, which must not wait behind those of callers."""

log = structlog.get_logger("expresslane")


class App:
    """One running service, all of it in one process on one event loop.

    `clock` is what everything that decides goes by; another one than the default goes with a loop of its time.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, *, clock: Clock = monotonic_ns) -> None:
        self.settings = settings
        self.telemetry = telemetry
        registry = ModelRegistry(
            default=settings.default_model, aliases=settings.aliases, wildcard=settings.wildcard_backend
        )
        adapters = {
            name: (make_backend(name, backend, max_answer_bytes=settings.max_answer_bytes), backend)
            for name, backend in settings.backends.items()
        }
        self.fleet = Fleet(
            adapters,
            registry,
            wildcard=settings.wildcard_backend,
            refresh_s=settings.model_refresh_s,
            probe_s=settings.probe_interval_s,
        )
        self.scheduling = Scheduling(
            _core(settings),
            queue_timeout_s=settings.queue_timeout_s,
            backend_name=self._backend_name,
            clock=clock,
        )
        tenants = Tenants(
            settings.tenants,
            settings.tenant_defaults,
            self.scheduling.limit_tenant,
            unread_bounds=Bounds(settings.unread_limit_results, settings.unread_limit_bytes),
            readers_moved=self.scheduling.readers_moved,
            bounds_moved=self._bounds_moved,
            clock=clock,
        )
        for text, policy in settings.policies.items():
            scope = Scope.parse(text)
            self.scheduling.set_policy(scope, policy, registry.number(scope.model) if scope.model else None)
        retries = RetryPolicy(
            settings.retry_attempts, settings.retry_base_s, settings.retry_cap_s, settings.retry_jitter
        )
        self.access = Access(settings)
        self._handshakes = Handshakes()
        self._tls = Tls(settings.tls, self._handshakes.begun)
        self.files = Reloader(
            [
                ("certificates", self._tls.files, self._tls.load),
                ("keys", [settings.keys_file] if settings.keys_file else [], self._load_keys),
            ]
        )
        estimates = TokenEstimates()
        self.dispatcher = Dispatcher(self.scheduling, self.fleet, retries, estimates=estimates, clock=clock)
        refused = Refused()
        self.intake = Intake(
            self.scheduling,
            registry,
            telemetry.tracer,
            max_open_batches=settings.max_open_batches,
            may_use=self.access.may_use,
            tenants=tenants,
            estimates=estimates,
            refused=refused,
            clock=clock,
        )
        self.jobs = JobStore(
            self.intake,
            self.scheduling,
            limit=settings.job_limit,
            results_limit_bytes=settings.job_results_limit_bytes,
            retention_s=settings.job_retention_s,
        )
        self.kept = KeptBatches(
            self.intake,
            self.scheduling,
            limit=settings.kept_limit,
            results_limit_bytes=settings.kept_results_limit_bytes,
        )
        self._looking: list[asyncio.Task[None]] = []
        self._observer = ObserveInterceptor(
            telemetry.tracer_provider, telemetry.meter_provider, __version__, counted=refused.call
        )
        heard = self._handshakes.called if self._tls.on else None
        self.door = AuthInterceptor(
            self.access,
            max_open_calls=settings.max_open_calls,
            max_open_calls_of=tenants.max_open_calls,
            setting_of=lambda tenant: tenants.variable_of(tenant, "max_open_calls"),
            refused=self._observer.refused,
            counted=refused.call,
            heard=heard,
        )
        self.open_door = OpenMethods(settings.first_message_timeout_s, refused=self._observer.refused, heard=heard)
        self.arrivals = Arrivals(
            settings.arriving_limit_bytes // settings.max_message_bytes,
            settings.first_message_timeout_s,
            setting="EXPRESSLANE_ARRIVING_LIMIT_BYTES",
            clock=clock,
        )
        self.sessions = OpenCalls(
            settings.max_open_sessions,
            tenants.max_open_sessions,
            what="sessions",
            setting="EXPRESSLANE_MAX_OPEN_SESSIONS",
            setting_of=lambda tenant: tenants.variable_of(tenant, "max_open_sessions"),
            clock=clock,
        )
        holds = Holds(tenants, self.door.open_calls, self.sessions, self.jobs, self.kept)
        self.session_places = SessionPlaces(
            max(1, sessions_limit_bytes(settings) // settings.max_message_bytes),
            settings.first_message_timeout_s,
            setting=(
                "EXPRESSLANE_SESSIONS_LIMIT_BYTES, each of EXPRESSLANE_MAX_MESSAGE_BYTES: the smaller, the more; "
                "EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_SESSIONS bounds those of one tenant"
            ),
            clock=clock,
        )
        self.server = Server(
            InferenceServicer(
                self.intake,
                self.scheduling,
                self.kept,
                settings,
                arrivals=self.arrivals,
                sessions=self.sessions,
                session_places=self.session_places,
                clock=clock,
            ),
            AdminServicer(
                self.fleet,
                self.scheduling,
                self.intake,
                self.drain,
                failures=self.dispatcher.failures,
                holdings=holds.of,
                fairness=settings.fairness,
                queue_limit_s=settings.queue_limit_s,
                clock=clock,
            ),
            JobsServicer(self.jobs, self.scheduling, settings, arrivals=self.arrivals, clock=clock),
            interceptors=[self.door, self.open_door, self._observer],
            max_message_bytes=settings.max_message_bytes,
            arrivals=self.arrivals,
            admin_arrivals=Arrivals(ADMIN_READ_AT_ONCE, settings.first_message_timeout_s, clock=clock),
            with_reflection=settings.reflection,
            admin_apart=bool(settings.admin_listen),
            tls=self._tls,
        )
        Metrics(
            telemetry.meter_provider,
            telemetry.histograms,
            snapshot=self.scheduling.snapshot,
            backend_name=self._backend_name,
            model_name=registry.name,
            estimates=estimates,
            limits=self.scheduling.limits,
            held=holds.by_tenant,
            refused=lambda: list(refused.prompts.items()),
            version=__version__,
        )

    async def start(self) -> str:
        """Ask the backends, then serve; what has not answered soon goes on being asked. Returns the bound address.

        Raises ConfigError when a certificate, the keys or an address cannot be used.
        """
        await asyncio.to_thread(self.files.load)
        self.access.warn_of_nobody()
        loop = asyncio.get_running_loop()
        self._looking.append(loop.create_task(self.files.run()))
        if self._tls.on:
            self._looking.append(loop.create_task(self._handshakes.run()))
        self.scheduling.start(self.dispatcher)
        await self.fleet.start(self.scheduling.apply, self.scheduling.refuse_models)
        return await self.server.start(self.settings.listen, self.settings.admin_listen)

    async def drain(self) -> None:
        """Tell health checks, then accept nothing more and end idle sessions; what was accepted goes on."""
        await self.server.not_serving()
        if not self.intake.draining:
            self.intake.drain()

    async def stop(self, grace_s: float) -> None:
        """Drain, finish and deliver what was accepted within `grace_s`, close everything, flush telemetry.

        What is not finished by then ends in-band; a call whose caller has not read that soon after is cut: UNAVAILABLE.
        """
        await self.drain()
        end_s = asyncio.get_running_loop().time() + grace_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.intake.idle(), grace_s)
        self.intake.stop_all("the service is stopping")
        await self.dispatcher.settled()
        await self._calls_read(max(end_s - asyncio.get_running_loop().time(), TOLD_S))
        if self._observer.open_calls:
            log.warning("calls cut: not read to their end within the grace", calls=self._observer.open_calls)
            self._observer.cut()
            await self._calls_read(CUT_S)
        await self.server.stop(0)  # who does not read at all cannot be told why: a bare UNAVAILABLE
        self.jobs.close()
        self.kept.close()
        self.scheduling.stop()
        await self.fleet.close()
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self.telemetry.shutdown)

    @property
    def held(self) -> int:
        """Open calls and unfinished prompts."""
        return self._observer.open_calls + self.scheduling.unfinished

    def _load_keys(self) -> None:
        self.access.load()
        self.access.warn_of_nobody()

    def _bounds_moved(self, tenant: Tenant) -> None:
        self.jobs.bounds_moved(tenant)
        self.kept.bounds_moved(tenant)

    async def _calls_read(self, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._observer.idle(), within_s)

    def _backend_name(self, number: int) -> str:
        return self.fleet.members[number].id


def _core(settings: Settings) -> _scheduler.Scheduler:
    shares = settings.class_min_shares
    return _scheduler.Scheduler(
        policy=settings.policy,
        queue_limit=settings.queue_limit_prompts,
        queue_limit_ns=int(settings.queue_limit_s * 1e9),
        in_flight_limit=settings.in_flight_limit,
        no_backend_timeout_ns=int(settings.no_backend_timeout_s * 1e9),
        fairness=settings.fairness,
        class_min_shares=(shares.get("interactive", 0.0), shares.get("standard", 0.0), shares.get("batch", 0.0)),
        cost_includes_output=settings.cost_includes_output,
        retry_ratio=settings.retry_ratio,
    )


def serve(environ: Mapping[str, str] = os.environ) -> int:
    """Run the service until SIGTERM or SIGINT; a second signal ends it at once. Returns the exit code."""
    try:
        configuration = load(environ)
        telemetry = Telemetry.start(__version__, environ, content=configuration.settings.trace_content)
    except ConfigError as error:
        print(f"expresslane: {error}", file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return EXIT_CONFIG
    settings = configuration.settings
    lines = LogStream(sys.stdout)
    configure_logs(
        settings.log_level,
        settings.log_format,
        lines,
        exception_text=settings.log_exception_text,
        secrets=endpoint_secrets(environ),
    )
    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_serve(configuration, telemetry, environ))
    finally:
        lines.close()


async def _serve(configuration: Configuration, telemetry: Telemetry, environ: Mapping[str, str]) -> int:
    settings = configuration.settings
    app = App(settings, telemetry)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, app.files.look)
    log_loop_errors(loop)
    grace_s = 0.0
    ebb: asyncio.Task[None] | None = None
    try:
        address = await _unless(stopping, app.start())
        if address is not None:
            _report(app, configuration, address, environ)
            memory.settle()
            ebb = loop.create_task(memory.Ebb(lambda: app.held).run())
            await stopping.wait()
            grace_s = settings.drain_grace_s
            log.info("stopping", grace_s=grace_s)
    except ConfigError as error:
        print(f"expresslane: {error}", file=sys.stderr)  # noqa: T201 - what a person at a terminal must see
        return EXIT_CONFIG
    finally:
        if ebb is not None:
            ebb.cancel()
        await app.stop(grace_s)
    log.info("stopped")
    return EXIT_OK


async def _unless(stopping: asyncio.Event, starting: Coroutine[None, None, str]) -> str | None:
    """What `starting` returns, or None when the signal to stop comes before it has."""
    start = asyncio.ensure_future(starting)
    signalled = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((start, signalled), return_when=asyncio.FIRST_COMPLETED)
        return await start if start.done() else None
    finally:
        start.cancel()
        signalled.cancel()
        await asyncio.gather(start, signalled, return_exceptions=True)


def _report(app: App, configuration: Configuration, address: str, environ: Mapping[str, str]) -> None:
    """Say that the service is ready, in the log and in the ready file. Raises ConfigError."""
    for warning in configuration.warnings:
        log.warning(warning)
    if _scheduler.debug_build:
        log.warning("the scheduler is a debug build: slow")
    if ready_file := environ.get("EXPRESSLANE_READY_FILE"):
        partial = Path(f"{ready_file}.partial")
        try:
            partial.write_text(address)
            partial.replace(ready_file)  # whoever waits for the file finds it whole
        except OSError as error:
            raise ConfigError(f"EXPRESSLANE_READY_FILE={ready_file}: cannot be written: {error}") from None
    log.info(
        "ready",
        address=address,
        version=__version__,
        admin_address=app.server.admin_address,
        tls=bool(app.settings.tls.cert_file),
        keys=app.access.keys if app.access.on else "off",
        policy=app.settings.policy,
        backends=[f"{member.id} ({member.settings.kind})" for member in app.fleet.members],
        telemetry=list(app.telemetry.exporting),
    )
