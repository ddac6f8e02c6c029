"""What is said in the log of calls that are refused for what they are: a few lines for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from expresslane.auth.access import DeniedError
from expresslane.errors import Reason, RefusedError, status_code

if TYPE_CHECKING:
    from typing import Any

    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

__all__ = ["METADATA_BYTES", "check_metadata", "tell"]

METADATA_BYTES = 16 * 1024
"""Most metadata of one call, counted as HTTP/2 does: names, values, and 32 bytes for each pair."""
_PAIR_BYTES = 32

log = structlog.get_logger(__name__)


def tell(method: str, context: Context, refusal: RefusedError, **who: str) -> grpc.StatusCode:
    """One limited line for each kind of refusal: the log must not grow with what strangers send. Returns the code."""
    why = refusal.reason.value
    if isinstance(refusal, DeniedError):
        why, who = refusal.why, refusal.who
    code = status_code(refusal.reason)
    event = f"call refused: {why}"  # each kind is limited by itself
    log.warning(event, method=method.removeprefix("/"), code=code.name, peer=context.peer(), **who)
    return code


def check_metadata(context: Context) -> None:
    """Raises RefusedError (METADATA_TOO_LARGE)."""
    metadata = context.invocation_metadata() or ()
    size = sum(len(name) + len(value) + _PAIR_BYTES for name, value in metadata)
    if size > METADATA_BYTES:
        message = f"{size:,} bytes of metadata are more than {METADATA_BYTES:,}, the most that this service takes"
        raise RefusedError(Reason.METADATA_TOO_LARGE, message)
