"""What the dependencies bring in: licences, sources and duplicates of crates, known vulnerabilities of both languages.

`make audit` says of each check whether it passed, failed, or could not be made: advisory databases are on the network,
and a check without its database has found nothing, which is not the same as nothing being there. Exits 1 when a check
failed, 0 otherwise; CI does not depend on what cannot be reached.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOT_PACKAGE = "expresslane"
TIMEOUT_S = 300
MISSING_DENY = "cargo-deny is not installed (cargo install cargo-deny --locked)"
MISSING_AUDIT = "pip-audit is not installed (pip install pip-audit)"

Verdict = tuple[str, str]


def main() -> int:
    """Make every check and tell what came of it."""
    verdicts = {
        "crates: licences, duplicates, sources": crates(),
        "crates: advisories (RustSec)": crate_advisories(),
        "Python: advisories (PyPI)": python_advisories(),
        "Python: licences of what is installed": python_licences(),
    }
    for check, (verdict, detail) in verdicts.items():
        print(f"{verdict:12} {check}" + (f": {detail}" if detail else ""))
    return 1 if any(verdict == "FAILED" for verdict, _ in verdicts.values()) else 0


def crates() -> Verdict:
    """The rules of deny.toml, which need no network."""
    if not shutil.which("cargo-deny"):
        return "NOT CHECKED", MISSING_DENY
    done = run("cargo", "deny", "--offline", "--locked", "check", "licenses", "bans", "sources")
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        return "FAILED", "see above"
    return "passed", ""


def crate_advisories() -> Verdict:
    """The RustSec database, where it can be fetched."""
    if not shutil.which("cargo-deny"):
        return "NOT CHECKED", MISSING_DENY
    done = run("cargo", "deny", "--locked", "check", "advisories")
    output = done.stdout + done.stderr
    if done.returncode and "failed to fetch advisory database" in output:
        return "NOT CHECKED", "the database cannot be reached from here"
    if done.returncode:
        print(output, file=sys.stderr)
        return "FAILED", "see above"
    return "passed", ""


def python_advisories() -> Verdict:
    """Every version of constraints.txt, where PyPI's database answers."""
    if importlib.util.find_spec("pip_audit") is None:
        return "NOT CHECKED", MISSING_AUDIT
    arguments = ("-r", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
    done = run(sys.executable, "-m", "pip_audit", *arguments)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return "NOT CHECKED", "the database cannot be reached from here"
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    found = [f"{one['name']} {flaw['id']}" for one in packages for flaw in one.get("vulns", ())]
    if found:
        return "FAILED", ", ".join(found)
    if skipped:
        few = ", ".join(skipped[:3])
        return "NOT CHECKED", f"nothing is known of {len(skipped)} of {len(packages)} packages ({few}, ...)"
    return "passed", f"{len(packages)} packages"


def python_licences() -> Verdict:
    """What the installed distributions that the service needs say of themselves; strong copyleft is refused."""
    from importlib.metadata import PackageNotFoundError, metadata, requires  # noqa: PLC0415

    waiting, seen, refused = [ROOT_PACKAGE], set[str](), []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            about = metadata(name)
        except PackageNotFoundError:
            if name == ROOT_PACKAGE:
                return "NOT CHECKED", f"{ROOT_PACKAGE} is not installed here"
            continue  # not needed on this platform
        fields = [about.get_all(field) or [] for field in ("License-Expression", "License", "Classifier")]
        said = " ".join([*fields[0], *(one[:100] for one in fields[1]), *filter(_is_licence, fields[2])])
        if "GPL" in said and "LGPL" not in said:
            refused.append(f"{name} ({said.strip()})")
        needed = (one.partition(";") for one in requires(name) or ())
        waiting += [_name(requirement) for requirement, _, marker in needed if "extra" not in marker]
    if refused:
        return "FAILED", ", ".join(refused)
    return "passed", f"{len(seen)} distributions"


def _is_licence(classifier: str) -> bool:
    return classifier.startswith("License ::")


def _name(requirement: str) -> str:
    """The distribution of a requirement such as `aiohttp[speedups]>=3.12,<4`."""
    for position, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:position]
    return requirement


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one tool at the repository's root."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


if __name__ == "__main__":
    sys.exit(main())
