"""What went wrong at a backend's HTTP interface, as one table from exceptions, statuses and bodies to BackendError."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import orjson

from expresslane.backends.http_dates import http_date, seconds_until
from expresslane.backends.provider_refusals import QUOTA_NAMES, refuses
from expresslane.backends.rate_headers import exhausted_s
from expresslane.errors import BackendError, Reason
from expresslane.masking import masked

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ProviderError",
    "error_of_exception",
    "error_of_object",
    "error_of_response",
    "provider_error",
    "retry_after_s",
]


_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


class _Verdict(NamedTuple):
    reason: Reason
    retryable: bool


# The first type that matches holds: a subclass stands before its base.
_EXCEPTIONS: tuple[tuple[type[BaseException], Reason, bool, str], ...] = (
    (aiohttp.ConnectionTimeoutError, Reason.BACKEND_UNREACHABLE, True, "no connection in time"),
    (aiohttp.ClientConnectorCertificateError, Reason.BACKEND_UNREACHABLE, False, "the certificate is not trusted"),
    (aiohttp.ClientSSLError, Reason.BACKEND_UNREACHABLE, False, "TLS failed"),
    (aiohttp.ClientConnectorError, Reason.BACKEND_UNREACHABLE, True, "cannot connect"),
    (aiohttp.InvalidURL, Reason.BACKEND_UNREACHABLE, False, "the URL is not valid"),
    (aiohttp.ServerDisconnectedError, Reason.BACKEND_DISCONNECTED, True, "the connection was closed"),
    (aiohttp.ClientPayloadError, Reason.BACKEND_DISCONNECTED, True, "the connection broke in the middle of the answer"),
    (aiohttp.ClientResponseError, Reason.BACKEND_MALFORMED, False, "the answer is not HTTP"),
    (aiohttp.ClientConnectionError, Reason.BACKEND_DISCONNECTED, True, "the connection broke"),
    (OSError, Reason.BACKEND_DISCONNECTED, True, "the connection broke"),
    (aiohttp.ClientError, Reason.BACKEND_ERROR, False, "the request failed"),
)

_STATUSES: dict[int, _Verdict] = {
    401: _Verdict(Reason.BACKEND_UNAUTHORIZED, False),
    402: _Verdict(Reason.BACKEND_QUOTA_EXHAUSTED, False),
    403: _Verdict(Reason.BACKEND_UNAUTHORIZED, False),
    408: _Verdict(Reason.BACKEND_OVERLOADED, True),
    409: _Verdict(Reason.BACKEND_ERROR, True),
    429: _Verdict(Reason.BACKEND_RATE_LIMITED, True),
    500: _Verdict(Reason.BACKEND_ERROR, True),
    501: _Verdict(Reason.BACKEND_REJECTED, False),
}
# Where an error's own words count for more than its status, the first that is found most: a spent quota always, a rate
# limit where it may come as something else (OpenAI has sent `slow_down` as a 503).
_TOLD_BY_NAME = {503: (Reason.BACKEND_QUOTA_EXHAUSTED, Reason.BACKEND_RATE_LIMITED)}
_OTHER_CLIENT_ERROR = _Verdict(Reason.BACKEND_REJECTED, False)
_OTHER_SERVER_ERROR = _Verdict(Reason.BACKEND_OVERLOADED, True)

# Words that providers use for an error whatever status carries it; inside a stream there is no status at all.
_CODES: dict[str, _Verdict] = {
    **dict.fromkeys(QUOTA_NAMES, _Verdict(Reason.BACKEND_QUOTA_EXHAUSTED, False)),
    **dict.fromkeys(
        ("rate_limit_exceeded", "rate_limit_error", "rate_limit_reached", "too_many_requests", "slow_down"),
        _Verdict(Reason.BACKEND_RATE_LIMITED, True),
    ),
    **dict.fromkeys(
        (
            "overloaded_error",
            "unavailable_error",
            "service_unavailable",
            "service_unavailable_error",
            "server_is_overloaded",
            "server_busy",
            "engine_overloaded",
        ),
        _Verdict(Reason.BACKEND_OVERLOADED, True),
    ),
    **dict.fromkeys(
        ("server_error", "internal_server_error", "internalservererror"), _Verdict(Reason.BACKEND_ERROR, True)
    ),
    **dict.fromkeys(
        (
            "invalid_request_error",
            "exceed_context_size_error",
            "context_length_exceeded",
            "badrequesterror",
            "bad_request",
        ),
        _Verdict(Reason.BACKEND_REJECTED, False),
    ),
    **dict.fromkeys(
        ("authentication_error", "permission_error", "invalid_api_key"), _Verdict(Reason.BACKEND_UNAUTHORIZED, False)
    ),
}


class ProviderError(NamedTuple):
    """What an error body says: its own code (or type), its words for a person, the number some put in as a status.

    `names` are code and type, as far as there are any: providers put the kind of an error into either.
    """

    code: str = ""
    message: str = ""
    status: int = 0
    names: tuple[str, ...] = ()


def error_of_exception(error: BaseException, where: str) -> BackendError:
    """The error for an exception of the HTTP client. `where` names the backend's address."""
    detail = masked(str(error)) or type(error).__name__
    for kind, reason, retryable, text in _EXCEPTIONS:
        if isinstance(error, kind):
            return BackendError(reason, f"{where}: {text}: {detail}", retryable=retryable)
    return BackendError(Reason.BACKEND_ERROR, f"{where}: {detail}", retryable=False)


def error_of_response(status: int, headers: Mapping[str, str], body: bytes, where: str) -> BackendError:
    """The error for an answer whose status is not a success. The headers' names are matched without case."""
    said = provider_error(_load_or_none(body))
    verdict = _verdict_of_status(status)
    named = _verdicts_of_names(said)
    for reason in _TOLD_BY_NAME.get(status, (Reason.BACKEND_QUOTA_EXHAUSTED,)):
        if reason in named:
            verdict = named[reason]
            break
    message = said.message or _first_line(body)
    if 300 <= status < 400:
        message = f"redirects are not followed ({masked(headers.get('Location', '')[:500])})"
    return BackendError(
        verdict.reason,
        f"{where}: HTTP {status}" + (f": {message[:500]}" if message else ""),
        retryable=_retryable(verdict, headers),
        retry_after_s=_wait_s(verdict.reason, headers),
        http_status=status,
        provider_code=said.code,
        provider_body=body[:2048].decode(errors="replace"),
        provider_request_id=_request_id(headers),
        refuses=refuses(verdict.reason, status, said.names, said.message),
    )


def error_of_object(error: Any, where: str, headers: Mapping[str, str]) -> BackendError:
    """The error for an error object inside an answer whose status was a success.

    `headers` are that answer's: gateways that begin every answer with a 200 put what they ask for there all the same.
    """
    said = provider_error({"error": error})
    named = _verdicts_of_names(said)
    if Reason.BACKEND_QUOTA_EXHAUSTED in named:
        verdict = named[Reason.BACKEND_QUOTA_EXHAUSTED]
    elif named:
        verdict = next(iter(named.values()))
    elif 400 <= said.status < 600:
        verdict = _verdict_of_status(said.status)
    else:
        verdict = _Verdict(Reason.BACKEND_ERROR, True)
    return BackendError(
        verdict.reason,
        f"{where}: {said.message[:500] or 'an error inside the answer'}",
        retryable=_retryable(verdict, headers),
        retry_after_s=_wait_s(verdict.reason, headers),
        http_status=200,
        provider_code=said.code,
        provider_body=_json_of({"error": error}),
        provider_request_id=_request_id(headers),
        refuses=refuses(verdict.reason, said.status, said.names, said.message),
    )


def provider_error(body: Any) -> ProviderError:
    """What an error body says, in the shapes of OpenAI, vLLM, llama.cpp, Ollama and FastAPI.

    Gateways put them into a list of one (Gemini's) or under `detail` (those made with FastAPI).
    """
    if type(body) is list and len(body) == 1:
        body = body[0]
    if type(body) is not dict:
        return ProviderError()
    detail = body.get("detail")
    if "error" not in body and type(detail) is dict and "error" in detail:
        body = detail
    error = body.get("error", body)
    if type(error) is str:
        return ProviderError(message=error)
    if type(error) is not dict:
        return ProviderError()
    code, kind, message = error.get("code"), error.get("type"), error.get("message", error.get("detail"))
    if type(message) is not str:
        message = _json_of(message) if message else ""
    names = tuple(name for name in (code, kind) if type(name) is str and name)
    status = (
        code if type(code) is int else int(code) if type(code) is str and code.isdecimal() and len(code) == 3 else 0
    )
    return ProviderError(names[0] if names else "", message, status, names)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the backend asks to be left alone: retry-after-ms, or Retry-After in seconds or as a date.

    A date counts from the answer's own Date, if it has one that can be right.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    when = http_date(value)
    return max(0.0, seconds_until(when, headers)) if when is not None else None


def _wait_s(reason: Reason, headers: Mapping[str, str]) -> float | None:
    """What the backend asks for; of a rate limit that asks for nothing, when the provider says that it is over."""
    asked_s = retry_after_s(headers)
    return exhausted_s(headers) if asked_s is None and reason is Reason.BACKEND_RATE_LIMITED else asked_s


def _verdicts_of_names(said: ProviderError) -> dict[Reason, _Verdict]:
    """What the names of an error mean, as far as they are known; that of the code first."""
    known = (_CODES.get(name.lower()) for name in said.names)
    return {verdict.reason: verdict for verdict in known if verdict is not None}


def _verdict_of_status(status: int) -> _Verdict:
    return _STATUSES.get(status) or (_OTHER_SERVER_ERROR if status >= 500 else _OTHER_CLIENT_ERROR)


def _retryable(verdict: _Verdict, headers: Mapping[str, str]) -> bool:
    """The backend's word on whether to try again counts for more than the table's, but for a spent quota."""
    if verdict.reason is Reason.BACKEND_QUOTA_EXHAUSTED:
        return verdict.retryable
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower(), verdict.retryable)


def _request_id(headers: Mapping[str, str]) -> str:
    return headers.get("x-request-id") or headers.get("request-id") or ""


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def _json_of(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Parsing goes deeper than writing. Nobody reads what is nested so deep.
        return ""


def _load_or_none(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _first_line(body: bytes) -> str:
    lines = body[:500].decode(errors="replace").strip().splitlines()
    return lines[0][:200] if lines else ""
