"""How a command reaches the service: where it is, what it trusts, and the key it shows."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

from expresslane_client import Client, InputError, Tls

from expresslane.cli.console import CommandError

__all__ = ["ADDRESS", "Connection", "add_connection", "connection"]

ADDRESS = "127.0.0.1:50051"
PREFIX = "EXPRESSLANE_"
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("", "false", "0", "no", "off")
_OPTIONS = (
    ("address", "ADDRESS", "HOST:PORT", f"where the service is (default: {PREFIX}ADDRESS, else {ADDRESS})"),
    ("ca_file", "CLIENT_CA_FILE", "FILE", f"authorities to trust, in PEM form; means --tls ({PREFIX}CLIENT_CA_FILE)"),
    ("cert", "CLIENT_CERT_FILE", "FILE", f"our own certificate, for mTLS ({PREFIX}CLIENT_CERT_FILE)"),
    ("key", "CLIENT_KEY_FILE", "FILE", f"the certificate's private key ({PREFIX}CLIENT_KEY_FILE)"),
    ("server_name", "CLIENT_SERVER_NAME", "NAME", f"the name its certificate is for ({PREFIX}CLIENT_SERVER_NAME)"),
    ("api_key_file", "", "FILE", f"a file with the API key (default: the key itself in {PREFIX}API_KEY)"),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the service is, and how to talk to it; as text, its address."""

    address: str
    tls: Tls | None = None
    tenant: str = ""
    api_key: str = field(default="", repr=False)
    words: tuple[str, ...] = field(default=(), compare=False)
    """What the command line said of all this, for commands that are suggested: none of it is a secret."""

    def __str__(self) -> str:
        return self.address

    def client(self) -> Client:
        """A client for the service. Raises CommandError for files and keys that cannot be used."""
        try:
            return Client(self.address, tenant=self.tenant, tls=self.tls, api_key=self.api_key)
        except InputError as error:
            raise CommandError(str(error)) from None


def add_connection(parser: argparse._ActionsContainer, *, first: bool = False) -> None:
    """The options that say where the service is. The first parser has the defaults, the others none.

    There is none for a key itself: other users of the machine can read command lines.
    """
    for name, _, metavar, meaning in _OPTIONS:
        default = None if first else argparse.SUPPRESS
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, default=default, help=meaning)
    default = None if first else argparse.SUPPRESS
    meaning = f"encrypt, and check the service's certificate ({PREFIX}CLIENT_TLS)"
    parser.add_argument("--tls", action="store_true", default=default, help=meaning)


def connection(arguments: argparse.Namespace) -> Connection:
    """What options and environment say. Raises CommandError for what makes no sense."""
    given = {
        name: getattr(arguments, name) or (os.environ.get(PREFIX + variable) if variable else None) or ""
        for name, variable, _, _ in _OPTIONS
    }
    given["address"] = given["address"].strip()  # a variable may come from a file, with a line end
    if given["address"].startswith(("http://", "https://")):
        scheme, _, rest = given["address"].partition("://")
        with_tls = " --tls" if scheme == "https" else ""
        example = f"example: --address {rest.rstrip('/') or ADDRESS}{with_tls}"
        raise CommandError(f"the address {given['address'][:200]!r} has to be HOST:PORT, without {scheme}://", example)
    address = given["address"] or ADDRESS
    try:
        Client(address)  # which opens nothing: an address that makes no sense is told before any work
    except InputError as error:
        where = "--address" if arguments.address else f"{PREFIX}ADDRESS"
        raise CommandError(error.message, f"it comes from {where}") from None
    files = {"ca_file": given["ca_file"], "cert_file": given["cert"], "key_file": given["key"]}
    tls = None
    if arguments.tls or _is_true("CLIENT_TLS") or any(files.values()) or given["server_name"]:
        try:
            tls = Tls(**{name: file or None for name, file in files.items()}, server_name=given["server_name"])
        except InputError:
            raise CommandError("--cert and --key go together", "example: --cert client.pem --key client.key") from None
    tenant = os.environ.get(f"{PREFIX}TENANT", "")
    return Connection(address, tls, tenant, _api_key(given["api_key_file"]), _words(arguments))


def _words(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The options as they were given."""
    names = [name for name, *_ in _OPTIONS if getattr(arguments, name)]
    given = [word for name in names for word in (f"--{name.replace('_', '-')}", getattr(arguments, name))]
    return (*given, *(["--tls"] if arguments.tls else []))


def _api_key(file: str) -> str:
    if not file:
        return os.environ.get(f"{PREFIX}API_KEY", "").strip()
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"--api-key-file {file} cannot be read: {reason}") from None


def _is_true(name: str) -> bool:
    text = os.environ.get(PREFIX + name, "").strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise CommandError(f"{PREFIX}{name} is not true or false", f"example: {PREFIX}{name}=true")
    return text in _TRUE
