"""One request as the fake saw it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["SeenRequest"]


@dataclass(slots=True)
class SeenRequest:
    """What came in, and how it went on. Header names are in lower case."""

    number: int
    """From 0, in order of arrival, discovery included."""
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Which connection it came on, from 0."""
    query: str = ""
    """What followed the path's `?`, as it came."""
    target: str = ""
    """Path and query as they came, with what the fake lies below."""
    begun_ns: int = 0
    """When its work began, monotonic."""
    ended_ns: int = 0
    """When its work ended or was seen to be wanted no more, monotonic; 0: it goes on."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the whole answer has been sent."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client left before the answer's end."""

    @property
    def json(self) -> Any:
        """The body as a JSON value."""
        return orjson.loads(self.body)
