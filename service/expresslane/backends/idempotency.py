"""By which a provider knows an attempt that it may have had before: the Idempotency-Key of its request.

The field is that of draft-ietf-httpapi-idempotency-key-header, whose servers answer a key that they know with what they
answered before, and with 409 while they work on it.
"""

from __future__ import annotations

import secrets
from hashlib import blake2s
from typing import TYPE_CHECKING

from expresslane.errors import AttemptError, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HEADER", "Keys"]

HEADER = "Idempotency-Key"

_NOT_ANSWERED = frozenset(
    {
        Reason.BACKEND_UNREACHABLE,
        Reason.BACKEND_DISCONNECTED,
        Reason.FIRST_TOKEN_TIMEOUT,
        Reason.IDLE_TIMEOUT,
        Reason.ATTEMPT_TIMEOUT,
    }
)
_STILL_AT_WORK = 409


class Keys:
    """Keys of 32 characters that say nothing, and that no other process gives out."""

    def __init__(self) -> None:
        self._process = secrets.token_bytes(16)

    def key(self, ticket: int, backend: str, history: Iterable[AttemptError]) -> str:
        """The key of a ticket's next attempt at a backend: the last one's, while nobody knows what came of that.

        After an answer it is another one: a server that keeps answers would repeat the error for ever.
        """
        answers = sum(one.backend == backend and _is_answer(one) for one in history)
        return blake2s(f"{ticket}/{backend}/{answers}".encode(), key=self._process, digest_size=16).hexdigest()


def _is_answer(attempt: AttemptError) -> bool:
    return attempt.reason not in _NOT_ANSWERED and attempt.http_status != _STILL_AT_WORK
