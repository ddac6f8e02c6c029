"""What is said of a service that is not reached: only what gRPC's words tell."""

from __future__ import annotations

import grpc
import pytest
from expresslane.cli.connection import Connection
from expresslane.cli.console import CommandError, Exit
from expresslane.cli.service_calls import explained
from expresslane_client import CallError, Tls, UnavailableError

NEVER_OPENED = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: "


def told(message: str, tls: Tls | None = None) -> CommandError:
    """What the command line makes of it."""
    return explained(UnavailableError(grpc.StatusCode.UNAVAILABLE, message), Connection("h:1", tls))


@pytest.mark.parametrize("words", ["Socket closed", "recvmsg:Connection reset by peer", "sendmsg: Broken pipe (32)"])
def test_who_hangs_up_may_want_what_was_not_shown(words: str) -> None:
    """TLS and a certificate in clear text, a certificate with TLS; another one where there is one."""
    assert [hint.split(":")[0] for hint in told(NEVER_OPENED + words).hints] == [
        "if it wants TLS",
        "if it wants a certificate",
    ]
    assert [hint.split(":")[0] for hint in told(NEVER_OPENED + words, Tls()).hints] == ["if it wants a certificate"]
    (asked,) = told(NEVER_OPENED + words, Tls(cert_file="c.pem", key_file="k.pem")).hints
    assert asked.endswith("? c.pem")


@pytest.mark.parametrize(
    "words",
    [
        "Socket closed",
        "recvmsg:Connection reset by peer",
        NEVER_OPENED + "Failed to connect to remote host: refused",
        "",
    ],
)
@pytest.mark.parametrize("tls", [None, Tls(ca_file="ca.pem")])
def test_a_service_that_is_gone_wants_nothing(words: str, tls: Tls | None) -> None:
    """A connection that breaks in the middle, or is refused, says nothing of TLS: start one, or name another."""
    error = told(words, tls)
    assert (error.message, error.code) == (f"no service answers at h:1: {words}", Exit.SERVICE)
    assert error.hints[0] == "start one:       expresslane serve"


@pytest.mark.parametrize(
    "words",
    [
        "Trying to connect an http1.x server (HTTP status 400)",
        "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 79)",
    ],
)
def test_another_kind_of_server(words: str) -> None:
    """Somebody answers, but no gRPC service: starting one there would not help."""
    error = told(NEVER_OPENED + words)
    assert error.message.startswith("what answers at h:1 is no gRPC service: ")
    assert error.hints == ("name another:    --address HOST:PORT, or EXPRESSLANE_ADDRESS=HOST:PORT",)


@pytest.mark.parametrize("admin", [True, False])
def test_a_service_without_such_a_call(admin: bool) -> None:
    """Admin may be at an address of its own: that comes first, where Admin was asked for, and only there."""
    error = CallError(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    apart, compare = explained(error, Connection("h:1", None), admin=admin).hints[:: 1 if admin else -1]
    assert "EXPRESSLANE_ADMIN_LISTEN" in apart
    assert compare == "compare:         expresslane version"


def test_clear_text_meets_no_word_about_certificates() -> None:
    """What a proxy says of its own TLS is no fault of a command that used none."""
    assert told("upstream: CERTIFICATE_VERIFY_FAILED").message.startswith("no service answers")
