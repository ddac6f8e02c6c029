"""The audit of dependencies: a check that could not be made is not one that has passed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/audit.py"


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, every tool of it installed."""
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/tool")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    return module


def saying(audit: Any, monkeypatch: pytest.MonkeyPatch, code: int, out: object = "", err: str = "") -> None:
    """Let every tool end like this."""
    text = out if isinstance(out, str) else json.dumps({"dependencies": out})
    done = subprocess.CompletedProcess((), code, text, err)
    monkeypatch.setattr(audit, "run", lambda *_: done)


def test_a_database_that_cannot_be_reached_has_found_nothing(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is NOT CHECKED, for crates and for Python."""
    saying(audit, monkeypatch, 1, err="[ERROR] failed to fetch advisory database")
    assert audit.crate_advisories()[0] == "NOT CHECKED"
    assert audit.python_advisories()[0] == "NOT CHECKED"


def test_packages_that_were_skipped_are_not_checked(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit exits 0 for a package it knows nothing of; that is no pass."""
    saying(audit, monkeypatch, 0, [{"name": "a", "vulns": []}, {"name": "b", "skip_reason": "not found"}])
    assert audit.python_advisories() == ("NOT CHECKED", "nothing is known of 1 of 2 packages (b, ...)")
    saying(audit, monkeypatch, 0, [{"name": "a", "vulns": []}])
    assert audit.python_advisories() == ("passed", "1 packages")


def test_what_is_found_fails(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known vulnerability, a rule of deny.toml that is broken."""
    saying(audit, monkeypatch, 1, [{"name": "a", "vulns": [{"id": "CVE-1"}]}])
    assert audit.python_advisories() == ("FAILED", "a CVE-1")
    saying(audit, monkeypatch, 1, err="error[rejected]")
    assert audit.crates()[0] == "FAILED"
    assert audit.crate_advisories()[0] == "FAILED"


def test_a_tool_that_is_not_there_checks_nothing(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the audit says how to get it."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert audit.crates() == ("NOT CHECKED", audit.MISSING_DENY)
    assert audit.crate_advisories() == ("NOT CHECKED", audit.MISSING_DENY)
    assert audit.python_advisories() == ("NOT CHECKED", audit.MISSING_AUDIT)


def test_only_a_failure_fails_the_audit(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be checked is told, and CI goes on."""
    for name in ("crates", "crate_advisories", "python_advisories", "python_licences"):
        monkeypatch.setattr(audit, name, lambda: ("NOT CHECKED", "no network"))
    assert audit.main() == 0
    monkeypatch.setattr(audit, "crates", lambda: ("FAILED", "see above"))
    assert audit.main() == 1
