"""`expresslane version`: what is installed, for a bug report."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

from expresslane import __version__, _scheduler
from expresslane.cli.console import Exit, json_text

__all__ = ["show_version"]

_LIBRARIES = ("expresslane-client", "grpcio", "protobuf", "aiohttp")


def show_version(*, as_json: bool) -> Exit:
    """Print versions of the service, its core, Python and the libraries that matter."""
    build = "debug" if _scheduler.debug_build else "release"
    fields = {
        "expresslane": __version__,
        "core": f"{_scheduler.__version__} ({build})",
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
    }
    fields |= {name: installed(name) for name in _LIBRARIES}
    if as_json:
        print(json_text(fields))  # noqa: T201
        return Exit.OK
    for name, value in fields.items():
        print(f"{name:<20}{value}")  # noqa: T201
    return Exit.OK
