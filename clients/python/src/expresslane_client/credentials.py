"""What a connection shows and trusts: TLS from files, and the API key that goes with every call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from expresslane_client.errors import InputError

__all__ = ["Tls", "key_metadata"]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a connection, from PEM files. Without any of them: the authorities that gRPC comes with.

    `ca_file`: authorities to trust in their place. `cert_file` and `key_file`: our own certificate, where the service
    asks for one (mTLS). `server_name`: the name that the service's certificate is for, where that is not the target's.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise InputError("a certificate and its private key go together", field="cert_file")

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials as gRPC takes them; reads the files. Raises InputError for one that cannot be used."""
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.ca_file, "ca_file", "certificate"),
            private_key=_pem(self.key_file, "key_file", "private key"),
            certificate_chain=_pem(self.cert_file, "cert_file", "certificate"),
        )


def key_metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries an API key. Raises InputError for what cannot stand in a header, without showing it."""
    if not api_key:
        return ()
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise InputError("the API key holds characters that cannot be sent", field="api_key")
    return (("authorization", f"Bearer {api_key}"),)


def _pem(file: str | None, field: str, what: str) -> bytes | None:
    """A file's bytes. gRPC takes any, and then tells of a service that cannot be trusted."""
    if not file:
        return None
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", field=field) from None
    if f"{what.upper()}-----".encode() not in text:
        raise InputError(f"{file} holds no {what} in PEM form", field=field)
    return text
