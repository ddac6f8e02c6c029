"""Generate the Python code of the contract from proto/, for the service and for the client; --check only compares."""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
CLIENT = ROOT / "clients/python/src/expresslane_client"
SERVICE = ROOT / "service/expresslane"
HEADER = '"""Generated from proto/ by scripts/gen_protos.py."""\n'


def generate(out: Path) -> Path:
    """Run protoc into `out` and return the folder of the generated package."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "expresslane/v1").glob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    arguments = [f"-I{PROTO}", f"-I{well_known}", *plugins]
    arguments += [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments, *sources], check=True)
    package = out / "expresslane/v1"
    (package / "__init__.py").write_text(HEADER)
    for unused in package.glob("*_pb2_grpc.py*"):
        if "Stub" not in unused.read_text():
            unused.unlink()
    return package


def rename_for_client(package: Path) -> None:
    """Put the generated package under the client's own name, so that both distributions can be installed together."""
    for path in package.iterdir():
        text = path.read_text()
        text = text.replace("from expresslane.v1 import", "from expresslane_client.v1 import")
        text = re.sub(r"'expresslane\.v1\.(\w+_pb2)'", r"'expresslane_client.v1.\1'", text)
        path.write_text(text)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Name every file that is missing, left over or different."""
    names = {path.name for folder in (fresh, committed) if folder.is_dir() for path in folder.glob("*.py*")}
    _, mismatched, missing = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return [str((committed / name).relative_to(ROOT)) for name in (*mismatched, *missing)]


def main() -> int:
    """Generate, or with --check report drift by exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if the committed code is not up to date"
    )
    check: bool = parser.parse_args().check
    drift: list[str] = []
    for target, rename in ((SERVICE / "v1", None), (CLIENT / "v1", rename_for_client)):
        with tempfile.TemporaryDirectory() as scratch:
            package = generate(Path(scratch))
            if rename:
                rename(package)
            if check:
                drift += differences(package, target)
            else:
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(package, target)
    if drift:
        print("not up to date with proto/ (run `make proto`):", *drift, sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
