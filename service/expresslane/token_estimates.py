"""Token estimates, learned for each model from the usage that backends report."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expresslane.tokens import MAX_TOKENS, estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from expresslane.batches.ticket import Ticket
    from expresslane.results import Usage

__all__ = ["RATIO_BOUNDS", "ModelEstimate", "TokenEstimates"]

MODELS_MAX = 1_024
"""Models that are learned of; the one not heard of for longest is forgotten."""
KEEP = 1 - 1 / 64
"""What a sample still counts for when the next one has come: the last 64 prompts or so make the estimate."""
SPREAD_MIN = 0.1
"""Least coefficient of variation, squared, of the sizes in bytes for a slope to be read off them."""
BYTES_PER_TOKEN_MIN, BYTES_PER_TOKEN_MAX = 0.25, 64.0
START_TOKENS = 1_000
LEAST_BYTES = 256
"""Sizes below this weigh alike: their errors are those of whole tokens and of the template."""
RATIO_BOUNDS = (0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)


@dataclass(slots=True)
class ModelEstimate:
    """One model: tokens as a line over bytes, by least squares with exponentially fading weights.

    The line has an intercept because chat templates add tokens to every prompt, which would make short ones look as if
    their text had more tokens per byte; without it a long prompt after many short ones would be taken for far longer
    than it is. Where all prompts are of about one size the data cannot tell the two apart, and the line goes through
    zero. Errors are relative, so a prompt of twice the size weighs a quarter: else a few long ones would drown what the
    short ones say. Exponential forgetting: Åström and Wittenmark, "Adaptive Control", chapter 2.
    """

    weight: float
    sum_bytes: float
    sum_tokens: float
    sum_bytes_bytes: float
    sum_bytes_tokens: float
    samples: int = 0
    output_tokens: float = 0.0
    outputs: int = 0
    ratio_counts: list[int] = field(default_factory=lambda: [0] * (len(RATIO_BOUNDS) + 1))
    ratio_sum: float = 0.0
    _line: tuple[float, float] | None = None

    @classmethod
    def start(cls, bytes_per_token: float) -> ModelEstimate:
        """As if two prompts, an empty one and one of 1,000 tokens, had had this ratio."""
        size_bytes = bytes_per_token * START_TOKENS
        one = cls(0.0, 0.0, 0.0, 0.0, 0.0)
        one._add(0.0, 0.0, _weight(size_bytes))
        one._add(size_bytes, START_TOKENS, _weight(size_bytes))
        return one

    @property
    def line(self) -> tuple[float, float]:
        """(tokens at zero bytes, bytes per further token)."""
        if self._line is None:  # a batch asks for each of its prompts
            self._line = self._fit()
        return self._line

    def _fit(self) -> tuple[float, float]:
        mean_bytes, mean_tokens = self.sum_bytes / self.weight, self.sum_tokens / self.weight
        variance = self.sum_bytes_bytes / self.weight - mean_bytes * mean_bytes
        slope = mean_tokens / mean_bytes
        if variance > SPREAD_MIN * mean_bytes * mean_bytes:
            covariance = self.sum_bytes_tokens / self.weight - mean_bytes * mean_tokens
            slope = min(slope, covariance / variance)
        slope = min(1 / BYTES_PER_TOKEN_MIN, max(1 / BYTES_PER_TOKEN_MAX, slope))
        return max(0.0, mean_tokens - slope * mean_bytes), 1 / slope

    def learn(self, size_bytes: int, tokens: int) -> None:
        """A prompt of this size had this many tokens."""
        self._add(size_bytes, tokens, _weight(size_bytes))
        self.samples += 1
        self._line = None

    def _add(self, size_bytes: float, tokens: float, weight: float) -> None:
        self.weight = self.weight * KEEP + weight
        self.sum_bytes = self.sum_bytes * KEEP + weight * size_bytes
        self.sum_tokens = self.sum_tokens * KEEP + weight * tokens
        self.sum_bytes_bytes = self.sum_bytes_bytes * KEEP + weight * size_bytes * size_bytes
        self.sum_bytes_tokens = self.sum_bytes_tokens * KEEP + weight * size_bytes * tokens

    def learn_output(self, tokens: int) -> None:
        """An answer had this many tokens."""
        self.outputs += 1
        self.output_tokens += (tokens - self.output_tokens) * max(1 - KEEP, 1 / self.outputs)

    def count(self, ratio: float) -> None:
        """An estimate was this many times what the prompt really had."""
        self.ratio_counts[bisect_left(RATIO_BOUNDS, ratio)] += 1
        self.ratio_sum += ratio


def _weight(size_bytes: float) -> float:
    scale = size_bytes + LEAST_BYTES
    return 1 / (scale * scale)


class TokenEstimates:
    """What is known of each model's tokens, by the registry's numbers: names behind a wildcard are learned as one."""

    def __init__(self) -> None:
        self._models: OrderedDict[int, ModelEstimate] = OrderedDict()

    def input_tokens(self, model: int, size_bytes: int, bytes_per_token: float) -> int:
        """Estimated tokens of a prompt, at least 1; `bytes_per_token` counts until something has been learned."""
        known = self._models.get(model)
        if known is None or not known.samples:
            return estimate(size_bytes, bytes_per_token)
        at_zero, learned = known.line
        return min(MAX_TOKENS, max(1, round(at_zero + size_bytes / learned)))

    def output_tokens(self, model: int, max_tokens: int | None) -> int:
        """Expected tokens of an answer: its limit, else the mean of the model's answers, 0 before there was one."""
        if max_tokens is not None:
            return max_tokens
        known = self._models.get(model)
        return 0 if known is None else round(known.output_tokens)

    def learn(self, ticket: Ticket, usage: Usage) -> None:
        """What a backend reported of a prompt that it answered. Parts that are no text (images) teach nothing."""
        known = self._models.get(ticket.model_number)
        if known is None:
            estimated = max(BYTES_PER_TOKEN_MIN, ticket.read_bytes / ticket.tokens)
            known = self._models[ticket.model_number] = ModelEstimate.start(estimated)
            if len(self._models) > MODELS_MAX:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(ticket.model_number)
        if not usage.input_estimated and usage.input_tokens > 0 and ticket.prompt.is_text:
            known.count(ticket.tokens / usage.input_tokens)
            known.learn(ticket.read_bytes, usage.input_tokens)
        if not usage.output_estimated and ticket.prompt.options.sampling.max_tokens is None:
            known.learn_output(usage.output_tokens)

    def find(self, model: int) -> ModelEstimate | None:
        """What is known of a model; None: nothing yet."""
        return self._models.get(model)

    def models(self) -> Iterator[tuple[int, ModelEstimate]]:
        """(number, what is known) of every model that something was learned of. Safe to call from another thread."""
        return iter(list(self._models.items()))
