"""The command line, one function a command; `expresslane --help` lists them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

_INTERRUPTED = 130
"""Exit.INTERRUPTED, before that can be imported."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    # Errors are told by the commands, in words; gRPC's own log would come between them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with _ending_at_once():
        from expresslane.cli.console import CommandError, Exit, problem  # noqa: PLC0415 - after the lines above
        from expresslane.cli.parser import build_parser  # noqa: PLC0415 - after the lines above

    arguments = build_parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.command](arguments)
    except CommandError as error:
        return problem(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PROMPTS_FAILED


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """While modules are imported, Ctrl-C ends the process quietly: there is nothing to put in order yet."""
    before = signal.getsignal(signal.SIGINT)
    is_ours = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if is_ours:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)


# Each imports only what it needs, so that `version` does not wait for the whole service.


def _serve(_arguments: argparse.Namespace) -> int:
    from expresslane.cli.console import CommandError  # noqa: PLC0415
    from expresslane.errors import ConfigError  # noqa: PLC0415

    try:
        from expresslane.app import serve  # noqa: PLC0415
    except ConfigError as error:  # OpenTelemetry reads OTEL_PROPAGATORS while it is imported
        raise CommandError(str(error)) from error
    return serve()


def _run(arguments: argparse.Namespace) -> int:
    from expresslane.cli.run import run  # noqa: PLC0415
    from expresslane.cli.run_options import run_options  # noqa: PLC0415

    return run(run_options(arguments))


def _cancel(arguments: argparse.Namespace) -> int:
    from expresslane.cli.cancel import cancel_batch  # noqa: PLC0415
    from expresslane.cli.connection import connection  # noqa: PLC0415

    return cancel_batch(connection(arguments), arguments.request_id, as_json=arguments.as_json)


def _jobs(arguments: argparse.Namespace) -> int:
    from expresslane.cli.connection import connection  # noqa: PLC0415
    from expresslane.cli.jobs import cancel_job, delete_job, list_jobs, show_job  # noqa: PLC0415

    match arguments.action:
        case "show":
            return show_job(connection(arguments), arguments.name, as_json=arguments.as_json)
        case "watch":
            from expresslane.cli.watch_job import WatchOptions, watch_job  # noqa: PLC0415

            names = ("name", "output", "after", "overwrite", "quiet")
            options = {name: getattr(arguments, name) for name in names}
            return watch_job(WatchOptions(connection(arguments), **options))
        case "cancel":
            return cancel_job(connection(arguments), arguments.name, as_json=arguments.as_json)
        case "delete":
            return delete_job(connection(arguments), arguments.name)
        case _:
            return list_jobs(connection(arguments), as_json=arguments.as_json)


def _backends(arguments: argparse.Namespace) -> int:
    from expresslane.cli.backends import list_backends, update_backend  # noqa: PLC0415
    from expresslane.cli.connection import connection  # noqa: PLC0415

    match arguments.change:
        case "enable" | "disable":
            switch = arguments.change == "enable"
            return update_backend(connection(arguments), arguments.name, concurrency_enabled=switch)
        case "set-cap":
            return update_backend(connection(arguments), arguments.name, cap=arguments.cap)
        case "set-limits":
            return update_backend(
                connection(arguments),
                arguments.name,
                requests_per_min=arguments.requests_per_min,
                tokens_per_min=arguments.tokens_per_min,
            )
        case _:
            return list_backends(connection(arguments), as_json=arguments.as_json)


def _tenants(arguments: argparse.Namespace) -> int:
    from expresslane.cli.connection import connection  # noqa: PLC0415
    from expresslane.cli.parser import TENANT_LIMITS  # noqa: PLC0415
    from expresslane.cli.tenants import list_tenants, update_tenant  # noqa: PLC0415

    if arguments.change is None:
        return list_tenants(connection(arguments), as_json=arguments.as_json)
    changes = {field: getattr(arguments, field) for field in ("weight", "max_class", *TENANT_LIMITS)}
    return update_tenant(connection(arguments), arguments.name, changes)


def _policy(arguments: argparse.Namespace) -> int:
    from expresslane.cli.connection import connection  # noqa: PLC0415
    from expresslane.cli.policy import list_policies, set_policy  # noqa: PLC0415

    if arguments.change is None:
        return list_policies(connection(arguments), as_json=arguments.as_json)
    policy = arguments.policy if arguments.change == "set" else ""
    return set_policy(connection(arguments), policy, prompt_class=arguments.prompt_class, model=arguments.model)


def _drain(arguments: argparse.Namespace) -> int:
    from expresslane.cli.connection import connection  # noqa: PLC0415
    from expresslane.cli.drain import drain  # noqa: PLC0415

    return drain(connection(arguments), as_json=arguments.as_json)


def _status(arguments: argparse.Namespace) -> int:
    from expresslane.cli.connection import connection  # noqa: PLC0415
    from expresslane.cli.status import status  # noqa: PLC0415

    return status(connection(arguments), watch=arguments.watch, as_json=arguments.as_json)


def _config(arguments: argparse.Namespace) -> int:
    from expresslane.cli.show_config import show_config, show_reference  # noqa: PLC0415

    if arguments.reference:
        return show_reference(as_json=arguments.as_json)
    return show_config(as_json=arguments.as_json, everything=arguments.everything)


def _keys(arguments: argparse.Namespace) -> int:
    from expresslane.cli.keys import make_key  # noqa: PLC0415

    return make_key(arguments.tenant, expires_days=arguments.expires)


def _version(arguments: argparse.Namespace) -> int:
    from expresslane.cli.version import show_version  # noqa: PLC0415

    return show_version(as_json=arguments.as_json)


def _demo(_arguments: argparse.Namespace) -> int:
    from expresslane.cli.demo import demo  # noqa: PLC0415

    return demo()


_COMMANDS = {
    "serve": _serve,
    "run": _run,
    "cancel": _cancel,
    "jobs": _jobs,
    "backends": _backends,
    "tenants": _tenants,
    "policy": _policy,
    "status": _status,
    "drain": _drain,
    "config": _config,
    "keys": _keys,
    "version": _version,
    "demo": _demo,
}
