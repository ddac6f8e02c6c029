"""Canaries: keys and prompts through every path that can go wrong, searched for in all that the process says."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson
import pytest
from expresslane.auth.keys import new_key
from expresslane_client import CallError, Client, Prompt

from tests.e2e.served import Served
from tests.support.fake_backend import FakeBackend, Script, SeenRequest
from tests.support.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-canary/of+the+backend"
PASSWORD = "canary-in-the-url"
QUERY = "canary-in-the-query"
CODE = "canary+by/no.name"
AUTH = "canary-that-authorizes"
PATH = "sk-canary-in-the-path"
PROMPT = "canary in the prompt"
SECRETS = (KEY, PASSWORD, QUERY, CODE, AUTH, PATH, base64.b64encode(f"me:{PASSWORD}".encode()).decode())


def echo(request: SeenRequest) -> bytes:
    """All of a request, as debugging servers send it back."""
    return orjson.dumps(
        {"error": {"message": f"{request.headers} {request.body!r}", "code": f"{request.body!r} {request.headers}"}}
    )


def misbehaviours(request: SeenRequest) -> dict[str, Script]:
    """Every way to go wrong, quoting as much of the request as possible."""
    whole, text = echo(request), request.body
    key = request.headers["authorization"].encode()
    return {
        "refuse": Script(status=401, body=whole),
        # the key lies across the place where bodies are cut
        "long": Script(status=400, body=b"x" * (2_048 - 3 * len(key) // 4) + key),
        "fail": Script(status=500, body=whole),
        "inside": Script(wire=[b"data: " + whole + b"\n\n"]),
        "malformed": Script(wire=[b"data: {" + text + key + b"\n\n"]),
        "media": Script(body=text + key, headers={"Content-Type": f"text/{key.decode().split()[-1]}"}),
        "redirect": Script(status=302, headers={"Location": f"http://h:1/?api_key={QUERY}&and={key.decode()}"}),
        "path": Script(status=404, body=b"no route: " + request.target.encode()),
        "status line": Script(status=200, headers={"X": f"\x00{key.decode()}"}),
        "cut": Script(cut_after=2),
        "answer": Script(),
    }


KINDS = ("refuse", "long", "fail", "inside", "malformed", "media", "redirect", "path", "status line", "cut", "answer")


def misbehave(request: SeenRequest) -> Script | None:
    """Go wrong as the prompt asks for."""
    return next(script for kind, script in misbehaviours(request).items() if f": {kind}".encode() in request.body)


@pytest.mark.parametrize("url_credentials", [True, False])
async def test_canaries(tmp_path: Path, url_credentials: bool) -> None:
    """Spans, metrics and logs at their most talkative hold no prompt and no key; results hold no key (A35)."""
    caller_key, record = new_key()
    wrong_key, _ = new_key()
    async with FakeBackend() as fake:
        fake.on(misbehave)
        fake.below = f"/{PATH}" if url_credentials else ""
        prefix = "EXPRESSLANE_BACKENDS__FAKE__"
        address = fake.url.removeprefix("http://")
        query = f"api_key={QUERY}&code={quote(CODE, safe='')}&auth={AUTH}&api-version=2024-08-01"
        credentials = {f"{prefix}URL": f"http://me:{PASSWORD}@{address}/{PATH}/v1?{query}"}
        environ = (credentials if url_credentials else {f"{prefix}URL": fake.url, f"{prefix}API_KEY": KEY}) | {
            f"{prefix}KIND": "openai",
            f"{prefix}MODELS": "m",
            "EXPRESSLANE_TENANTS__ACME__KEYS": str(record),
            "EXPRESSLANE_TENANTS__ACME__ADMIN": "true",
            "EXPRESSLANE_RETRY_ATTEMPTS": "2",
            "EXPRESSLANE_RETRY_BASE_S": "1ms",
            "EXPRESSLANE_LOG_LEVEL": "debug",
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "console",
        }
        async with Served(tmp_path, **environ) as served:
            assert served.process.stdout is not None
            saying = asyncio.ensure_future(served.process.stdout.read())
            complaining = asyncio.ensure_future(served.process.stderr.read())  # type: ignore[union-attr]
            async with Client(served.address, api_key=wrong_key) as stranger:
                with pytest.raises(CallError):
                    await stranger.collect_batch([PROMPT])
            async with Client(served.address, api_key=caller_key) as client:
                prompts = [Prompt(kind, f"{PROMPT}: {kind}") for kind in KINDS]
                results = {one.custom_id: one async for one in client.generate_batch(prompts)}
                with pytest.raises(CallError):
                    await client.collect_batch([Prompt("bad", PROMPT, model="x" * 1_000)])
                backends = await client.list_backends()
            served.terminate()
            assert await served.process.wait() == 0
            said = (await saying + await complaining).decode() + repr(served.log)
    assert results["answer"].ok
    assert {kind for kind in KINDS if not results[kind].ok} == set(KINDS) - {"answer"}
    told = "".join(repr(results[kind].error) for kind in KINDS) + repr(backends)
    for secret in (*SECRETS, caller_key, wrong_key):
        assert secret not in told
        assert secret not in said
        assert orjson.dumps(secret).decode()[1:-1] not in said
    assert CODE[-8:] not in told + said  # in no encoding: its end is the same in all of them
    if url_credentials:
        assert "/********/v1?api_key=********&code=********&auth=********&api-version=2024-08-01" in repr(backends)
        assert "no route: /[secret]/v1/chat/completions?" in told
    for secret in (KEY, SECRETS[-1]):
        assert secret[: len(secret) // 2] not in told  # no half of it either
    assert PROMPT not in said
    assert '"name": "expresslane.prompt"' in said  # the spans are there,
    assert "expresslane.prompts.ended" in said  # the metrics,
    assert "call refused: unknown key" in said  # and the logs,
    assert f'"key":"{record.id}"' in said  # which name the caller


@pytest.mark.parametrize("command", ["config", "serve"])
@pytest.mark.parametrize("url", ["u:{}@h", "http://h:x/v1?code={}"])
async def test_a_url_that_is_refused_shows_no_secret(tmp_path: Path, command: str, url: str) -> None:
    """What is wrong is told by the variable's name and what is allowed, whatever was forgotten in its value."""
    environ = {"EXPRESSLANE_BACKENDS__A__KIND": "openai", "EXPRESSLANE_BACKENDS__A__URL": url.format(PASSWORD)}
    done = await Shell(tmp_path, "", environ).run(command)
    assert (done.code, done.out) == (2, "")
    assert "EXPRESSLANE_BACKENDS__A__URL=" in done.err
    assert "an http:// or https:// address with a host" in done.err
    assert PASSWORD not in done.err


async def test_config_shows_no_secret_of_a_url(tmp_path: Path) -> None:
    """All values of a query but those known to be harmless are masked, and what looks like a key in the path."""
    url = f"http://me:{PASSWORD}@h/{PATH}/v1?code={QUERY}&auth={AUTH}&x={QUERY}&{QUERY}&api-version=2024-08-01"
    environ = {"EXPRESSLANE_BACKENDS__A__KIND": "openai", "EXPRESSLANE_BACKENDS__A__URL": url}
    shell = Shell(tmp_path, "", environ)
    shown = "http://********@h/********/v1?code=********&auth=********&x=********&********&api-version=2024-08-01"
    for arguments in (("config",), ("config", "--json")):
        done = await shell.run(*arguments)
        assert done.code == 0
        assert shown in done.out
        assert "canary" not in done.out + done.err


async def test_redirects_are_not_followed(tmp_path: Path) -> None:
    """Neither an answer nor a list of models can send the service elsewhere (SSRF)."""
    async with FakeBackend() as fake, FakeBackend() as elsewhere:
        away = Script(status=307, headers={"Location": f"{elsewhere.url}/v1/chat/completions"})
        fake.on(lambda _: away)
        fake.paths["/v1/models"] = Script(status=302, headers={"Location": f"{elsewhere.url}/v1/models"})
        prefix = "EXPRESSLANE_BACKENDS__FAKE__"
        environ = {f"{prefix}KIND": "openai", f"{prefix}URL": fake.url, "EXPRESSLANE_WILDCARD_BACKEND": "fake"}
        async with Served(tmp_path, **environ) as served, Client(served.address) as client:
            (result,) = (await client.collect_batch([Prompt("a", "x", model="m")])).results
            assert result.error is not None
            assert "redirects are not followed" in result.error.message
        assert len(fake.generations) == 1
        assert elsewhere.requests == []


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_that_is_not_there(tmp_path: Path, protocol: str) -> None:
    """Exporters complain about their endpoint by name, the gRPC one without a scheme: its password is cut out (A35)."""
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{PASSWORD}@127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{AUTH}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        "EXPRESSLANE_LOG_LEVEL": "debug",
        "EXPRESSLANE_LOG_EXCEPTION_TEXT": "true",
    }
    async with Served(tmp_path, **environ) as served:
        async with Client(served.address) as client:
            assert (await client.collect_batch(["x"])).results[0].ok
        complained: set[str] = set()
        while len(complained) < 2:  # of traces and of metrics
            line = await served.next_line()
            if line["event"].startswith("Failed to export"):
                complained.add(line["event"])
        served.terminate()
        await served.rest()
        assert await served.process.wait() == 0
        assert served.process.stderr is not None
        said = repr(served.log) + (await served.process.stderr.read()).decode()
    assert PASSWORD not in said
    assert AUTH not in said
    assert ("[secret]@127.0.0.1:9" in said) is (protocol == "grpc")
