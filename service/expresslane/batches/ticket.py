"""A ticket: one accepted prompt, from its acceptance to its one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.results import RESULT_ROOM_BYTES, Outcome, Result, Timings, Usage, without_answer

if TYPE_CHECKING:
    from expresslane.attempt import Attempt
    from expresslane.batches.batch import Batch
    from expresslane.errors import AttemptError, PromptError
    from expresslane.prompts import Prompt
    from expresslane.telemetry.spans import PromptTrace

__all__ = ["Ticket"]

MAX_WORD_CHARS = 256


class Ticket:
    """The Python side of a core ticket. Hundreds of thousands may wait, so it holds slots and no task or future.

    `queue_wait_ns` is the time spent off-slot up to the last release; `attempt` is the running attempt, if any;
    `attempts` counts releases; those of them that a rate limit turned away until later are `turned_away`, those that a
    backend refused, so that they go to another one, `refused`;
    `back_off_ns` is the last random wait before an attempt, without what a backend asked for.
    """

    __slots__ = (
        "attempt",
        "attempts",
        "back_off_ns",
        "batch",
        "history",
        "id",
        "index",
        "model_number",
        "prompt",
        "queue_wait_ns",
        "queued_ns",
        "refused",
        "size_bytes",
        "submitted_ns",
        "tokens",
        "trace",
        "turned_away",
    )

    def __init__(self, prompt: Prompt, batch: Batch, index: int, tokens: int, size_bytes: int = 0) -> None:
        self.id = 0
        self.prompt = prompt
        self.batch = batch
        self.index = index
        self.tokens = tokens
        self.size_bytes = size_bytes
        self.submitted_ns = 0
        self.queued_ns = 0
        self.queue_wait_ns = 0
        self.attempts = 0
        self.turned_away = 0
        self.refused = 0
        self.model_number = 0
        self.back_off_ns = 0
        self.attempt: Attempt | None = None
        self.history: tuple[AttemptError, ...] = ()
        self.trace: PromptTrace | None = None

    @property
    def read_bytes(self) -> int:
        """Size of what the model reads of the prompt."""
        return self.size_bytes - self.prompt.options.other_bytes

    def result(self, outcome: Outcome, now_ns: int, error: PromptError | None = None) -> Result:
        """The result of this ticket, with whatever its last attempt has brought."""
        attempt = self.attempt
        total_ns = now_ns - self.submitted_ns
        if attempt is None:
            queue_wait_ns = self.queue_wait_ns + now_ns - self.queued_ns
            timings = Timings(queue_wait_ns=queue_wait_ns, total_ns=total_ns)
            return Result(
                self.prompt.custom_id,
                self.index,
                outcome,
                timings,
                error=error,
                attempts=self.attempts - self.turned_away,
                turned_away=self.turned_away,
                history=self.history,
                backend=self.history[-1].backend if self.history else "",
                prompt_bytes=self.size_bytes,
            )
        answer = attempt.answer
        first_ns = attempt.first_token_ns
        usage = answer.usage
        if usage is None and answer.started:
            usage = Usage(self.tokens, 0, max(1, answer.bytes // 4), input_estimated=True, output_estimated=True)
        further_tokens = usage.output_tokens - 1 if usage is not None else 0
        timings = Timings(
            queue_wait_ns=self.queue_wait_ns,
            ttft_ns=first_ns - self.submitted_ns if first_ns else None,
            attempt_ttft_ns=first_ns - attempt.started_ns if first_ns else None,
            total_ns=total_ns,
            attempt_ns=now_ns - attempt.started_ns,
            tpot_ns=(now_ns - first_ns) // further_tokens if first_ns and further_tokens > 0 else None,
        )
        result = Result(
            custom_id=self.prompt.custom_id,
            index=self.index,
            outcome=outcome,
            timings=timings,
            answered=answer.started,
            text=answer.text,
            reasoning=answer.reasoning,
            tool_calls=tuple(answer.tool_calls),
            logprobs_json=answer.logprobs_json,
            finish_reason=answer.finish_reason,
            finish_reason_raw=answer.finish_reason_raw[:MAX_WORD_CHARS],
            usage=usage,
            error=error,
            attempts=self.attempts - self.turned_away,
            turned_away=self.turned_away,
            history=self.history,
            backend=attempt.member.id,
            model=attempt.model,
            simulated=attempt.member.capabilities.simulated,
            prompt_bytes=self.size_bytes,
            answer_bytes=answer.bytes,
        )
        if answer.bytes > self.batch.options.result_limit_bytes - RESULT_ROOM_BYTES:
            return without_answer(result, f"the answer of {answer.bytes:,} bytes is too large for one result")
        return result
