"""Answers in the OpenAI dialect, whole or in chunks, read into an Answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from expresslane.prompts import ToolCall
from expresslane.results import FinishReason, Usage
from expresslane.tokens import MAX_TOKENS, text_bytes

if TYPE_CHECKING:
    from expresslane.backends.base import Answer

__all__ = ["TOOL_CALL_BYTES", "AnswerReader", "finish_reason", "token_count"]

TOOL_CALL_BYTES = 64
"""What a tool call counts for beside its words: a server may write empty ones without end."""

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def finish_reason(raw: str) -> FinishReason:
    """Why a generation ended, from the dialect's word for it."""
    return _FINISH_REASONS.get(raw, FinishReason.OTHER)


def token_count(value: Any) -> int:
    """A count of tokens. Raises ValueError or TypeError when it is none: estimates are learned from it."""
    try:
        count = int(value)
    except OverflowError:
        raise ValueError("a token count is infinite") from None
    if not 0 <= count <= MAX_TOKENS:
        raise ValueError(f"a token count is out of range: 0 to {MAX_TOKENS:,}")
    return count


class AnswerReader:
    """Fills one Answer from chunks or from one whole body.

    Text of chunks is gathered until `flush`, so that those which came together are one piece of the answer.
    The `take` methods raise TypeError, AttributeError, LookupError or ValueError where a value is not what the dialect
    promises.
    """

    __slots__ = ("_answer", "_calls", "_logprobs", "_reasonings", "_texts")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._calls: dict[int, list[str]] = {}
        self._logprobs: dict[str, Any] = {}
        self._texts: list[str] = []
        self._reasonings: list[str] = []

    def take_chunk(self, event: dict[str, Any]) -> None:
        """One chunk of a stream, of chat or of completions."""
        choices = event.get("choices")
        if choices:
            choice = choices[0]
            delta = choice.get("delta")
            if delta is None:
                text = choice.get("text")
                if text:
                    self._push(text, None)
            else:
                text = delta.get("content")
                if text:
                    self._push(text, None)
                # Nearly every chunk is text and nothing else. One that has only a role is no token: an engine sends it
                # before it has generated anything.
                if not text or len(delta) > 1:
                    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
                    if reasoning:
                        self._push(None, reasoning)
                    self._take_rare(delta)
            if choice.get("logprobs"):
                self._take_logprobs(choice["logprobs"])
            ended = choice.get("finish_reason")
            if ended:
                self._end(ended)
        usage = event.get("usage")
        if usage:
            self._take_usage(usage)

    def take_whole(self, body: dict[str, Any]) -> None:
        """A whole answer, of chat or of completions."""
        choice = body["choices"][0]
        message = choice.get("message")
        if message is None:
            self._push(choice.get("text"), None)
        else:
            self._push(message.get("content"), message.get("reasoning_content") or message.get("reasoning"))
            self._take_rare(message)
        if choice.get("logprobs"):
            self._take_logprobs(choice["logprobs"])
        ended = choice.get("finish_reason")
        if ended:
            self._end(ended)
        if body.get("usage"):
            self._take_usage(body["usage"])
        self.flush()

    def flush(self) -> None:
        """Pass on the text that was gathered."""
        if self._texts or self._reasonings:
            self._answer.push("".join(self._texts), "".join(self._reasonings))
            self._texts.clear()
            self._reasonings.clear()

    def close(self) -> None:
        """Hand over what was gathered; also after a failure, for the partial answer."""
        self.flush()
        self._answer.tool_calls = [ToolCall(*self._calls[index]) for index in sorted(self._calls)]
        if self._logprobs:
            self._answer.logprobs_json = orjson.dumps(self._logprobs).decode()

    def _push(self, text: str | None, reasoning: str | None) -> None:
        if text is not None:
            if type(text) is not str:
                raise TypeError("content is not a string")
            self._texts.append(text)
        if reasoning is not None:
            if type(reasoning) is not str:
                raise TypeError("content is not a string")
            self._reasonings.append(reasoning)

    def _end(self, raw: str) -> None:
        if type(raw) is not str:
            raise TypeError("finish_reason is not a string")
        self._answer.start()
        self._answer.finish_reason_raw = raw
        self._answer.finish_reason = finish_reason(raw)

    def _take_rare(self, delta: dict[str, Any]) -> None:
        calls = delta.get("tool_calls")
        if calls:
            for call in calls:
                self._take_call(call)
        refusal = delta.get("refusal")
        if refusal:
            self._push(refusal, None)

    def _take_call(self, call: dict[str, Any]) -> None:
        index = call.get("index")
        if index is None:
            # Some servers leave the index out: an id then begins a new call.
            index = len(self._calls) if call.get("id") or not self._calls else max(self._calls)
        if type(index) is not int:
            raise TypeError("the index of a tool call is not an integer")
        function = call.get("function") or {}
        pieces = (call.get("id") or "", function.get("name") or "", function.get("arguments") or "")
        held = self._calls.get(index)
        if held is None:
            held = self._calls[index] = ["", "", ""]
            self._answer.bytes += TOOL_CALL_BYTES
        for place, piece in enumerate(pieces):
            if type(piece) is not str:
                raise TypeError("a tool call's id, name or arguments are not strings")
            if place == 2:
                held[2] += piece
            elif piece:
                # Id and name come whole; some servers repeat them in every chunk.
                held[place] = piece
        self._answer.start()
        self._answer.bytes += sum(map(text_bytes, pieces))

    def _take_logprobs(self, logprobs: dict[str, Any]) -> None:
        self._answer.bytes += len(orjson.dumps(logprobs))
        for key, value in logprobs.items():
            if type(value) is list and type(self._logprobs.get(key)) is list:
                self._logprobs[key].extend(value)
            elif value is not None or key not in self._logprobs:
                self._logprobs[key] = value

    def _take_usage(self, usage: dict[str, Any]) -> None:
        details = usage.get("prompt_tokens_details") or {}
        self._answer.usage = Usage(
            input_tokens=token_count(usage["prompt_tokens"]),
            cached_input_tokens=token_count(details.get("cached_tokens") or 0),
            output_tokens=token_count(usage.get("completion_tokens") or 0),
        )
