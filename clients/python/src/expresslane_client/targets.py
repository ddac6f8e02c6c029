"""Where a service is: HOST:PORT, or what else gRPC takes for a target."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from expresslane_client.errors import InputError

__all__ = ["check_target"]

DEFAULT_PORT = 50051
_OF_GRPC = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):", re.IGNORECASE)
"""Names of gRPC's own forms: what follows is left to it."""
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[^\]\s]+)?\]|[^\s:/\[\]]+):0*(?P<port>\d{1,5})", re.ASCII)
_ALONE = re.compile(r"[^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]")


def check_target(target: str) -> None:
    """Raises InputError for an address that is not HOST:PORT.

    Without a port gRPC would call port 443, and say of an address that makes no sense only that it has not connected.
    """
    if _OF_GRPC.match(target):
        return
    found = _HOST_AND_PORT.fullmatch(target)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        wrong = f"the address {target[:200]!r} is not HOST:PORT"
        raise InputError(f"{wrong}; example: {_example(target)} (behind a TLS proxy mostly port 443)")


def _example(target: str) -> str:
    """The address with the port that a service has unless told otherwise, where it is nothing but a host."""
    name = target.removesuffix(":")
    if _ALONE.fullmatch(name):
        return f"{name[:200]}:{DEFAULT_PORT}"
    host, _, port = target.rpartition(":")
    if port.isdecimal() and _is_ipv6(host):  # ::1:5, most likely meant as [::1]:5
        return f"[{host}]:{DEFAULT_PORT}"
    return f"[{target}]:{DEFAULT_PORT}" if _is_ipv6(target) else f"127.0.0.1:{DEFAULT_PORT}"


def _is_ipv6(text: str) -> bool:
    """Without a zone, which may have any length."""
    try:
        return IPv6Address(text).scope_id is None
    except AddressValueError:
        return False
