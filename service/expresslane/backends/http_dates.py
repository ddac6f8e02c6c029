"""Dates in the headers of an answer, and the moment that they count from."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["http_date", "in_zone", "made_at"]


def http_date(text: str) -> datetime | None:
    """An HTTP date in any of its three forms, None for anything else. Without a zone it is UTC."""
    try:
        return in_zone(parsedate_to_datetime(text))
    except (TypeError, ValueError, OverflowError):  # also a field, or the zone, of more digits than a date can have
        return None


def made_at(headers: Mapping[str, str]) -> datetime:
    """When the answer was made, by its sender's own clock (Date) if it says, so that clocks may differ."""
    return http_date(headers.get("Date", "")) or datetime.now(UTC)


def in_zone(when: datetime) -> datetime:
    """The moment, in UTC where it has no zone."""
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
