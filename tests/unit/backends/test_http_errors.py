"""From statuses, headers, bodies and exceptions to errors of the service."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import Mock

import aiohttp
import orjson
import pytest
from expresslane.backends.http_errors import error_of_exception, error_of_object, error_of_response, retry_after_s
from expresslane.errors import Reason, Refuses
from multidict import CIMultiDict

STATUSES: list[tuple[int, Reason, bool]] = [
    (301, Reason.BACKEND_REJECTED, False),
    (307, Reason.BACKEND_REJECTED, False),
    (400, Reason.BACKEND_REJECTED, False),
    (401, Reason.BACKEND_UNAUTHORIZED, False),
    (402, Reason.BACKEND_QUOTA_EXHAUSTED, False),
    (403, Reason.BACKEND_UNAUTHORIZED, False),
    (404, Reason.BACKEND_REJECTED, False),
    (405, Reason.BACKEND_REJECTED, False),
    (408, Reason.BACKEND_OVERLOADED, True),
    (409, Reason.BACKEND_ERROR, True),
    (413, Reason.BACKEND_REJECTED, False),
    (422, Reason.BACKEND_REJECTED, False),
    (429, Reason.BACKEND_RATE_LIMITED, True),
    (500, Reason.BACKEND_ERROR, True),
    (501, Reason.BACKEND_REJECTED, False),
    (502, Reason.BACKEND_OVERLOADED, True),
    (503, Reason.BACKEND_OVERLOADED, True),
    (504, Reason.BACKEND_OVERLOADED, True),
    (529, Reason.BACKEND_OVERLOADED, True),
]


@pytest.mark.parametrize(("status", "reason", "retryable"), STATUSES)
def test_status(status: int, reason: Reason, retryable: bool) -> None:
    """A12, A20, O16: each status has its reason, and is repeated only where repeating can help."""
    error = error_of_response(status, CIMultiDict(), b"", "http://b")
    assert (error.reason, error.retryable, error.http_status) == (reason, retryable, status)
    assert error.message == f"http://b: HTTP {status}" or status < 400


BODIES: list[tuple[bytes, str, str]] = [
    (
        b'{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":"model_not_found"}}',
        "model_not_found",
        "bad",
    ),
    (b'{"error":{"message":"bad","type":"invalid_request_error","code":null}}', "invalid_request_error", "bad"),
    (
        b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}',
        "BadRequestError",
        "too long",
    ),
    (
        b'{"error":{"code":400,"message":"ctx","type":"exceed_context_size_error","n_ctx":64}}',
        "exceed_context_size_error",
        "ctx",
    ),
    (b'{"error":"model \'x\' not found"}', "", "model 'x' not found"),
    (b'{"detail":"Not Found"}', "", "Not Found"),
    (b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "", '[{"loc":["body"],"msg":"field required"}]'),
    (b"upstream connect error\nmore", "", "upstream connect error"),
    (b"<html><title>502</title>", "", "<html><title>502</title>"),
    (b"", "", ""),
    (b"[1]", "", "[1]"),
    (b'{"error":{"message":{"deep":1},"type":3,"code":[]}}', "", '{"deep":1}'),
    (b'{"detail":{"error":{"message":"no","type":"t","code":"c"}}}', "c", "no"),
    (b'{"detail":{"error":"no"}}', "", "no"),
    (b'{"detail":{"reason":"no"}}', "", '{"reason":"no"}'),
    (b'[{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}]', "", "no"),
    (
        b'[{"error":{"message":"a"}},{"error":{"message":"b"}}]',
        "",
        '[{"error":{"message":"a"}},{"error":{"message":"b"}}]',
    ),
]


@pytest.mark.parametrize(("body", "code", "message"), BODIES)
def test_body(body: bytes, code: str, message: str) -> None:
    """A12: the provider's code and words are found in every shape of error body, and the body is kept."""
    error = error_of_response(400, CIMultiDict({"X-Request-Id": "r-1"}), body, "http://b")
    assert error.provider_code == code
    assert error.message == "http://b: HTTP 400" + (f": {message}" if message else "")
    assert error.provider_body == body.decode()
    assert error.provider_request_id == "r-1"


@pytest.mark.parametrize("depth", [200, 500, 1_000])
def test_body_of_any_depth(depth: int) -> None:
    """A12: an error that is nested deeper than JSON can be written is an error all the same."""
    deep = b"[" * depth + b"]" * depth
    error = error_of_response(500, CIMultiDict(), b'{"error":{"message":' + deep + b"}}", "http://b")
    assert error.reason is Reason.BACKEND_ERROR
    assert error_of_object({"message": orjson.loads(deep)}, "http://b", {}).reason is Reason.BACKEND_ERROR


def test_body_is_cut() -> None:
    """A12: a huge error body is kept only to 2,048 bytes, whole characters, and its message to 500."""
    body = orjson.dumps({"error": {"message": "é" * 5_000}})
    error = error_of_response(500, CIMultiDict(), body, "http://b")
    assert len(error.provider_body.encode()) <= 2048
    assert len(error.message) < 600


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"])
@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("place", ["code", "type"])
def test_spent_quota_is_never_repeated(code: str, status: int, place: str) -> None:
    """A20: a spent quota is told apart from a rate limit, whatever the status, and is not repeated even if asked to."""
    body = orjson.dumps({"error": {"message": "pay", place: code}})
    error = error_of_response(status, CIMultiDict({"x-should-retry": "true"}), body, "http://b")
    assert (error.reason, error.retryable) == (Reason.BACKEND_QUOTA_EXHAUSTED, False)


QUOTA = (Reason.BACKEND_QUOTA_EXHAUSTED, False)
LIMITED = (Reason.BACKEND_RATE_LIMITED, True)
OVERLOADED = (Reason.BACKEND_OVERLOADED, True)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (429, {"type": "insufficient_quota", "code": "429"}, QUOTA),
        (429, {"type": "insufficient_quota", "code": 429}, QUOTA),
        (429, {"type": "insufficient_quota", "code": "rate_limit_exceeded"}, QUOTA),
        (429, {"type": "insufficient_quota", "code": "project_spend_limit_exceeded"}, QUOTA),
        (429, {"type": "insufficient_quota", "code": "a_word_of_its_own"}, QUOTA),
        (429, {"type": "rate_limit_error", "code": "credit_balance_exhausted"}, QUOTA),
        (429, {"type": "rate_limit_error", "code": "slow_down"}, LIMITED),
        (429, {"type": "server_error", "code": "overloaded_error"}, LIMITED),
        (503, {"type": "rate_limit_error", "code": "503"}, LIMITED),
        (503, {"type": "server_error", "code": "slow_down"}, LIMITED),
        (503, {"type": "service_unavailable_error", "code": "rate_limit_exceeded"}, LIMITED),
        (503, {"type": "insufficient_quota", "code": "slow_down"}, QUOTA),
        (503, {"type": "service_unavailable_error", "code": "server_is_overloaded"}, OVERLOADED),
    ],
)
@pytest.mark.parametrize("shape", ["plain", "detail", "list"])
def test_code_and_type_are_both_read(
    status: int, error: dict[str, Any], expected: tuple[Reason, bool], shape: str
) -> None:
    """A20, O16: the kind of an error may stand in its code or its type; a spent quota goes before a rate limit."""
    said: Any = {"error": error}
    body = {"plain": said, "detail": {"detail": said}, "list": [said]}[shape]
    found = error_of_response(status, CIMultiDict(), orjson.dumps(body), "http://b")
    assert (found.reason, found.retryable) == expected


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "slow_down", Reason.BACKEND_RATE_LIMITED),
        (503, "rate_limit_exceeded", Reason.BACKEND_RATE_LIMITED),
        (503, "server_busy", Reason.BACKEND_OVERLOADED),
        (503, "", Reason.BACKEND_OVERLOADED),
        (500, "slow_down", Reason.BACKEND_ERROR),
        (400, "slow_down", Reason.BACKEND_REJECTED),
    ],
)
def test_slow_down_is_a_rate_limit(status: int, code: str, reason: Reason) -> None:
    """P35, O16: `slow_down` comes as a 503 and limits the rate all the same; a busy server is no rate limit."""
    error = error_of_response(status, CIMultiDict(), orjson.dumps({"error": {"code": code}}), "http://b")
    assert (error.reason, error.retryable) == (reason, status != 400)


@pytest.mark.parametrize("place", ["code", "type"])
@pytest.mark.parametrize(
    ("kind", "reason", "retryable"),
    [
        ("rate_limit_exceeded", Reason.BACKEND_RATE_LIMITED, True),
        ("slow_down", Reason.BACKEND_RATE_LIMITED, True),
        ("a_word_of_its_own", Reason.BACKEND_RATE_LIMITED, True),
        ("insufficient_quota", Reason.BACKEND_QUOTA_EXHAUSTED, False),
        ("exceeded_current_quota_error", Reason.BACKEND_QUOTA_EXHAUSTED, False),
    ],
)
def test_kinds_of_429(kind: str, reason: Reason, retryable: bool, place: str) -> None:
    """A20: a 429 is a rate limit, to be waited for as long as it says, unless its own word is that no money is left."""
    body = orjson.dumps({"error": {"message": "no", place: kind}})
    error = error_of_response(429, CIMultiDict({"Retry-After": "7"}), body, "http://b")
    assert (error.reason, error.retryable, error.retry_after_s) == (reason, retryable, 7.0)


@pytest.mark.parametrize(
    ("status", "header", "retryable"),
    [(400, "true", True), (503, "false", False), (500, "perhaps", True), (400, "", False), (429, "FALSE", False)],
)
def test_should_retry(status: int, header: str, retryable: bool) -> None:
    """P33: x-should-retry decides where it says true or false."""
    error = error_of_response(status, CIMultiDict({"X-Should-Retry": header}), b"", "http://b")
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After-Ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"retry-after-ms": "x", "Retry-After": "9"}, 9.0),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": " 8 "}, 8.0),
        ({"Retry-After": "1_000"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "\uff15"}, None),
        ({"retry-after-ms": "2_000", "Retry-After": "9"}, 9.0),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}, None),
        ({"Retry-After": "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT"}, None),
        ({"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """P33, O16: how long to wait is read from milliseconds, seconds or a date; nonsense is no wish."""
    assert retry_after_s(CIMultiDict(headers)) == expected


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90.0),
        (429, {"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "6s"}, None),
        (429, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6s", "Retry-After": "2"}, 2.0),
        (503, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, None),
    ],
)
def test_rate_limit_that_says_only_when_it_is_over(
    status: int, headers: dict[str, str], expected: float | None
) -> None:
    """A26: a 429 without Retry-After is waited for until the provider's own limit is reset, where it says when."""
    assert error_of_response(status, CIMultiDict(headers), b"", "http://b").retry_after_s == expected


def test_retry_after_date() -> None:
    """P33: a date in the future is a wait until then."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after_s(CIMultiDict({"Retry-After": when})) or 0) <= 60


@pytest.mark.parametrize(
    ("date", "at", "expected"),
    [
        ("Thu, 21 Aug 2025 12:41:00 GMT", "Thu, 21 Aug 2025 12:41:30 GMT", 30.0),
        ("Thu, 21 Aug 2025 12:41:00 GMT", "Thursday, 21-Aug-25 12:41:07 GMT", 7.0),
        ("Thu, 21 Aug 2025 12:41:00 GMT", "Thu, 21 Aug 2025 12:40:59 GMT", 0.0),
        ("Fri, 21 Mar 2025 12:41:00 GMT", "Fri, 21 Mar 2025 12:41:30 GMT", 30.0),
        ("some day", "Thu, 21 Aug 2025 12:41:30 GMT", 25.0),
        ("Thu, 21 Aug 2025 09:41:00 GMT", "Thu, 21 Aug 2025 09:41:30 GMT", 30.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", "Thu, 21 Aug 2025 12:41:06 GMT", 1.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", "Thu, 01 Jan 1970 00:00:40 GMT", 30.0),
        ("Fri, 22 Aug 2025 12:41:06 GMT", "Thu, 21 Aug 2025 12:41:06 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", "Thu, 21 Aug 2025 12:41:06 GMT", 1.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", "Thu, 21 Aug 2025 12:41:06 GMT", 1.0),
    ],
)
def test_a_retry_after_date_counts_from_the_answers_own(
    monkeypatch: pytest.MonkeyPatch, date: str, at: str, expected: float
) -> None:
    """P33: a backend whose clock is wrong by months asks for seconds all the same, and so does one that has none."""
    now = datetime(2025, 8, 21, 12, 41, 5, tzinfo=UTC)
    monkeypatch.setattr("expresslane.backends.http_dates.local_now", lambda: now)
    assert retry_after_s(CIMultiDict({"Date": date, "Retry-After": at})) == expected


def _connector_error(kind: Any) -> BaseException:
    key = aiohttp.client_reqrep.ConnectionKey("b", 1, False, True, None, None, None)
    return kind(key, OSError(111, "refused"))  # type: ignore[no-any-return]


EXCEPTIONS: list[tuple[BaseException, Reason, bool]] = [
    (_connector_error(aiohttp.ClientConnectorError), Reason.BACKEND_UNREACHABLE, True),
    (_connector_error(aiohttp.ClientConnectorDNSError), Reason.BACKEND_UNREACHABLE, True),
    (_connector_error(aiohttp.ClientConnectorSSLError), Reason.BACKEND_UNREACHABLE, False),
    (
        aiohttp.ClientConnectorCertificateError(Mock(host="b", port=1), ssl.CertificateError("x")),
        Reason.BACKEND_UNREACHABLE,
        False,
    ),
    (aiohttp.ConnectionTimeoutError("slow"), Reason.BACKEND_UNREACHABLE, True),
    (aiohttp.ServerDisconnectedError(), Reason.BACKEND_DISCONNECTED, True),
    (aiohttp.ClientConnectionResetError("reset"), Reason.BACKEND_DISCONNECTED, True),
    (aiohttp.ClientOSError(104, "reset"), Reason.BACKEND_DISCONNECTED, True),
    (aiohttp.ClientPayloadError("cut"), Reason.BACKEND_DISCONNECTED, True),
    (ConnectionResetError(104, "reset"), Reason.BACKEND_DISCONNECTED, True),
    (aiohttp.InvalidURL("x:"), Reason.BACKEND_UNREACHABLE, False),
    (aiohttp.ClientResponseError(Mock(real_url="u"), (), status=400, message="bad"), Reason.BACKEND_MALFORMED, False),
]


@pytest.mark.parametrize(("exception", "reason", "retryable"), EXCEPTIONS, ids=lambda value: type(value).__name__)
def test_exception(exception: BaseException, reason: Reason, retryable: bool) -> None:
    """A20: not reaching a backend, losing it and not understanding it are three things; the first two are repeated."""
    error = error_of_exception(exception, "http://b")
    assert (error.reason, error.retryable) == (reason, retryable)
    assert error.message.startswith("http://b: ")


@pytest.mark.parametrize(
    ("said", "reason", "retryable"),
    [
        ({"message": "m", "type": "rate_limit_error"}, Reason.BACKEND_RATE_LIMITED, True),
        ({"message": "m", "code": "slow_down"}, Reason.BACKEND_RATE_LIMITED, True),
        ({"message": "m", "code": "insufficient_quota"}, Reason.BACKEND_QUOTA_EXHAUSTED, False),
        ({"message": "m", "code": "429", "type": "insufficient_quota"}, Reason.BACKEND_QUOTA_EXHAUSTED, False),
        ({"message": "m", "code": "slow_down", "type": "insufficient_quota"}, Reason.BACKEND_QUOTA_EXHAUSTED, False),
        ({"message": "m", "code": "slow_down", "type": "server_error"}, Reason.BACKEND_RATE_LIMITED, True),
        ({"message": "m", "code": 400, "type": "exceed_context_size_error"}, Reason.BACKEND_REJECTED, False),
        ({"message": "m", "code": 503}, Reason.BACKEND_OVERLOADED, True),
        ({"message": "m", "code": "429"}, Reason.BACKEND_RATE_LIMITED, True),
        ({"message": "m"}, Reason.BACKEND_ERROR, True),
        ("the model stopped", Reason.BACKEND_ERROR, True),
        (17, Reason.BACKEND_ERROR, True),
    ],
)
def test_error_inside_an_answer(said: object, reason: Reason, retryable: bool) -> None:
    """O02: an error object after a status of 200 is an error by its own code."""
    error = error_of_object(said, "http://b", {})
    assert (error.reason, error.retryable, error.http_status, error.retry_after_s) == (reason, retryable, 200, None)


@pytest.mark.parametrize(
    ("code", "headers", "retryable", "wait_s"),
    [
        ("service_unavailable", {"Retry-After": "7"}, True, 7.0),
        ("slow_down", {"retry-after-ms": "1500"}, True, 1.5),
        ("slow_down", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"}, True, 6.0),
        ("server_error", {"Retry-After": "7", "x-should-retry": "false"}, False, 7.0),
        ("insufficient_quota", {"x-should-retry": "true"}, False, None),
    ],
)
def test_headers_of_an_answer_with_an_error_inside(
    code: str, headers: dict[str, str], retryable: bool, wait_s: float | None
) -> None:
    """P33: what a gateway asks for in the headers of its 200 counts for the error inside it too."""
    said = CIMultiDict(headers | {"x-request-id": "r1"})
    error = error_of_object({"message": "m", "code": code}, "http://b", said)
    assert (error.retryable, error.retry_after_s, error.provider_request_id) == (retryable, wait_s, "r1")


SPENT = b'{"error":{"message":"no credit","type":"insufficient_quota","code":"insufficient_quota"}}'
FLAGGED = b'{"error":{"message":"your chosen model requires moderation and your input was flagged","code":403}}'
MORE_CREDITS = b'{"error":{"message":"This request requires more credits, or fewer max_tokens","code":402}}'
NO_IMAGES = b'{"error":{"message":"No endpoints found that support image input","code":404}}'
CHATS_ONLY = b'{"error":{"message":"This is a chat model","type":"invalid_request_error","param":"model","code":null}}'
QUOTED = b'{"error":{"message":"flagged: model \'x\' not found","code":404}}'
OPENAI = b'{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":"model_not_found"}}'
VLLM = b'{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}'
OLD_VLLM = b'{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}'
OLLAMA = b'{"error":"model \'x:7b\' not found"}'
OLD_OLLAMA = b'{"error":"model \\"x\\" not found, try pulling it first"}'


@pytest.mark.parametrize(
    ("status", "body", "refuses"),
    [
        (401, b"", Refuses.KEY),
        (402, b"", None),
        (402, MORE_CREDITS, None),
        (402, SPENT, Refuses.KEY),
        (429, SPENT, Refuses.KEY),
        (403, SPENT, Refuses.KEY),
        (403, b'{"error":{"message":"no","code":"invalid_api_key"}}', Refuses.KEY),
        (403, b'{"error":{"message":"no","type":"permission_error"}}', None),
        (403, b"", None),
        (403, FLAGGED, None),
        (429, b"", None),
        (400, b'{"error":{"message":"no","code":"invalid_api_key"}}', None),
        (404, OPENAI, Refuses.MODEL),
        (404, VLLM, Refuses.MODEL),
        (404, OLD_VLLM, Refuses.MODEL),
        (404, OLLAMA, Refuses.MODEL),
        (404, OLD_OLLAMA, Refuses.MODEL),
        (400, OPENAI, None),
        (404, b"", None),
        (404, b'{"detail":"Not Found"}', None),
        (404, NO_IMAGES, None),
        (404, CHATS_ONLY, None),
        (404, QUOTED, None),
        (307, b"", None),
    ],
)
def test_what_the_next_prompt_would_be_refused_for_too(status: int, body: bytes, refuses: Refuses | None) -> None:
    """Only what names the key, the quota or the model: other refusals may be about the one prompt (A18)."""
    assert error_of_response(status, CIMultiDict(), body, "http://b").refuses is refuses


def test_what_a_stream_refuses() -> None:
    """An error inside an answer that began with a 200 says the same by its own code."""
    gone = {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
    assert error_of_object(gone, "http://b", CIMultiDict()).refuses is Refuses.MODEL
    assert error_of_object({"message": "no key", "code": 401}, "http://b", CIMultiDict()).refuses is Refuses.KEY
    assert error_of_object({"message": "flagged", "code": 403}, "http://b", CIMultiDict()).refuses is None
