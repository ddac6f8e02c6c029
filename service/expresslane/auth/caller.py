"""The caller of a call: its tenant and its role, as found at the door."""

from __future__ import annotations

from dataclasses import dataclass

from expresslane.identity import DEFAULT_TENANT

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call is from. `key_id`: the public part of its key; `admin`: whether it may use the Admin service."""

    tenant: str = DEFAULT_TENANT
    admin: bool = True
    key_id: str = ""
