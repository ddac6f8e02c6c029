"""The types that settings share: how text is read, what is allowed, and what errors and the reference say of it."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from expresslane.masking import masked

__all__ = [
    "MAX_CAP",
    "MAX_REQUESTS_PER_MIN",
    "MAX_TOKENS_PER_MIN",
    "MAX_WEIGHT",
    "Cap",
    "Count",
    "EngineTokens",
    "Frozen",
    "Key",
    "LoadedModels",
    "QueueBytes",
    "QueuePrompts",
    "Rate",
    "RequestsPerMin",
    "Seconds",
    "SecondsOrOff",
    "TenantCount",
    "TokensPerMin",
    "Url",
    "Weight",
    "duration",
    "mapping",
    "names",
    "pairs",
    "says",
]

MAX_CAP = 100_000
MAX_REQUESTS_PER_MIN = 1_000_000_000
MAX_TOKENS_PER_MIN = 1_000_000_000_000
MAX_WEIGHT = 1_000

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h|)\s*")
_UNIT_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3_600.0}
_HEADER_UNSAFE = re.compile(r"[^\x21-\x7e]")


def duration(value: Any) -> Any:
    """Seconds from text with or without a unit; anything but text passes."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError("not a duration")
    return float(match[1]) * _UNIT_S[match[2]]


def pairs(value: Any) -> Any:
    """`a=b,c=d` as pairs, with `a` alone for `a=a`; anything but text passes."""
    if not isinstance(value, str):
        return value
    pairs = []
    for item in value.split(","):
        left, equals, right = (part.strip() for part in item.partition("="))
        if not left or (equals and not right):
            raise ValueError(f"{item.strip()!r} is not an entry")
        pairs.append((left, right or left))
    names = [left for left, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return tuple(pairs)


def mapping(value: Any) -> Any:
    """`a=b,c=d` as a dict; anything but text passes."""
    if not isinstance(value, str):
        return value
    for item in value.split(","):
        if "=" not in item:
            raise ValueError(f"{item.strip()!r} has no =")
    return dict(pairs(value))


def names(value: Any) -> Any:
    """`a,b,c` as a tuple of names; anything but text passes."""
    if not isinstance(value, str):
        return value
    names = tuple(item.strip() for item in value.split(","))
    if not all(names):
        raise ValueError("an entry is empty")
    return names


def _http_url(value: str) -> str:
    """An address that requests can be sent to, or empty."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        # Its own words quote the place where a port is looked for, which may be half a password.
        raise ValueError("it is not an address; in a password / ? # [ ] @ are %2F %3F %23 %5B %5D %40") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it does not start with http:// or https://")
    if not parts.hostname or re.search(r"\s", value):
        raise ValueError("it names no host")
    if port == 0:
        raise ValueError("port 0 is not an address")
    if "#" in value:
        raise ValueError("what follows a # is never sent; a # in a password or a query is %23")
    return value


def _header_safe(value: SecretStr) -> SecretStr:
    """A key that can be sent in an HTTP header."""
    if _HEADER_UNSAFE.search(value.get_secret_value()):
        raise ValueError("it holds white space or characters that an HTTP header cannot carry")
    return value


def says(allowed: str, example: str) -> dict[str, Any]:
    """What errors and the reference say of a setting whose type does not tell it all."""
    return {"allowed": allowed, "example": example}


Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Cap = Annotated[int, Field(ge=1, le=MAX_CAP)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LoadedModels = Annotated[int, Field(ge=0, le=4_096)]
EngineTokens = Annotated[int, Field(ge=0, le=1_000_000_000)]
RequestsPerMin = Annotated[int, Field(ge=0, le=MAX_REQUESTS_PER_MIN)]
TokensPerMin = Annotated[int, Field(ge=0, le=MAX_TOKENS_PER_MIN)]
QueuePrompts = Annotated[int, Field(ge=0, le=10_000_000)]
QueueBytes = Annotated[int, Field(ge=0, le=2**63 - 1)]
TenantCount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Weight = Annotated[int, Field(ge=1, le=MAX_WEIGHT)]
Seconds = Annotated[
    float,
    BeforeValidator(duration),
    Field(
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        json_schema_extra=says("more than 0 and at most 24 hours, in seconds or with a unit (ms, s, m, h)", "90s"),
    ),
]
SecondsOrOff = Annotated[
    float,
    BeforeValidator(duration),
    Field(
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        json_schema_extra=says("0 to 24 hours, in seconds or with a unit (ms, s, m, h)", "10s"),
    ),
]
Url = Annotated[
    str,
    AfterValidator(_http_url),
    Field(
        json_schema_extra={
            "format": "uri",
            **says("an http:// or https:// address with a host", "http://127.0.0.1:8000"),
        }
    ),
]
Key = Annotated[
    SecretStr,
    AfterValidator(_header_safe),
    Field(json_schema_extra=says("printable ASCII without white space", "sk-...")),
]


class Frozen(BaseModel):
    """Base of all settings: unknown names are refused, values stay as they were read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    @classmethod
    def range_of(cls, field: str) -> tuple[int, int]:
        """The least and the most that a setting may be, of those that have both."""
        schema = cls.model_json_schema()["properties"][field]
        return schema["minimum"], schema["maximum"]

    def __repr_args__(self) -> Any:
        """Fields for `repr`, credentials inside URLs hidden: a repr ends up in tracebacks and logs."""
        for name, value in super().__repr_args__():
            yield name, masked(value) if isinstance(value, str) else value
