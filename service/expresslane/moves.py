"""Failures that say nothing of the prompt: what one backend will never answer, another may.

A prompt meets each backend that failed it like this once at most, so that its moves are bounded by the number of
backends that serve its model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.errors import Reason

if TYPE_CHECKING:
    from expresslane.errors import BackendError

__all__ = ["MISSING_PAUSE_NS", "lacks_model", "may_go_elsewhere", "refuses_key", "was_refused"]

MISSING_PAUSE_NS = 60 * 10**9
"""How long a backend that does not know a model is left alone with it, where another serves it."""

_KEYS = frozenset({Reason.BACKEND_UNAUTHORIZED, Reason.BACKEND_QUOTA_EXHAUSTED})


def refuses_key(error: BackendError) -> bool:
    """Whether the backend refuses the service's own key, or its quota is spent: 401, 402, 403, `insufficient_quota`.

    That is never the caller's: callers send no key of a backend.
    """
    return error.reason in _KEYS


def lacks_model(error: BackendError) -> bool:
    """Whether the model, or the path, is not at this backend: a 404 or a redirect. The rest of it may well work."""
    status = error.http_status
    return error.reason is Reason.BACKEND_REJECTED and (status == 404 or 300 <= status < 400)


def was_refused(error: BackendError) -> bool:
    """Whether nothing was run: to send the prompt elsewhere repeats nothing."""
    is_no_tls = error.reason is Reason.BACKEND_UNREACHABLE and not error.retryable
    return refuses_key(error) or lacks_model(error) or is_no_tls


def may_go_elsewhere(error: BackendError) -> bool:
    """Whether another backend may answer what this one is not to be asked again."""
    return was_refused(error) or (error.reason is Reason.BACKEND_MALFORMED and not error.retryable)
