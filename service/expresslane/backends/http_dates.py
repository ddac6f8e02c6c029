"""Dates in the headers of an answer, and the moment that they count from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["http_date", "in_zone", "local_now", "seconds_until"]


_SKEW_MAX = timedelta(days=1)
"""Clocks further apart than this are not both set."""


def http_date(text: str) -> datetime | None:
    """An HTTP date in any of its three forms, None for anything else. Without a zone it is UTC."""
    try:
        return in_zone(parsedate_to_datetime(text))
    except (TypeError, ValueError, OverflowError):  # also a field, or the zone, of more digits than a date can have
        return None


def seconds_until(when: datetime, headers: Mapping[str, str]) -> float:
    """Seconds from the making of an answer until a moment that it names; below 0 where that is past.

    They count by its sender's own clock (Date) if it says, so that clocks may differ. If they differ by more than a
    day, the one counts that is nearer to the moment: a sender that is wrong by months means its own time, but one
    without a clock (its Date is in 1970) may pass on what another has said, and a second must not become years.
    """
    now = local_now()
    sent = http_date(headers.get("Date", "")) or now
    is_doubtful = abs(sent - now) > _SKEW_MAX and abs(when - now) < abs(when - sent)
    return (when - (now if is_doubtful else sent)).total_seconds()


def local_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)


def in_zone(when: datetime) -> datetime:
    """The moment, in UTC where it has no zone."""
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
