"""One connection to the service for a command, and its errors told with a way out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from expresslane_client import (
    CallError,
    Client,
    DeadlineExceededError,
    ExpresslaneClientError,
    RefusedError,
    UnavailableError,
)

from expresslane.cli.console import CommandError, Exit
from expresslane.cli.unreachable import unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from expresslane.cli.connection import Connection

__all__ = ["connected", "explained"]

_TENANT_VARIABLE = "EXPRESSLANE_TENANT"
_INVALID = "INVALID_ARGUMENT"
_DRAINING = "DRAINING"
_UNIMPLEMENTED = "UNIMPLEMENTED"


@asynccontextmanager
async def connected(service: Connection, *, admin: bool = False) -> AsyncIterator[Client]:
    """A client; what goes wrong with its calls, of the `admin` service or not, becomes a CommandError."""
    async with service.client() as client:
        try:
            yield client
        except ExpresslaneClientError as error:
            raise explained(error, service, admin=admin) from error


def explained(
    error: ExpresslaneClientError,
    service: Connection,
    rename: Callable[[str], str] = lambda text: text,
    *,
    admin: bool = False,
) -> CommandError:
    """A client's error as a CommandError. `rename` turns paths of fields into what the user knows them by.

    `admin`: whether a call of the Admin service failed, which may be served elsewhere.
    """
    address = service.address
    match error:
        case RefusedError(reason="UNAUTHENTICATED"):
            return CommandError(
                f"the service at {address} does not let us in: {error.message}",
                "send a key:      EXPRESSLANE_API_KEY=..., or --api-key-file FILE",
                "make one:        expresslane keys new TENANT",
                code=Exit.SERVICE,
            )
        case RefusedError():
            message = rename(error.message)
            hints = [f"{rename(one.field)}: {one.description}" for one in error.violations]
            hints = [hint for hint in hints if hint not in message]
            if error.reason == _DRAINING:
                hints.append("it takes no more work, for good: start it anew, or name another with --address")
            elif error.retry_after_s is not None:
                hints.append(f"try again in {error.retry_after_s:.0f} s")
            is_our_mistake = error.code.name == _INVALID
            code = Exit.USAGE if is_our_mistake else Exit.SERVICE
            return CommandError(f"refused ({error.reason}): {message}", *hints, code=code)
        case UnavailableError():
            return unreachable(error, service)
        case DeadlineExceededError():
            return CommandError(f"the service at {address} did not answer in time", code=Exit.SERVICE)
        case CallError() if error.code.name == _UNIMPLEMENTED:
            return _unimplemented(error, address, admin=admin)
        case _:
            return CommandError(str(error), code=Exit.SERVICE)


def _unimplemented(error: CallError, address: str, *, admin: bool) -> CommandError:
    """Most likely it is the other one of a service's two addresses, else another version."""
    compare = "compare:         expresslane version"
    if admin:
        apart = "name Admin's:    --address HOST:PORT, where the service has one for it (its EXPRESSLANE_ADMIN_LISTEN)"
        wrong = f"what answers at {address} has no Admin service: {error.message}"
        return CommandError(wrong, apart, compare, code=Exit.SERVICE)
    apart = "is it Admin's?   its address (EXPRESSLANE_ADMIN_LISTEN) is for backends, policy, tenants, status and drain"
    wrong = f"what answers at {address} is not this version of expresslane: {error.message}"
    return CommandError(wrong, compare, apart, code=Exit.SERVICE)
