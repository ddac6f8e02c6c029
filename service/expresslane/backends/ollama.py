"""The adapter for Ollama's own interface: /api/chat, and /api/generate for raw prompts, as newline-delimited JSON."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from expresslane.backends.base import ENVELOPE_BYTES, Answer, Backend, Call, Discovery
from expresslane.backends.http import HttpClient, request_id
from expresslane.backends.http_errors import error_of_object
from expresslane.backends.malformed import load_object, malformed
from expresslane.backends.ndjson import NdjsonParser
from expresslane.backends.ollama_request import build_body
from expresslane.backends.openai_answer import TOOL_CALL_BYTES, token_count
from expresslane.backends.presets import capabilities_of
from expresslane.errors import BackendError
from expresslane.prompts import ToolCall
from expresslane.results import FinishReason, Usage
from expresslane.tokens import estimate, text_bytes, utf8_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import ClientResponse

    from expresslane.settings import BackendSettings

__all__ = ["OllamaBackend"]

_NOT_THE_DIALECT = (TypeError, AttributeError, LookupError, ValueError)
_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class OllamaBackend(Backend):
    """An Ollama server. It does not tell how many it runs at once, so that one at a time is the default."""

    capabilities = capabilities_of("ollama")

    def __init__(self, backend_id: str, settings: BackendSettings, *, max_answer_bytes: int) -> None:
        super().__init__(backend_id)
        self._stream = settings.streaming
        self._bytes_per_token = settings.bytes_per_token
        self._http = HttpClient(settings, max_answer_bytes=max_answer_bytes)
        self._chat_url = self._http.url("/api/chat")
        self._generate_url = self._http.url("/api/generate")
        self._tags_url = self._http.url("/api/tags")

    async def start(self) -> None:
        """Open the session."""
        await self._http.start()

    async def close(self) -> None:
        """Close the session and every connection."""
        await self._http.close()

    async def generate(self, call: Call, answer: Answer) -> None:
        """Run one attempt to its end. Raises BackendError."""
        body = build_body(call.prompt, call.model, stream=self._stream)
        url = self._generate_url if call.prompt.raw else self._chat_url
        await self._http.post(url, body, call.headers, partial(self._read, call, answer))

    async def discover(self) -> Discovery:
        """The models that are installed. Raises BackendError."""
        listed = await self._http.get_json(self._tags_url)
        try:
            return Discovery(models=tuple(str(model["name"]) for model in listed["models"]))
        except _NOT_THE_DIALECT:
            raise malformed(f"{self._http.where} does not list models", str(listed).encode()) from None

    async def _read(self, call: Call, answer: Answer, response: ClientResponse) -> None:
        try:
            if self._http.expect(response, "application/x-ndjson", "application/json") == "application/json":
                self._take(call, answer, await self._http.read_body(response), response.headers)
                ended = bool(answer.finish_reason_raw)
            else:
                ended = await self._read_stream(call, answer, response)
            self._http.check_size(answer)
        except BackendError as error:
            error.provider_request_id = error.provider_request_id or request_id(response)
            raise
        if not ended:
            raise self._http.broken_off()

    async def _read_stream(self, call: Call, answer: Answer, response: ClientResponse) -> bool:
        """Read to the closing object. False: the stream ended without one."""
        parser = NdjsonParser(self._http.max_answer_bytes + ENVELOPE_BYTES)
        content = response.content
        while chunk := await content.readany():
            answer.touch()
            for line in parser.feed(chunk):
                if self._take(call, answer, line, response.headers):
                    await self._http.linger(answer, response)
                    return True
            self._http.check_size(answer)
        rest = (line for line in parser.finish() if line.rstrip().endswith(b"}"))
        return any(self._take(call, answer, line, response.headers) for line in rest)

    def _take(self, call: Call, answer: Answer, line: bytes, headers: Mapping[str, str]) -> bool:
        """Take one object in. True: it is the closing one."""
        event = load_object(line)
        error = event.get("error")
        if error:
            raise error_of_object(error, self._http.where, headers)
        try:
            return self._fill(call, answer, event)
        except _NOT_THE_DIALECT as bad:
            raise malformed(f"not an object of Ollama's dialect ({bad!r})", line) from None

    def _fill(self, call: Call, answer: Answer, event: dict[str, Any]) -> bool:
        message = event.get("message")
        if message is None:
            text, thinking, calls = event.get("response"), event.get("thinking"), None
        else:
            text, thinking, calls = message.get("content"), message.get("thinking"), message.get("tool_calls")
        if text or thinking:
            if type(text or "") is not str or type(thinking or "") is not str:
                raise TypeError("content is not a string")
            answer.push(text or "", thinking or "")
        for tool_call in calls or ():
            self._take_tool_call(answer, tool_call)
        if event.get("done") is not True:
            return False
        self._close(call, answer, event)
        return True

    def _take_tool_call(self, answer: Answer, tool_call: dict[str, Any]) -> None:
        function = tool_call["function"]
        arguments = orjson.dumps(function.get("arguments") or {}).decode()
        made = ToolCall(str(tool_call.get("id") or ""), str(function["name"]), arguments)
        answer.tool_calls.append(made)
        answer.bytes += TOOL_CALL_BYTES + text_bytes(made.id) + text_bytes(made.name) + text_bytes(arguments)
        answer.start()

    def _close(self, call: Call, answer: Answer, event: dict[str, Any]) -> None:
        raw = event.get("done_reason") or "stop"
        if type(raw) is not str:
            raise TypeError("done_reason is not a string")
        answer.start()
        answer.finish_reason_raw = raw
        reason = _FINISH_REASONS.get(raw, FinishReason.OTHER)
        answer.finish_reason = FinishReason.TOOL_CALLS if raw == "stop" and answer.tool_calls else reason
        read, made = event.get("prompt_eval_count"), event.get("eval_count")
        if made is None:
            return
        if read is None:
            # Left out where the whole prompt was in the cache.
            prompt = call.prompt
            guess = estimate(utf8_bytes(prompt.content) + prompt.options.template_bytes, self._bytes_per_token)
            answer.usage = Usage(input_tokens=guess, output_tokens=token_count(made), input_estimated=True)
        else:
            answer.usage = Usage(input_tokens=token_count(read), output_tokens=token_count(made))
