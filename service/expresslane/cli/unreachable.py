"""Why a service was not reached, as far as gRPC's words tell, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from expresslane.cli.console import CommandError, Exit

if TYPE_CHECKING:
    from expresslane_client import Tls, UnavailableError

    from expresslane.cli.connection import Connection

__all__ = ["unreachable"]

_NEVER_OPENED = "failed to connect"
"""A connection that breaks in the middle of a call is told without these words."""
_HUNG_UP = re.compile(r"Socket closed|reset by peer|Broken pipe|EOF")
_NOT_GRPC = re.compile(r"http1\.x server|Failed parsing HTTP/2")
"""The first bytes that came are not HTTP/2's: an HTTP/1 server's error page, or any other protocol's greeting."""
_NO_TLS_THERE = "WRONG_VERSION_NUMBER"
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
_OTHER_NAME = "Hostname Verification"


def unreachable(error: UnavailableError, service: Connection) -> CommandError:
    """The error of a call that found no service.

    A server that wants TLS, or a certificate, only hangs up: which of them it wants is said nowhere, so both are named
    as far as this command did not bring them.
    """
    address, told = service.address, error.message
    if service.tls is not None and _NO_TLS_THERE in told:
        return _error(
            f"what listens at {address} does not speak TLS: {told}", "without TLS:     leave out --tls, --ca-file"
        )
    if service.tls is not None and _NOT_TRUSTED in told:
        return _error(
            f"the certificate of the service at {address} is not trusted: {told}",
            "trust its issuer: --ca-file FILE, the authority's certificate in PEM form",
        )
    if service.tls is not None and _OTHER_NAME in told:
        return _error(
            f"the certificate of the service at {address} is for another name: {told}",
            "name it:         --server-name NAME, a name that the certificate is for",
        )
    if _NEVER_OPENED in told and _HUNG_UP.search(told):
        return _error(f"what listens at {address} hangs up: {told}", *_missing(service.tls))
    if _NOT_GRPC.search(told):
        return _error(
            f"what answers at {address} is no gRPC service: {told}",
            "name another:    --address HOST:PORT, or EXPRESSLANE_ADDRESS=HOST:PORT",
        )
    return _error(
        f"no service answers at {address}: {told}",
        "start one:       expresslane serve",
        "name another:    --address HOST:PORT, or EXPRESSLANE_ADDRESS=HOST:PORT",
        "with TLS:        --tls, and --ca-file FILE for an authority of your own",
    )


def _missing(tls: Tls | None) -> list[str]:
    """What a server may want that was not shown."""
    hints = []
    if tls is None:
        hints.append("if it wants TLS:              --tls, and --ca-file FILE for an authority of your own")
    if tls is None or not tls.cert_file:
        hints.append("if it wants a certificate:    --cert FILE --key FILE (mTLS)")
    else:
        hints.append(f"is the certificate still valid, and of an authority that the service trusts? {tls.cert_file}")
    return hints


def _error(message: str, *hints: str) -> CommandError:
    return CommandError(message, *hints, code=Exit.SERVICE)
