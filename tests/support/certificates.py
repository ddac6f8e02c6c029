"""Certificates for tests: an authority of their own, and what it signs, as PEM files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trustme
from expresslane_client import Tls

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority"]


class Authority:
    """A certificate authority; its files lie in a folder of its own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._ca = trustme.CA()
        self.file = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, file: str = "") -> tuple[str, str]:
        """Sign a certificate for a DNS name; returns the files of certificate and key, over what was there."""
        made = self._ca.issue_cert(name)
        cert, key = self._folder / f"{file or name}.pem", self._folder / f"{file or name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return str(cert), str(key)

    def server(self, name: str = "localhost", *, mutual: bool = False) -> dict[str, str]:
        """TLS settings of a service with a certificate for that name."""
        cert, key = self.issue(name, "server")
        files = {"cert_file": cert, "key_file": key}
        return files | ({"client_ca_file": str(self.file)} if mutual else {})

    def caller(self, name: str = "", *, server_name: str = "localhost") -> Tls:
        """TLS of a caller that trusts this authority, with a certificate for that name if there is one."""
        cert, key = self.issue(name) if name else (None, None)
        return Tls(str(self.file), cert, key, server_name)
