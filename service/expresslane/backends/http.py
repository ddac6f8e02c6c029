"""The pooled HTTP session of one backend: exchanges of prebuilt JSON bodies, and their failures as BackendError."""

from __future__ import annotations

import asyncio
import base64
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
from aiohttp import ClientResponse, hdrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from expresslane.backends.base import ENVELOPE_BYTES
from expresslane.backends.http_errors import error_of_exception, error_of_response
from expresslane.backends.malformed import load, malformed
from expresslane.clock import monotonic_ns
from expresslane.errors import BackendError, Reason, encodable
from expresslane.masking import SecretCutter, masked_url, url_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.connector import Connection

    from expresslane.backends.base import Answer
    from expresslane.settings import BackendSettings

__all__ = ["HttpClient", "Telling", "media_type", "request_id"]

# A kept connection that dies within about a round trip was stale: its end was on the way when the request was sent. One
# that dies later may have died of the request, which is then another attempt's to repeat. To connect takes at least a
# round trip, so twice that is waited for; the least allows for a busy event loop, the most for a slow name server.
STALE_WINDOW_NS = 50_000_000
STALE_WINDOW_MAX_NS = 1_000_000_000
# How long the end of a complete answer is waited for, so that its connection can be used again.
LINGER_S = 0.5
_ERROR_BODY_BYTES = 64 * 1024
_MAX_LINE_BYTES = 16 * 1024


class _Protocol(ResponseHandler):
    """A connection that counts what it has received, and knows how long it took to open."""

    received_bytes = 0
    connect_ns = 0

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        super().data_received(data)


class _Carrier(NamedTuple):
    """The connection of a request, and what it had received before: nothing when it was opened for it."""

    protocol: _Protocol | None = None
    received_bytes: int = 0

    @property
    def may_be_stale(self) -> bool:
        """Whether the backend may have closed it before the request came: it was used before, and nothing came back."""
        return self.protocol is not None and 0 < self.received_bytes == self.protocol.received_bytes

    @property
    def stale_window_ns(self) -> int:
        """How long after the request its end may come and still have been on the way before."""
        connect_ns = self.protocol.connect_ns if self.protocol is not None else 0
        return min(max(STALE_WINDOW_NS, 2 * connect_ns), STALE_WINDOW_MAX_NS)


_NO_CARRIER = _Carrier()
_carrier: ContextVar[_Carrier] = ContextVar("carrier", default=_NO_CARRIER)


class Telling(aiohttp.BaseConnector):
    """A pool that tells the request at hand about its connection."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        factory: partial[Any] = partial(_Protocol, loop=self._loop)
        self._factory = factory

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        """A connection, from the pool or new."""
        begun_s = self._loop.time()
        connection = await super().connect(*args, **kwargs)
        protocol = connection.protocol
        assert isinstance(protocol, _Protocol)
        if not protocol.connect_ns:
            protocol.connect_ns = int((self._loop.time() - begun_s) * 1e9)
        _carrier.set(_Carrier(protocol, protocol.received_bytes))
        return connection


class _Connector(Telling, aiohttp.TCPConnector):
    """The pool of one backend."""


class HttpClient:
    """One backend's HTTP side. Safe for any number of exchanges at a time; the scheduler caps them."""

    def __init__(self, settings: BackendSettings, *, max_answer_bytes: int, reuse: bool = True) -> None:
        base = URL(settings.url)
        self._reuse = reuse
        self.max_answer_bytes = max_answer_bytes
        secrets = list(url_secrets(settings.url))
        self._headers = {
            "Accept": "application/json, text/event-stream, application/x-ndjson",
            # Compression of small chunks would cost more than it saves, and delay them.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "expresslane",
        }
        if settings.api_key:
            key = settings.api_key.get_secret_value()
            self._headers["Authorization"] = f"Bearer {key}"
            secrets.append(key)
        elif base.user is not None:
            pair = f"{base.user}:{base.password or ''}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._cutter = SecretCutter(secrets)
        self._base = base.with_user(None)
        self.where = masked_url(str(self._base.with_query(None)))
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=settings.connect_timeout_s, sock_connect=settings.connect_timeout_s
        )
        self._session: aiohttp.ClientSession | None = None
        self._unpooled: aiohttp.ClientSession | None = None

    def url(self, path: str) -> URL:
        """An address under the base URL, with or without the `/v1` that people put at its end."""
        root = self._base.path.rstrip("/").removesuffix("/v1")
        return self._base.with_path(root + path).with_query(self._base.query)

    async def start(self) -> None:
        """Open the session."""
        self._session = self._open_session(force_close=not self._reuse)

    async def close(self) -> None:
        """Close the session and every connection."""
        sessions = (self._session, self._unpooled)
        self._session = self._unpooled = None
        for session in sessions:
            if session is not None:
                await session.close()

    def post(
        self,
        url: URL,
        body: bytes,
        headers: Mapping[str, str],
        consume: Callable[[ClientResponse], Awaitable[None]],
        heed: Callable[[ClientResponse], None] | None = None,
    ) -> Awaitable[None]:
        """Send `body` and let `consume` read the answer, whose status is a success.

        `heed` is shown every answer before, whatever its status, for its headers.

        Raises BackendError. Unless `consume` has read the answer to its end, the connection is closed afterwards, also
        when this is cancelled: that is how a backend learns to stop.
        """
        return self._exchange("POST", url, body, headers, consume, heed=heed)

    async def get_json(self, url: URL) -> Any:
        """The JSON value at an address. Raises BackendError."""
        value: Any = None

        async def consume(response: ClientResponse) -> None:
            nonlocal value
            value = load(await self.read_body(response))

        await self._exchange("GET", url, None, {}, consume)
        return value

    async def read_body(self, response: ClientResponse) -> bytes:
        """The whole body. Raises BackendError when it is larger than an answer may be."""
        limit = self.max_answer_bytes + ENVELOPE_BYTES
        length = response.content_length
        if length is not None and length > limit:
            raise self._over_limit()
        if length is not None and hdrs.CONTENT_ENCODING not in response.headers:
            return await response.read()
        parts: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            size += len(chunk)
            if size > limit:
                raise self._over_limit()
            parts.append(chunk)
        return b"".join(parts)

    def check_size(self, answer: Answer) -> None:
        """Raise BackendError when what has come of an answer is larger than an answer may be."""
        if answer.bytes > self.max_answer_bytes:
            raise self._over_limit()

    def broken_off(self) -> BackendError:
        """The error for a stream that ended before its answer did."""
        return BackendError(
            Reason.BACKEND_DISCONNECTED,
            f"{self.where}: the stream ended in the middle of the answer",
            retryable=True,
            http_status=200,
        )

    async def linger(self, answer: Answer, response: ClientResponse) -> None:
        """Read the end of an answer that is complete, for a short while, so that its connection can be used again.

        Raises BackendError when it is larger than an answer may be. Else it counts, whatever deadline ends this.
        """
        self.check_size(answer)
        answer.complete = True
        content = response.content
        if content.at_eof():
            return
        try:
            async with asyncio.timeout(LINGER_S):
                await content.read(1)
        except (TimeoutError, aiohttp.ClientError, OSError):
            return

    def expect(self, response: ClientResponse, *types: str) -> str:
        """The answer's media type, which is one of `types`; a server that names none is believed to send the first."""
        found = media_type(response) or types[0]
        if found not in types:
            error = malformed(f"{self.where} sent {found}, not {types[0]}", b"", http_status=response.status)
            error.provider_request_id = request_id(response)
            raise error
        return found

    def _over_limit(self) -> BackendError:
        return BackendError(
            Reason.ANSWER_OVER_LIMIT, f"{self.where}: the answer is larger than {self.max_answer_bytes} bytes"
        )

    async def _exchange(
        self,
        method: str,
        url: URL,
        body: bytes | None,
        headers: Mapping[str, str],
        consume: Callable[[ClientResponse], Awaitable[None]],
        *,
        heed: Callable[[ClientResponse], None] | None = None,
    ) -> None:
        try:
            response = await self._send(method, url, body, headers)
            try:
                if heed is not None:
                    heed(response)
                if not 200 <= response.status < 300:
                    raise await self._refusal(response)
                await consume(response)
            finally:
                # Closes the connection unless the answer was read to its end.
                response.release()
        except BackendError as error:
            self._cut_secrets(error)
            raise
        except (aiohttp.ClientError, OSError) as error:
            known = error_of_exception(error, self.where)
            self._cut_secrets(known)
            raise known from None

    async def _send(self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str]) -> ClientResponse:
        session = self._session
        if session is None:
            raise BackendError(Reason.INTERNAL, f"{self.where}: the session is not open")
        _carrier.set(_NO_CARRIER)
        sent_ns = monotonic_ns()
        try:
            return await session.request(method, url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if (
                isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)
                or monotonic_ns() - sent_ns > _carrier.get().stale_window_ns
                or not _carrier.get().may_be_stale
            ):
                raise
        if self._unpooled is None:
            self._unpooled = self._open_session(force_close=True)
        return await self._unpooled.request(method, url, data=body, headers=headers, allow_redirects=False)

    async def _refusal(self, response: ClientResponse) -> BackendError:
        body = b""
        try:
            while len(body) < _ERROR_BODY_BYTES and (chunk := await response.content.readany()):
                body += chunk
        except (aiohttp.ClientError, OSError):
            pass  # The status says enough.
        return error_of_response(response.status, response.headers, self._cutter.body(body), self.where)

    def _cut_secrets(self, error: BackendError) -> None:
        """Providers quote a key that they refuse, debugging ones the whole request; exceptions name the whole URL."""
        for name in ("message", "provider_body", "provider_code", "provider_request_id"):
            setattr(error, name, self._cutter.text(getattr(error, name)))
        error.args = (error.message,)

    def _open_session(self, *, force_close: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # The scheduler caps what is in flight; a second cap here would only hide its waiting.
            connector=_Connector(limit=0, force_close=force_close),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            trust_env=False,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
        )


def media_type(response: ClientResponse) -> str:
    """The Content-Type without its parameters, in lower case; empty when there is none."""
    return response.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


def request_id(response: ClientResponse) -> str:
    """The backend's own name for the request, for its support."""
    return encodable(response.headers.get("x-request-id") or response.headers.get("request-id") or "")
