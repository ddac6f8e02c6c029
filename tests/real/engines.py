"""Builds what the real-component tests run on, once, into a cache folder: llama-server, two models, Phoenix.

python tests/real/engines.py build     build what is missing and print where it is (about 10 minutes the first time)
python tests/real/engines.py paths     print where everything is, or fail when something is not built

The folder is $EXPRESSLANE_CACHE_DIR, else expresslane/ under $XDG_CACHE_HOME or ~/.cache: every clone shares it. Each
part has a folder of its own, complete when its stamp is there; one without is thrown away and built again.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LLAMA_CPP_PYTHON = "llama-cpp-python==0.3.36"
MODEL_PACKAGES = ("gguf==0.19.0", "numpy>=2.2.6,<3")
PHOENIX = "arize-phoenix==20.26.1"
MODEL_SHAPES = {"tiny": (256, 4), "small": (512, 8)}
MODEL_WRITER = Path(__file__).with_name("gguf_model.py")
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_NUMBER=0",
    f"-DLLAMA_BUILD_COMMIT={LLAMA_CPP_PYTHON}",
)
STEP_TIMEOUT_S = 3_600
LOG_TAIL_LINES = 30


class BuildError(Exception):
    """A part could not be built; the message says which, why, and ends with the tail of its log."""


@dataclass(frozen=True)
class Paths:
    """Where the parts lie below one cache folder: each folder is named by its recipe, so recipes never mix."""

    root: Path

    @property
    def llama_server(self) -> Path:
        return self._folder("llama-server", LLAMA_CPP_PYTHON, *CMAKE_OPTIONS) / "llama-server"

    @property
    def models(self) -> Path:
        return self._folder("models", MODEL_WRITER.read_text(), str(MODEL_SHAPES))

    @property
    def model_python(self) -> Path:
        return self._folder("model-writer", *MODEL_PACKAGES) / "bin" / "python"

    @property
    def phoenix(self) -> Path:
        return self._folder("phoenix", PHOENIX) / "bin" / "phoenix"

    def model(self, name: str) -> Path:
        return self.models / f"{name}.gguf"

    def _folder(self, name: str, *recipe: str) -> Path:
        return self.root / f"{name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Part:
    """One thing to build: `build` fills `folder`; `minutes` is a guess to show."""

    name: str
    folder: Path
    minutes: int
    build: Callable[["Part"], None]

    @property
    def stamp(self) -> Path:
        return self.folder / ".complete"

    @property
    def log(self) -> Path:
        return self.folder.parent / "logs" / f"{self.folder.name}.log"

    def is_complete(self) -> bool:
        return self.stamp.is_file()

    def run(self, *command: str | Path, cwd: Path | None = None) -> None:
        """Run one step with its output in the log; end its whole process group when it fails or takes too long."""
        with self.log.open("a") as log:
            print("$", *command, file=log, flush=True)
            process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                code: int | str = process.wait(STEP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                code = f"nothing after {STEP_TIMEOUT_S} s"
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if code != 0:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise BuildError(f"{self.name}: {Path(command[0]).name} ended with {code}; end of {self.log}:\n{tail}")


def say(line: str) -> None:
    """Print one line at once: whoever waits for a build wants to see where it is."""
    print(line, flush=True)  # noqa: T201 - output is what this command is for


def cache_root() -> Path:
    """The cache folder that the environment names, or the user's."""
    named = os.environ.get("EXPRESSLANE_CACHE_DIR")
    if named:
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "expresslane"


def make_environment(part: Part, *requirements: str) -> None:
    """Create a virtual environment in the part's folder and install the requirements into it."""
    try:
        venv.create(part.folder, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"{part.name}: this Python has no ensurepip; on Debian: apt-get install python3-venv"
        ) from error
    part.run(part.folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", *requirements)


def build_llama_server(part: Part, python: Path) -> None:
    """Compile llama-server from the source distribution of llama-cpp-python, which carries all of llama.cpp."""
    packages = {"cmake": "cmake", "make": "make", "cc": "gcc", "c++": "g++"}
    missing = [package for tool, package in packages.items() if not shutil.which(tool)]
    if missing:
        raise BuildError(f"{part.name}: needs a C++ toolchain; on Debian: apt-get install {' '.join(missing)}")
    work = part.folder / "work"
    download = ("-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:")
    part.run(python, *download, "--dest", work, LLAMA_CPP_PYTHON)
    with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    source = next(work.glob("*/vendor/llama.cpp"))
    part.run("cmake", "-G", "Unix Makefiles", "-S", source, "-B", work / "build", *CMAKE_OPTIONS)
    jobs = str(len(os.sched_getaffinity(0)))
    part.run("cmake", "--build", work / "build", "--target", "llama-server", "-j", jobs)
    shutil.copy2(work / "build" / "bin" / "llama-server", part.folder)
    part.run(part.folder / "llama-server", "--version")
    shutil.rmtree(work)


def build_models(part: Part, python: Path) -> None:
    """Write both random-weight models."""
    for name, (width, layers) in MODEL_SHAPES.items():
        part.run(python, MODEL_WRITER, part.folder / f"{name}.gguf", str(width), str(layers))


def parts(paths: Paths) -> list[Part]:
    """Everything there is to build, in the order of building."""
    python = paths.model_python
    return [
        Part("model writer", python.parents[1], 1, lambda part: make_environment(part, *MODEL_PACKAGES)),
        Part("models", paths.models, 1, lambda part: build_models(part, python)),
        Part("phoenix", paths.phoenix.parents[1], 2, lambda part: make_environment(part, PHOENIX)),
        Part("llama-server", paths.llama_server.parent, 6, lambda part: build_llama_server(part, python)),
    ]


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the cache folder's lock: a second builder waits, then finds the work done."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(paths: Paths) -> None:
    """Build every part that is not complete. Raises BuildError."""
    with exclusive(paths.root):
        for part in parts(paths):
            if part.is_complete():
                continue
            say(f"{part.name}: building, about {part.minutes} min on 2 cores; log {part.log}")
            started = time.monotonic()
            shutil.rmtree(part.folder, ignore_errors=True)
            part.log.parent.mkdir(exist_ok=True)
            part.log.unlink(missing_ok=True)
            part.folder.mkdir()
            part.build(part)
            part.stamp.touch()
            say(f"{part.name}: built in {time.monotonic() - started:.0f} s")


def built_paths() -> Paths:
    """The paths of a complete build; raises BuildError naming what is missing, so that no test ever skips."""
    paths = Paths(cache_root())
    missing = [part.name for part in parts(paths) if not part.is_complete()]
    if missing:
        raise BuildError(f"not built: {', '.join(missing)}; run python tests/real/engines.py build")
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    parser = argparse.ArgumentParser(description="Build the real components that tests run on.")
    parser.add_argument("verb", choices=("build", "paths"))
    try:
        if parser.parse_args(arguments).verb == "build":
            build(Paths(cache_root()))
        paths = built_paths()
    except BuildError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    say(f"llama-server  {paths.llama_server}")
    for name in MODEL_SHAPES:
        say(f"model {name:<7} {paths.model(name)}")
    say(f"phoenix       {paths.phoenix}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
