"""TLS of the listeners: certificates from files, checked when they are read, and read again when they change.

gRPC asks for news of the certificates with every handshake, so new connections get the new ones, and open ones go on
with what they have. It can require a caller's certificate or ask for none; asking without requiring is not in its
Python API.
"""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from expresslane.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from expresslane.settings import TlsSettings

__all__ = ["Tls"]


class Tls:
    """The certificates that hold now. Load them before asking for credentials.

    `begun` is called with each connection, in a thread of gRPC.
    """

    def __init__(self, settings: TlsSettings, begun: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._begun = begun
        self._current: grpc.ServerCertificateConfiguration | None = None

    @property
    def on(self) -> bool:
        """Whether the listeners use TLS."""
        return bool(self._settings.cert_file)

    @property
    def files(self) -> tuple[str, ...]:
        """The files it all comes from."""
        settings = self._settings
        return tuple(filter(None, (settings.cert_file, settings.key_file, settings.client_ca_file)))

    def load(self) -> None:
        """Read the files; blocking. Raises ConfigError when they cannot be used, and what held before still holds."""
        if not self.on:
            return
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_passphrase)
        except (OSError, ValueError) as error:
            names = f"EXPRESSLANE_TLS__CERT_FILE={settings.cert_file}, __KEY_FILE={settings.key_file}"
            raise ConfigError(f"{names}: {_reason(error)}") from None
        root = None
        if settings.client_ca_file:
            try:
                context.load_verify_locations(settings.client_ca_file)
                root = Path(settings.client_ca_file).read_bytes()
            except (OSError, ValueError) as error:
                name = f"EXPRESSLANE_TLS__CLIENT_CA_FILE={settings.client_ca_file}"
                raise ConfigError(f"{name}: {_reason(error)}") from None
        pair = (Path(settings.key_file).read_bytes(), Path(settings.cert_file).read_bytes())
        self._current = grpc.ssl_server_certificate_configuration([pair], root_certificates=root)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials of one listener, which follow the files."""
        given = self._holding()
        # Each configuration that gRPC is given replaces the one before under the handshakes of other threads, which may
        # then use what was freed (github.com/grpc/grpc/issues/36693). So it is given one only when there is a new one.
        one_at_a_time = threading.Lock()

        def news() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            self._begun()
            with one_at_a_time:
                held, given = given, self._holding()
                return None if given is held else given

        with_client = bool(self._settings.client_ca_file)
        return grpc.dynamic_ssl_server_credentials(given, news, with_client)  # type: ignore[arg-type] # None: no news

    def _holding(self) -> grpc.ServerCertificateConfiguration:
        assert self._current is not None, "load comes first"
        return self._current


def _no_passphrase() -> str:
    raise ValueError("the private key has a passphrase, which nobody is there to type")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable PEM certificate and key of one pair ({error.reason or 'unreadable'})"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error)
