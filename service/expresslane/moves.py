"""What a failure says about its backend, and whether another may well not repeat it.

What one backend will never answer of a prompt, another may. A prompt meets each backend that failed it like this once
at most, so that its moves are bounded by the number of backends that serve its model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.errors import Reason, Refuses
from expresslane.rate_limits import KEY_REFUSED, MODEL_NOT_FOUND

if TYPE_CHECKING:
    from expresslane.errors import BackendError

__all__ = ["AVOID_NS", "avoid_kind", "is_backends_fault", "is_unpaid", "may_go_elsewhere", "was_refused"]

AVOID_NS = 60 * 10**9
"""How long a model avoids a backend that refuses it, or the key, where another one is up."""

_BACKENDS_FAULT = frozenset(
    {
        Reason.BACKEND_UNREACHABLE,
        Reason.BACKEND_DISCONNECTED,
        Reason.BACKEND_OVERLOADED,
        Reason.BACKEND_ERROR,
        Reason.BACKEND_MALFORMED,
    }
)
"""What a breaker counts, beside time-outs that the service itself has set; never a 4xx, which is about the request, or
about the key for one model."""
_KEYS = frozenset({Reason.BACKEND_UNAUTHORIZED, Reason.BACKEND_QUOTA_EXHAUSTED})


def avoid_kind(error: BackendError, *, raw: bool) -> str:
    """As what a model is to avoid a backend that said this; empty: it is not.

    One prompt must not take a backend from the others, so it is only what the backend says of its own that counts: the
    key, which callers do not send, or the model. To a raw prompt (`raw`) it may call a model missing that is there for
    chats alone.
    """
    if error.refuses is Refuses.KEY:
        return KEY_REFUSED
    return MODEL_NOT_FOUND if error.refuses is Refuses.MODEL and not raw else ""


def is_unpaid(error: BackendError) -> bool:
    """Whether the account has too little for a prompt, and may have something for the next: a 402 and no more."""
    return error.reason is Reason.BACKEND_QUOTA_EXHAUSTED and error.refuses is None


def was_refused(error: BackendError) -> bool:
    """Whether nothing was run, where no answer had begun: to send the prompt elsewhere repeats nothing.

    So it is with 401, 402, 403 and a spent quota, with 404 and redirects, and where TLS fails.
    """
    status = error.http_status
    is_not_there = error.reason is Reason.BACKEND_REJECTED and (status == 404 or 300 <= status < 400)
    is_no_tls = error.reason is Reason.BACKEND_UNREACHABLE and not error.retryable
    return error.reason in _KEYS or error.refuses is not None or is_not_there or is_no_tls


def is_backends_fault(error: BackendError) -> bool:
    """Whether the failure speaks against the backend.

    A 408 and a 409 do not, though they are worth another attempt: what one caller sends slowly, or twice, must not take
    the backend from the others.
    """
    return error.reason in _BACKENDS_FAULT and not 400 <= error.http_status < 500


def may_go_elsewhere(error: BackendError) -> bool:
    """Whether another backend may answer what this one is not to be asked again."""
    return was_refused(error) or (error.reason is Reason.BACKEND_MALFORMED and not error.retryable)
