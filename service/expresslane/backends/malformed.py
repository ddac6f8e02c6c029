"""Bytes from a backend turned into JSON values, and the error for bytes that are no such thing."""

from __future__ import annotations

from typing import Any

import orjson

from expresslane.errors import BackendError, Reason

__all__ = ["excerpt", "load", "load_object", "malformed"]

_EXCERPT_BYTES = 120


def excerpt(data: bytes) -> str:
    """The beginning of `data` in printable form."""
    text = data[:_EXCERPT_BYTES].decode(errors="backslashreplace")
    shown = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return shown + ("..." if len(data) > _EXCERPT_BYTES else "")


def malformed(what: str, data: bytes, *, http_status: int = 0) -> BackendError:
    """The error for an answer that is not what its protocol promises."""
    return BackendError(
        Reason.BACKEND_MALFORMED,
        f"malformed answer: {what}: {excerpt(data)}",
        http_status=http_status,
        provider_body=data[:2048].decode(errors="backslashreplace"),
    )


def load(data: bytes) -> Any:
    """A JSON value. Raises BackendError, which names the byte where the UTF-8 is invalid if that is what is wrong."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _not_json(data, error) from None


def load_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises BackendError when it is anything else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _not_json(data, error) from None
    if type(value) is not dict:
        raise malformed("not a JSON object", data)
    return value


def _not_json(data: bytes, error: orjson.JSONDecodeError) -> BackendError:
    try:
        data.decode()
    except UnicodeDecodeError as bad:
        return malformed(f"invalid UTF-8 at byte {bad.start}", data)
    return malformed(f"not JSON ({error})", data)
