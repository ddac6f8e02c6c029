"""The adapter for APIs of the OpenAI dialect: chat completions, and completions for raw prompts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientResponse

from expresslane.backends.base import ENVELOPE_BYTES, Answer, Backend, Call, Discovery
from expresslane.backends.http import HttpClient, request_id
from expresslane.backends.http_errors import error_of_object, retry_after_s
from expresslane.backends.idempotency import HEADER
from expresslane.backends.malformed import load_object, malformed
from expresslane.backends.openai_answer import AnswerReader
from expresslane.backends.openai_request import build_body
from expresslane.backends.presets import capabilities_of
from expresslane.backends.rate_headers import told
from expresslane.backends.sse import SseParser
from expresslane.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from expresslane.settings import BackendSettings

__all__ = ["OpenAIBackend"]

_DONE = b"[DONE]"
_NOT_THE_DIALECT = (TypeError, AttributeError, LookupError, ValueError)


class OpenAIBackend(Backend):
    """Any server of the OpenAI dialect; the engines' own servers among them."""

    def __init__(
        self, backend_id: str, settings: BackendSettings, *, max_answer_bytes: int, reuse_connections: bool = True
    ) -> None:
        super().__init__(backend_id)
        self.capabilities = capabilities_of(settings.kind)
        self._stream = settings.streaming
        self._http = HttpClient(settings, max_answer_bytes=max_answer_bytes, reuse=reuse_connections)
        self._chat_url = self._http.url("/v1/chat/completions")
        self._completions_url = self._http.url("/v1/completions")
        self._models_url = self._http.url("/v1/models")

    async def start(self) -> None:
        """Open the session."""
        await self._http.start()

    async def close(self) -> None:
        """Close the session and every connection."""
        await self._http.close()

    async def generate(self, call: Call, answer: Answer) -> None:
        """Run one attempt to its end. Raises BackendError."""
        body = build_body(call.prompt, call.model, stream=self._stream)
        url = self._completions_url if call.prompt.raw else self._chat_url
        # An engine has no memory of what it answered, and nobody pays by the token.
        is_known = bool(call.key) and not self.capabilities.engine
        headers = {**call.headers, HEADER: call.key} if is_known else call.headers
        await self._http.post(url, body, headers, partial(self._read, answer), partial(_heed, answer))

    async def discover(self) -> Discovery:
        """The models that the server lists. Raises BackendError."""
        return Discovery(models=await self._models())

    async def _models(self) -> tuple[str, ...]:
        listed = await self._http.get_json(self._models_url)
        try:
            return tuple(str(model["id"]) for model in listed["data"])
        except _NOT_THE_DIALECT:
            raise malformed(f"{self._http.where} does not list models", str(listed).encode()) from None

    async def _read(self, answer: Answer, response: ClientResponse) -> None:
        reader = AnswerReader(answer)
        try:
            if not self._stream:
                self._http.expect(response, "application/json")
                await self._read_whole(answer, reader, response)
            # A server that cannot stream may answer with one body all the same.
            elif self._http.expect(response, "text/event-stream", "application/json") == "application/json":
                await self._read_whole(answer, reader, response)
            else:
                await self._read_stream(answer, reader, response)
                self._http.check_size(answer)
        except BackendError as error:
            error.provider_request_id = error.provider_request_id or request_id(response)
            raise
        finally:
            reader.close()

    async def _read_whole(self, answer: Answer, reader: AnswerReader, response: ClientResponse) -> None:
        data = await self._http.read_body(response)
        body = load_object(data)
        if body.get("error"):
            raise error_of_object(body["error"], self._http.where, response.headers)
        try:
            reader.take_whole(body)
        except _NOT_THE_DIALECT as error:
            raise malformed(f"not an answer of the OpenAI dialect ({error!r})", data) from None
        self._http.check_size(answer)

    async def _read_stream(self, answer: Answer, reader: AnswerReader, response: ClientResponse) -> None:
        parser = SseParser(self._http.max_answer_bytes + ENVELOPE_BYTES)
        content = response.content
        try:
            while chunk := await content.readany():
                answer.touch()
                if self._take(reader, parser.feed(chunk), response.headers):
                    await self._http.linger(answer, response)
                    return
                parser.check()
                self._http.check_size(answer)
        except (ClientError, OSError):
            # A break after the finish reason loses token counts at most.
            if answer.finish_reason_raw:
                return
            raise
        self._end_of_stream(answer, reader, parser, response.headers)

    def _take(self, reader: AnswerReader, payloads: Iterable[bytes], headers: Mapping[str, str]) -> bool:
        """Read events into the answer. Returns whether one of them says that it is over, and leaves what follows it."""
        payload = b""
        try:
            for payload in payloads:
                if payload == _DONE:
                    return True
                event = load_object(payload)
                if error := event.get("error"):
                    raise error_of_object(error, self._http.where, headers)
                reader.take_chunk(event)
        except _NOT_THE_DIALECT as bad:
            raise malformed(f"not a chunk of the OpenAI dialect ({bad!r})", payload) from None
        finally:
            reader.flush()
        return False

    def _end_of_stream(
        self, answer: Answer, reader: AnswerReader, parser: SseParser, headers: Mapping[str, str]
    ) -> None:
        """The stream ended without `[DONE]`: complete when it had a finish reason, else broken."""
        # What was cut off by the end is no event.
        if self._take(reader, (last for last in parser.finish() if last == _DONE or last.endswith(b"}")), headers):
            return
        parser.check()
        if not answer.finish_reason_raw:
            raise self._http.broken_off()


def _heed(answer: Answer, response: ClientResponse) -> None:
    """Pass on what is left of the provider's limits; an answer that asks for a pause says better how long to wait."""
    if (left := told(response.headers)) is not None and retry_after_s(response.headers) is None:
        answer.told(left)
