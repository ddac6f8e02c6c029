"""One connection to the service for a command, and its errors told with a way out."""

from __future__ import annotations

import argparse
import os
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ADDRESS", "add_address", "client_of", "connected", "explained"]

ADDRESS = "127.0.0.1:50051"
_VARIABLE = "EXPRESSLANE_ADDRESS"
_TENANT_VARIABLE = "EXPRESSLANE_TENANT"
_UNIMPLEMENTED = "UNIMPLEMENTED"


def add_address(parser: argparse._ActionsContainer, *, first: bool = False) -> None:
    """The option that says where the service is. The first parser has the default, the others none."""
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=(os.environ.get(_VARIABLE) or ADDRESS) if first else argparse.SUPPRESS,
        help=f"where the service is (default: {_VARIABLE}, else {ADDRESS})",
    )


def client_of(address: str) -> Client:
    """A client for the service at an address, as the tenant that EXPRESSLANE_TENANT names."""
    return Client(address, tenant=os.environ.get(_TENANT_VARIABLE, ""))


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Client]:
    """A client; what goes wrong with its calls becomes a CommandError."""
    async with client_of(address) as client:
        try:
            yield client
        except ExpresslaneClientError as error:
            raise explained(error, address) from error


def explained(
    error: ExpresslaneClientError, address: str, rename: Callable[[str], str] = lambda text: text
) -> CommandError:
    """A client's error as a CommandError. `rename` turns paths of fields into what the user knows them by."""
    match error:
        case RefusedError():
            message = rename(error.message)
            hints = [f"{rename(one.field)}: {one.description}" for one in error.violations]
            hints = [hint for hint in hints if hint not in message]
            if error.retry_after_s is not None:
                hints.append(f"try again in {error.retry_after_s:.0f} s")
            return CommandError(f"refused ({error.reason}): {message}", *hints, code=Exit.SERVICE)
        case UnavailableError():
            return CommandError(
                f"no service answers at {address}: {error.message}",
                "start one:       expresslane serve",
                f"name another:    --address HOST:PORT, or {_VARIABLE}=HOST:PORT",
                code=Exit.SERVICE,
            )
        case DeadlineExceededError():
            return CommandError(f"the service at {address} did not answer in time", code=Exit.SERVICE)
        case CallError() if error.code.name == _UNIMPLEMENTED:
            wrong = f"what answers at {address} is not this version of expresslane: {error.message}"
            return CommandError(wrong, "compare:    expresslane version", code=Exit.SERVICE)
        case _:
            return CommandError(str(error), code=Exit.SERVICE)
