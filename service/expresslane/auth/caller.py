"""The caller of the call at hand: its tenant and its role, set at the door and read by whoever needs it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["CALLER", "DEFAULT_TENANT", "Caller", "current_caller"]

DEFAULT_TENANT = "default"
"""Whose work it is where nobody says."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call is from. `key_id`: the public part of its key; `admin`: whether it may use the Admin service."""

    tenant: str = DEFAULT_TENANT
    admin: bool = True
    key_id: str = ""


CALLER: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039 - frozen


def current_caller() -> Caller:
    """Who the call that this runs in is from; outside of a call, the default tenant."""
    return CALLER.get()
