"""How a command line reaches the service: options before environment, TLS from files, keys that are not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from expresslane.cli.connection import Connection, connection
from expresslane.cli.console import CommandError
from expresslane.cli.parser import build_parser
from expresslane_client import Tls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "API_KEY", "CLIENT_TLS", "CLIENT_CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE"):
        monkeypatch.delenv(f"EXPRESSLANE_{name}", raising=False)


def read(*argv: str) -> Connection:
    """The connection of a command line."""
    return connection(build_parser().parse_args(["status", *argv]))


def test_without_options_it_is_clear_text_without_a_key() -> None:
    """Loopback, no TLS, no key."""
    assert read() == Connection("127.0.0.1:50051")


def test_an_address_is_no_url() -> None:
    """What a browser would take is told of, with what to write instead (P39)."""
    with pytest.raises(CommandError, match="without https://") as raised:
        read("--address", "https://there:443/")
    assert raised.value.hints == ("example: --address there:443 --tls",)


def test_an_address_has_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without is told with what to write, and where it came from, before anything is sent (P39)."""
    with pytest.raises(CommandError, match="the address 'there' is not HOST:PORT; example: there:50051") as raised:
        read("--address", "there")
    assert raised.value.hints == ("it comes from --address",)
    monkeypatch.setenv("EXPRESSLANE_ADDRESS", "::1")
    with pytest.raises(CommandError, match=r"example: \[::1\]:50051") as raised:
        read()
    assert raised.value.hints == ("it comes from EXPRESSLANE_ADDRESS",)
    monkeypatch.setenv("EXPRESSLANE_ADDRESS", "there:1\n")
    assert str(read()) == "there:1", "a line end of a file is none of it"


def test_any_file_turns_tls_on() -> None:
    """--tls alone trusts the usual authorities, --ca-file others, --cert and --key show a certificate."""
    assert read("--tls").tls == Tls()
    assert read("--ca-file", "ca.pem").tls == Tls(ca_file="ca.pem")
    mutual = read("--ca-file", "ca", "--cert", "c", "--key", "k", "--server-name", "n").tls
    assert mutual == Tls(ca_file="ca", cert_file="c", key_file="k", server_name="n")


def test_the_environment_says_what_options_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each option has a variable; a key stands in a variable or in a file, never in a command line."""
    monkeypatch.setenv("EXPRESSLANE_CLIENT_TLS", "true")
    monkeypatch.setenv("EXPRESSLANE_CLIENT_CA_FILE", "theirs.pem")
    monkeypatch.setenv("EXPRESSLANE_API_KEY", "from-the-environment")
    assert read().tls == Tls(ca_file="theirs.pem")
    assert read("--ca-file", "ours.pem").tls == Tls(ca_file="ours.pem")
    assert read().api_key == "from-the-environment"
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    assert read("--api-key-file", str(file)).api_key == "from-the-file"
    assert "from-the" not in repr(read())


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["--cert", "c"], "go together"), (["--api-key-file", "/nowhere/key"], "/nowhere/key cannot be read: No such")],
)
def test_what_makes_no_sense_is_told(argv: list[str], said: str) -> None:
    """Half a certificate, or a file that is not there, ends the command before anything is sent."""
    with pytest.raises(CommandError, match=said):
        read(*argv)


def test_a_file_that_cannot_be_read_is_told_by_name() -> None:
    """Also when only opening the connection needs it."""
    with pytest.raises(CommandError, match=r"/nowhere/ca\.pem cannot be read"):
        read("--ca-file", "/nowhere/ca.pem").client()


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    """A key with a line end in it is refused without being quoted."""
    with pytest.raises(CommandError, match="cannot be sent") as caught:
        Connection("h:1", api_key="two\nlines").client()
    assert "two" not in str(caught.value)
