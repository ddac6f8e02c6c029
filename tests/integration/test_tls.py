"""TLS and mTLS between real sockets: who is believed, who is not, and certificates that change while it serves."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
from expresslane.errors import ConfigError
from expresslane_client import Client, InputError, RefusedError, Tls, UnavailableError
from structlog.testing import capture_logs

from tests.support.certificates import Authority
from tests.support.service import simulated_service
from tests.support.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path


async def answer(address: str, tls: Tls | None) -> str:
    """The one word of the simulated backend, over such a connection."""
    async with Client(address, tls=tls) as client:
        (result,) = (await client.collect_batch(["x"], timeout_s=5)).results
        return "answered" if result.ok else "failed"


async def test_encrypted_and_checked(tmp_path: Path) -> None:
    """A caller that trusts the authority is served; clear text, another authority and another name are not."""
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with simulated_service(tls=ours.server()) as service:
        assert await answer(service.address, ours.caller()) == "answered"
        for tls in (None, other.caller(), ours.caller(server_name="elsewhere")):
            with pytest.raises(UnavailableError):
                await answer(service.address, tls)
        assert await answer(service.address, ours.caller()) == "answered"


@pytest.mark.parametrize(
    ("version", "served"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_versions(tmp_path: Path, version: ssl.TLSVersion, served: bool) -> None:
    """TLS 1.2 and 1.3 are spoken; 1.0 and 1.1 are refused by the service, to a caller that would speak them."""
    ours = Authority(tmp_path)
    async with simulated_service(tls=ours.server()) as service:
        context = ssl.create_default_context(cafile=str(ours.file))
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not offer the old ones itself
        context.set_alpn_protocols(["h2"])
        host, _, port = service.address.rpartition(":")
        opening = asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
        if not served:
            with pytest.raises(ConnectionResetError):  # by the service: what fails on this side is an SSLError
                await opening
            return
        _, writer = await opening
        assert (
            writer.get_extra_info("ssl_object").version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        )
        writer.transport.abort()


async def test_callers_show_a_certificate_where_it_is_asked_for(tmp_path: Path) -> None:
    """mTLS: no certificate, or one of another authority, does not get a connection; ours does."""
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    strange_cert, strange_key = other.issue("acme.example")
    async with simulated_service(tls=ours.server(mutual=True)) as service:
        strange = Tls(str(ours.file), strange_cert, strange_key, "localhost")
        for tls in (ours.caller(), strange):
            with pytest.raises(UnavailableError):
                await answer(service.address, tls)
        assert await answer(service.address, ours.caller("acme.example")) == "answered"


async def test_a_certificate_stands_for_a_tenant(tmp_path: Path) -> None:
    """The name in a verified certificate is the tenant's; another verified name is nobody's."""
    ours = Authority(tmp_path)
    tenants = {"acme": {"certificates": "acme.example", "models": "other"}}
    async with simulated_service(tls=ours.server(mutual=True), tenants=tenants) as service:
        async with Client(service.address, tls=ours.caller("acme.example")) as acme:
            (result,) = (await acme.collect_batch(["x"])).results
            assert result.error is not None
            assert result.error.reason == "MODEL_NOT_PERMITTED"  # acme's own list holds
        async with Client(service.address, tls=ours.caller("globex.example")) as globex:
            with pytest.raises(RefusedError, match="no tenant's") as raised:
                await globex.collect_batch(["x"])
            assert raised.value.reason == "UNAUTHENTICATED"


async def test_certificates_change_while_it_serves(tmp_path: Path) -> None:
    """New connections get the new certificate, open ones go on; one that cannot be used changes nothing and is told."""
    ours = Authority(tmp_path)
    settings = ours.server("one.example")
    async with simulated_service(tls=settings) as service:
        first = ours.caller(server_name="one.example")
        async with Client(service.address, tls=first) as kept:
            await kept.collect_batch(["x"])
            ours.issue("two.example", "server")
            service.app.files.check()
            assert await answer(service.address, ours.caller(server_name="two.example")) == "answered"
            with pytest.raises(UnavailableError):
                await answer(service.address, first)
            await kept.collect_batch(["x"])
        with open(settings["key_file"], "w") as key:  # noqa: ASYNC230, PTH123
            key.write("broken")
        with capture_logs() as lines:
            service.app.files.check()
            service.app.files.check()
        (told,) = (line for line in lines if line["log_level"] == "warning")
        assert told["event"] == "changed files cannot be used, the earlier ones hold on"
        assert settings["key_file"] in told["error"]
        assert await answer(service.address, ours.caller(server_name="two.example")) == "answered"


async def test_certificates_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    """A key of another certificate, a file that is not there, and no certificate at all are told by file."""
    ours = Authority(tmp_path)
    good = ours.server()
    _, stranger = ours.issue("stranger")
    empty = tmp_path / "empty"
    empty.write_text("")
    for wrong, named in (
        ({"key_file": stranger}, "one pair"),
        ({"cert_file": "/nowhere/cert.pem"}, "cannot be read: No such file"),
        ({"cert_file": str(empty)}, "one pair"),
        ({"client_ca_file": str(empty)}, str(empty)),
    ):
        service = simulated_service(tls=good | wrong)
        with pytest.raises(ConfigError, match=named):
            await service.__aenter__()
        await service.app.stop(0)


def test_a_caller_is_told_which_of_its_files_is_missing() -> None:
    """Nothing is sent."""
    with pytest.raises(InputError, match="ca_file: /nowhere/ca cannot be read"):
        Client("h:1", tls=Tls("/nowhere/ca"))
    with pytest.raises(InputError, match="go together"):
        Tls(cert_file="only.pem")


@pytest.mark.parametrize("wrong", [{"ca_file": "x"}, {"cert_file": "x", "key_file": "x"}])
def test_a_file_that_is_not_pem_is_named(tmp_path: Path, wrong: dict[str, str]) -> None:
    """A file without a certificate or key in PEM form is told of as such; the service is not blamed."""
    (tmp_path / "x").write_bytes(b"\x30\x82 not PEM")
    files = {name: str(tmp_path / file) for name, file in wrong.items()}
    with pytest.raises(InputError, match=r"x holds no (certificate|private key) in PEM form"):
        Client("h:1", tls=Tls(**files))


async def test_the_command_line_says_what_a_connection_lacks(tmp_path: Path) -> None:
    """TLS, an authority, a name, a certificate, or no TLS at all: where that can be told it is, by the option (P39)."""
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = ours.issue("acme.example")
    strange_cert, strange_key = other.issue("acme.example")
    trusting = ("--ca-file", str(ours.file))
    named = (*trusting, "--server-name", "localhost")
    strange = (*named, "--cert", strange_cert, "--key", strange_key)

    async def told(address: str, *options: str) -> str:
        done = await Shell(tmp_path, address).run("status", *options)
        assert done.code == 3
        assert address in done.err
        return done.err

    async with simulated_service(tls=ours.server()) as service:
        assert "hangs up" in (clear := await told(service.address))
        assert "if it wants TLS:              --tls" in clear
        assert "is not trusted" in (untrusted := await told(service.address, "--tls"))
        assert "--ca-file FILE" in untrusted
        assert "is for another name" in (unnamed := await told(service.address, *trusting))
        assert "--server-name NAME" in unnamed
        assert (await Shell(tmp_path, service.address).run("status", *named)).code == 0
    async with simulated_service(tls=ours.server(mutual=True)) as service:
        assert "if it wants a certificate:    --cert FILE --key FILE (mTLS)" in (
            bare := await told(service.address, *named)
        )
        assert "if it wants TLS" not in bare
        assert f"is the certificate still valid, and of an authority that the service trusts? {strange_cert}" in (
            await told(service.address, *strange)
        )
        assert (await Shell(tmp_path, service.address).run("status", *named, "--cert", cert, "--key", key)).code == 0
    async with simulated_service() as service:
        assert "does not speak TLS" in await told(service.address, *named)
