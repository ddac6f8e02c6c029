"""Keys by which a provider knows an attempt again (P33)."""

from __future__ import annotations

import pytest
from expresslane.backends.idempotency import Keys
from expresslane.errors import AttemptError, Reason


def ended(reason: Reason, http_status: int = 0, backend: str = "b") -> AttemptError:
    """An attempt that ended so."""
    return AttemptError(backend, reason, "", http_status, 0)


@pytest.mark.parametrize(
    ("attempt", "is_same"),
    [
        (ended(Reason.BACKEND_UNREACHABLE), True),
        (ended(Reason.BACKEND_DISCONNECTED), True),
        (ended(Reason.BACKEND_DISCONNECTED, 200), True),
        (ended(Reason.ATTEMPT_TIMEOUT), True),
        (ended(Reason.BACKEND_ERROR, 409), True),
        (ended(Reason.BACKEND_ERROR, 500, backend="other"), True),
        (ended(Reason.BACKEND_ERROR, 500), False),
        (ended(Reason.BACKEND_OVERLOADED, 503), False),
        (ended(Reason.BACKEND_RATE_LIMITED, 429), False),
        (ended(Reason.BACKEND_ERROR, 200), False),
    ],
)
def test_the_same_while_nobody_knows(attempt: AttemptError, is_same: bool) -> None:
    """The next key is the last one's where the attempt may have been answered, and a new one after an answer."""
    keys = Keys()
    assert (keys.key(1, "b", [attempt]) == keys.key(1, "b", [])) == is_same
    assert keys.key(1, "b", [attempt, attempt]) == keys.key(1, "b", [attempt, attempt])


def test_of_one_ticket_at_one_backend_of_one_process() -> None:
    """No two prompts, backends or processes share a key, and they are as short as a UUID for those that bound them."""
    keys = Keys()
    made = [keys.key(1, "b", []), keys.key(2, "b", []), keys.key(1, "c", []), Keys().key(1, "b", [])]
    assert len(set(made)) == 4
    assert {len(key) for key in made} == {32}
