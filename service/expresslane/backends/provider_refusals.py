"""What a provider's error says of the next prompt: that the key or the model is refused, and not this prompt alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from expresslane.errors import Reason, Refuses

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["QUOTA_NAMES", "refuses"]

QUOTA_NAMES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "access_terminated",
        "credits_exhausted",
        "exceeded_current_quota_error",
    }
)
"""Codes and types that say that the account has nothing left, whatever is asked of it."""
_KEY_NAMES = frozenset({"invalid_api_key", "authentication_error"})
_MODEL_NAMES = frozenset({"model_not_found", "notfounderror"})
"""OpenAI's code, vLLM's type. A 404 without one may be about the prompt: no endpoint takes images, a gateway says."""
_NO_MODEL = re.compile(r"""model (?:'[^']*'|"[^"]*") not found""")
"""How Ollama begins what it says, which has no code."""


def refuses(reason: Reason, status: int, names: Sequence[str], message: str) -> Refuses | None:
    """What an error refuses whatever the prompt, by its HTTP status, its code and type (`names`) and its words.

    A 403 alone does not say: providers answer so where moderation has flagged one prompt, or one model is not allowed.
    Nor does a 402: OpenRouter answers so where one prompt asks for more than the credits that are left. A run of these
    does (`rate_limits.UNPAID_RUN`).
    """
    said = {name.lower() for name in names}
    if reason is Reason.BACKEND_QUOTA_EXHAUSTED and said & QUOTA_NAMES:
        return Refuses.KEY
    if reason is Reason.BACKEND_UNAUTHORIZED and (status == 401 or said & _KEY_NAMES):
        return Refuses.KEY
    if reason is Reason.BACKEND_REJECTED and status == 404 and (said & _MODEL_NAMES or _NO_MODEL.match(message)):
        return Refuses.MODEL
    return None
