"""Why an address cannot be listened at: gRPC does not say, so it is tried once more with a plain socket."""

from __future__ import annotations

import errno
import socket

__all__ = ["why_not"]

_CAUSES = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not listen at that port",
}


def why_not(listen: str) -> str:
    """The cause, in words, for an address of the form HOST:PORT at which gRPC cannot listen."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"the host {host!r} is not known ({error.strerror})"
    family, kind, protocol, _, address = found[0]
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return _CAUSES.get(error.errno or 0) or error.strerror or "the system does not say why"
    return "the system does not say why"
