"""CollectBatch's one answer: what a batch declares beforehand, and results made to fit when they come all the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import orjson

from expresslane.errors import Reason, RefusedError, status_code
from expresslane.results import Outcome, Result, without_answer
from expresslane.servicers import encode
from expresslane.v1 import inference_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from expresslane.batches.summary import Summary
    from expresslane.prompts import Prompt, RequestOptions

__all__ = ["Collector", "check_collectable"]

DECLARED_TOKENS = 4_096
BYTES_PER_OUTPUT_TOKEN = 4
BYTES_PER_LOGPROB = 80
RESULT_OVERHEAD_BYTES = 640
SUMMARY_BYTES = 24_576
"""With as many kinds of errors as a summary tells apart."""
WORTH_DROPPING_BYTES = 256
TOO_LARGE = "the answers of the batch do not fit in one message; use GenerateBatch, or lower sampling.max_tokens"
_TOKEN_KEYS = ("max_tokens", "max_completion_tokens", "n_predict", "num_predict")


def check_collectable(prompts: Sequence[tuple[Prompt, int]], limit_bytes: int) -> None:
    """Refuse a batch whose declared answer could exceed one message. Raises RefusedError (ANSWER_TOO_LARGE)."""
    declared = SUMMARY_BYTES if len(prompts) > 1 else 0
    known: dict[int, int] = {}
    for prompt, _ in prompts:
        options = prompt.options
        size = known.get(id(options))
        if size is None:
            size = known[id(options)] = _declared_bytes(options)
        declared += size + RESULT_OVERHEAD_BYTES + len(prompt.custom_id.encode())
    if declared > limit_bytes:
        raise RefusedError(
            Reason.ANSWER_TOO_LARGE,
            f"the declared answer of up to {declared:,} bytes exceeds {limit_bytes:,}: use GenerateBatch, "
            "or lower sampling.max_tokens",
        )


def _declared_bytes(options: RequestOptions) -> int:
    sampling = options.sampling
    per_token = BYTES_PER_OUTPUT_TOKEN
    if sampling.logprobs:
        per_token += BYTES_PER_LOGPROB * (1 + (sampling.top_logprobs or 0))
    tokens = [sampling.max_tokens] if sampling.max_tokens else []
    if options.extra_json:
        extra = orjson.loads(options.extra_json)
        own = extra.get("options")
        for values in (extra, own if isinstance(own, dict) else {}):
            given = (values.get(key) for key in _TOKEN_KEYS)
            # Below zero a backend takes it for "no limit".
            tokens += [value if value >= 0 else DECLARED_TOKENS for value in given if type(value) is int]
    return (max(tokens) if tokens else DECLARED_TOKENS) * per_token


class Collector:
    """Gathers the results of one batch into one response of at most `limit_bytes`.

    What does not fit loses, one after the other: the error bodies and earlier attempts of results that failed, then the
    largest answers.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._results: list[Result] = []
        self._answer_bytes = 0
        self._turned: Counter[str] = Counter()
        """Successes that lost their answer, by backend."""

    def add(self, results: Iterable[Result]) -> None:
        """Take results in, in any order; what can no longer fit is let go at once."""
        for result in results:
            self._results.append(result)
            self._answer_bytes += result.answer_bytes
        if self._answer_bytes > 2 * self._limit:
            self._drop_answers()

    def response(self, summary: Summary) -> inference_pb2.CollectBatchResponse:
        """The response: one result for each prompt, in request order, and a summary that counts them as they are."""
        if self._answer_bytes > self._limit:
            self._drop_answers()
        self._results.sort(key=lambda result: result.index)
        response = inference_pb2.CollectBatchResponse(summary=encode.summary_message(summary))
        for result in self._results:
            encode.fill_result(response.results.add(), result)
        over = response.ByteSize() - self._limit
        if over > 0:
            self._shrink(response.results, over + WORTH_DROPPING_BYTES)
        if self._turned.total():
            _recount(response.summary, self._turned)
        return response

    def _drop_answers(self) -> None:
        """Let go of the largest answers until the others could fit: these would never have."""
        by_size = sorted(range(len(self._results)), key=lambda place: -self._results[place].answer_bytes)
        for place in by_size:
            if self._answer_bytes <= self._limit:
                break
            result = self._results[place]
            self._answer_bytes -= result.answer_bytes
            self._turned[encode.backend_name(result.backend)] += result.outcome is Outcome.SUCCEEDED
            self._results[place] = without_answer(result, TOO_LARGE)

    def _shrink(self, messages: Sequence[types_pb2.Result], over: int) -> None:
        for message in messages:
            size = message.ByteSize()
            message.ClearField("history")
            if message.HasField("error"):
                message.error.ClearField("provider_body")
            over -= size - message.ByteSize()
        if over <= 0:
            return
        for size, message in sorted(((one.ByteSize(), one) for one in messages), key=lambda pair: -pair[0]):
            if over <= 0:
                break
            succeeded = message.outcome == types_pb2.OUTCOME_SUCCEEDED
            if succeeded and message.choices[0].ByteSize() < WORTH_DROPPING_BYTES:
                continue
            encode.drop_answer(message, TOO_LARGE)
            self._turned[message.backend] += succeeded
            over -= size - message.ByteSize()


def _recount(summary: inference_pb2.BatchSummary, turned_by_backend: Counter[str]) -> None:
    turned, before = turned_by_backend.total(), summary.succeeded
    summary.succeeded -= turned
    summary.failed += turned
    reason, code = Reason.ANSWER_OVER_LIMIT.value, status_code(Reason.ANSWER_OVER_LIMIT).value[0]
    summary.reasons[reason] += turned
    summary.throughput_per_s *= summary.succeeded / before
    for backend, count in turned_by_backend.items():
        if count:
            error = summary.errors.add(outcome=types_pb2.OUTCOME_FAILED, backend=backend, count=count)
            error.reason, error.code = reason, code
    summary.errors.sort(key=lambda error: -error.count)
