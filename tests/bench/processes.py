"""The processes of a measurement, and what the kernel says of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

import orjson

from tests.bench.load import MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["BenchError", "Child", "Process", "Service", "Telemetry", "Upstream", "cpu_s", "peak_rss_bytes", "rss_bytes"]

READY_S = 30.0
STOP_S = 20.0
IN_FLIGHT = 64
_FOREIGN = ("EXPRESSLANE_", "OTEL_")


class BenchError(Exception):
    """A measurement that could not be made, with what its process said."""


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads, ended ones too: utime + stime of /proc, finer."""
    # What clock_getcpuclockid(3) computes; Python has it for threads only.
    return time.clock_gettime((~pid << 3) | 2)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    return _status_kib(pid, "VmRSS") * 1_024


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory a process ever had."""
    return _status_kib(pid, "VmHWM") * 1_024


def _status_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchError(f"/proc/{pid}/status has no {name}")


class Process:
    """A subprocess that ends with its block; what it wrote to standard error is kept for the error message."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str] | None = None, *, talks: bool = True) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            # A log that nobody reads would fill its pipe and stop the process.
            stdout=subprocess.PIPE if talks else self._errors,
            stderr=self._errors,
            env=environ,
        )
        self.name = " ".join(arguments[1:3])
        self.pid = self._process.pid

    @property
    def output(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdout)

    def send(self, line: bytes) -> None:
        stdin = cast("IO[bytes]", self._process.stdin)
        stdin.write(line + b"\n")
        stdin.flush()

    def line(self) -> bytes:
        """The next line of its standard output. Raises BenchError when it has ended."""
        line = self.output.readline()
        if not line:
            raise self.failure("ended")
        return line

    def ended(self) -> bool:
        return self._process.poll() is not None

    def failure(self, what: str) -> BenchError:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="backslashreplace").strip().splitlines()[-25:]
        return BenchError(f"{self.name}: {what}\n" + "\n".join(f"    {line}" for line in said))

    def close(self) -> None:
        cast("IO[bytes]", self._process.stdin).close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Child(Process):
    """A process that takes commands: the caller or the bare loop."""

    def __init__(self, module: str, *arguments: object, package: str = "tests.bench") -> None:
        super().__init__(["-m", f"{package}.{module}", *map(str, arguments)])
        self.replies()

    def do(self, **command: object) -> dict[str, Any]:
        """Carry out one command."""
        self.send(orjson.dumps(command))
        return self.replies()

    def start(self, **command: object) -> None:
        """Begin a command; `next` and `replies` read what it says."""
        self.send(orjson.dumps(command))

    def next(self) -> dict[str, Any]:
        """The next line it says."""
        return cast("dict[str, Any]", orjson.loads(self.line()))

    def replies(self) -> dict[str, Any]:
        """Its last line."""
        while not (reply := self.next()).get("done"):
            pass
        return reply


class Upstream(Process):
    """The fake model server."""

    def __init__(self) -> None:
        super().__init__(["-m", "tests.bench.upstream"])
        self.url = f"http://127.0.0.1:{int(self.line())}"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the service exports. Metrics go out at the SDK's own interval; the fake upstream takes everything."""

    exports: bool = True
    sampler: str = "parentbased_always_off"

    def variables(self, sink: str) -> dict[str, str]:
        """Its OTEL_* variables."""
        return {
            "OTEL_TRACES_EXPORTER": "otlp" if self.exports else "none",
            "OTEL_TRACES_SAMPLER": self.sampler,
            "OTEL_METRICS_EXPORTER": "otlp" if self.exports else "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{sink}/otlp",
        }


class Service(Process):
    """`expresslane serve` with its shipped defaults but for one backend, in one of the upstream's modes."""

    def __init__(
        self, upstream: Upstream, mode: str, *, cap: int = IN_FLIGHT, telemetry: Telemetry | None = None
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ready = Path(folder) / "address"
            own = {
                "LISTEN": "127.0.0.1:0",
                "READY_FILE": str(ready),
                "BACKENDS__UP__KIND": "openai",
                "BACKENDS__UP__URL": f"{upstream.url}/{mode}",
                "BACKENDS__UP__MODELS": MODEL,
                "BACKENDS__UP__CAP": str(cap),
                "BACKENDS__UP__STREAMING": "true" if mode.startswith("stream") else "false",
                "BACKENDS__UP__ATTEMPT_TIMEOUT_S": "600",
            }
            inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
            environ = {
                **inherited,
                **{f"EXPRESSLANE_{name}": value for name, value in own.items()},
                **(telemetry or Telemetry()).variables(upstream.url),
            }
            super().__init__(["-m", "expresslane", "serve"], environ, talks=False)
            try:
                self.address = self._await(ready)
            except BenchError:
                self.close()
                raise

    def _await(self, ready: Path) -> str:
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            if self.ended():
                raise self.failure("did not start")
            if ready.exists() and (address := ready.read_text()):
                return address
            time.sleep(0.02)
        raise self.failure(f"was not ready within {READY_S:.0f} s")
