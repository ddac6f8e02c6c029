"""The service and the command line as docs/security.md sets them up: TLS, keys from a file, changes on SIGHUP."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.e2e.served import Served
from tests.support.certificates import Authority
from tests.support.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def made(shell: Shell, tenant: str, *arguments: str) -> tuple[str, str]:
    """A key by `expresslane keys new`, and the line that it says belongs into the keys file."""
    done = await shell.run("keys", "new", tenant, *arguments)
    assert done.code == 0
    key = done.out.strip()
    (line,) = (line for line in done.err.splitlines() if "EXPRESSLANE_KEYS_FILE" in line)
    assert key not in done.err
    return key, line.rpartition("FILE:")[2].strip()


async def test_with_certificates_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key works from the moment its line is there until it is gone; the command line tells what is missing."""
    authority = Authority(tmp_path)
    cert, key_file = authority.issue("localhost", "server")
    keys = tmp_path / "keys"
    shell = Shell(tmp_path, "")
    ops_key, ops_line = await made(shell, "ops")
    keys.write_text(ops_line + "\n")
    environ = {
        "EXPRESSLANE_TLS__CERT_FILE": cert,
        "EXPRESSLANE_TLS__KEY_FILE": key_file,
        "EXPRESSLANE_KEYS_FILE": str(keys),
        "EXPRESSLANE_TENANTS__OPS__ADMIN": "true",
    }
    async with Served(tmp_path, **environ) as served:
        assert (served.log[-1]["tls"], served.log[-1]["keys"]) == (True, 1)
        shell.address = served.address
        trust = ("--ca-file", str(authority.file), "--server-name", "localhost")
        shell.write("p.jsonl", {"custom_id": "a", "prompt": "x", "max_tokens": 1})

        plain = await shell.run("run", "p.jsonl", "-o", "none.jsonl")
        assert plain.code == 3
        assert "--tls, and --ca-file FILE" in plain.err
        keyless = await shell.run("status", *trust)
        assert keyless.code == 3
        assert "does not let us in: no credentials" in keyless.err
        assert "EXPRESSLANE_API_KEY" in keyless.err

        monkeypatch.setenv("EXPRESSLANE_API_KEY", ops_key)
        assert "queued" in (await shell.run("status", *trust)).out
        assert (await shell.run("run", "p.jsonl", *trust)).lines[0]["outcome"] == "succeeded"

        acme_key, acme_line = await made(shell, "acme", "--expires", "30")
        keys.write_text(f"{acme_line}\n")
        served.process.send_signal(signal.SIGHUP)
        assert (await served.logged("read again"))["what"] == "keys"
        assert "does not let us in: the key is not valid" in (await shell.run("status", *trust)).err
        (tmp_path / "key").write_text(acme_key)
        with_file = (*trust, "--api-key-file", str(tmp_path / "key"))
        assert (await shell.run("run", "p.jsonl", *with_file)).lines[0]["outcome"] == "succeeded"
        denied = await shell.run("status", *with_file)
        assert denied.code == 3
        assert "NOT_PERMITTED" in denied.err

        keys.write_text("acme nonsense\n")
        served.process.send_signal(signal.SIGHUP)
        told = await served.logged("changed files cannot be used, the earlier ones hold on")
        assert "line 1" in told["error"]
        assert (await shell.run("run", "p.jsonl", *with_file)).code == 0
        served.terminate()
        assert await served.process.wait() == 0


async def test_files_that_cannot_be_used_end_the_start(tmp_path: Path) -> None:
    """Exit code 2, and the file's name."""
    for name in ("EXPRESSLANE_TLS__CERT_FILE", "EXPRESSLANE_KEYS_FILE"):
        environ = {name: "/nowhere/file", "EXPRESSLANE_TLS__KEY_FILE": "/nowhere/key"}
        served = Served(tmp_path, **(environ if "TLS" in name else {name: "/nowhere/file"}))
        await served.start()
        _, errors = await served.process.communicate()
        assert served.process.returncode == 2
        assert f"{name}=/nowhere/file" in errors.decode()
        assert "Traceback" not in errors.decode()
