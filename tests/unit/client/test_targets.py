"""Where a client looks for its service: HOST:PORT, or a form of gRPC's own."""

from __future__ import annotations

import pytest
from expresslane_client import Client, InputError


@pytest.mark.parametrize(
    "target",
    [
        *("127.0.0.1:50051", "there:1", "my_host.svc.cluster.local:65535", "[::1]:50051", "[fe80::1%eth0]:50051"),
        *("dns:///there:1", "dns:there", "ipv4:10.0.0.1:1,10.0.0.2:1", "unix:/run/x.sock", "unix-abstract:x"),
        *("DNS:there:1", "IPv4:10.0.0.1:1", "there:050051"),
    ],
)
def test_good_targets(target: str) -> None:
    """Nothing is opened, nothing is wrong."""
    assert Client(target).target == target
    assert Client(f" {target}\r\n").target == target, "a line end of a file or a variable is none of it"


@pytest.mark.parametrize(
    ("target", "example"),
    [
        ("there", "there:50051"),
        ("there:", "there:50051"),
        ("10.0.0.1", "10.0.0.1:50051"),
        ("[::1]", "[::1]:50051"),
        ("::1", "[::1]:50051"),
        ("::1:5", "[::1]:50051"),
        ("2001:db8::1:50051", "[2001:db8::1]:50051"),
        ("2001:db8::1:ab", "[2001:db8::1:ab]:50051"),
        ("1:2:3", "127.0.0.1:50051"),
        ("there:0", "127.0.0.1:50051"),
        ("there:099999", "127.0.0.1:50051"),
        ("there:00", "127.0.0.1:50051"),
        ("there:99999", "127.0.0.1:50051"),
        ("there:port", "127.0.0.1:50051"),
        (":50051", "127.0.0.1:50051"),
        ("http://there:50051", "127.0.0.1:50051"),
        ("", "127.0.0.1:50051"),
    ],
)
def test_an_address_needs_host_and_port(target: str, example: str) -> None:
    """Without a port gRPC would call port 443, and tell of it in words of its own (P39)."""
    with pytest.raises(InputError) as raised:
        Client(target)
    told = f"the address {target!r} is not HOST:PORT; example: {example} (behind a TLS proxy mostly port 443)"
    assert str(raised.value) == told
