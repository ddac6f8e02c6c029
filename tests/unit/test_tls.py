"""What gRPC is told of the certificates, handshake by handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from expresslane.settings import TlsSettings
from expresslane.tls import Tls

from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_configuration_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake gets the certificates if they are new to its listener, else nothing: gRPC may not survive more (P35).

    Each handshake is told of, either way.
    """
    listeners: list[tuple[Any, Any]] = []
    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", lambda given, news, _: listeners.append((given, news)))
    ours, begun = Authority(tmp_path), list[None]()
    tls = Tls(TlsSettings(**ours.server()), lambda: begun.append(None))
    tls.load()
    tls.credentials()
    tls.credentials()
    (first, one), (second, two) = listeners
    assert first is second
    assert [one(), two(), one()] == [None, None, None]
    tls.load()
    renewed = one()
    assert renewed not in (None, first)
    assert [one(), two(), two(), one()] == [None, renewed, None, None]
    assert len(begun) == 8
