"""The prompts of a batch that have no result yet, and how the rest of a batch is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from expresslane_client.resuming import CutOff
from expresslane_client.v1 import inference_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expresslane_client.results import Result
    from expresslane_client.v1 import types_pb2

__all__ = ["Unfinished"]

_KEEP = inference_pb2.ON_DISCONNECT_KEEP
_FAIL_FAST = inference_pb2.FAILURE_POLICY_FAIL_FAST


class Unfinished:
    """Knows each prompt by its custom_id, lets every result through once, and asks for what is left.

    A service that has kept the batch wants to be asked for the whole of it, in the words that it accepted; any other
    for the rest alone. Which one it is only the service knows, so the rest is asked for first.
    """

    def __init__(self, prompts: Sequence[types_pb2.Prompt], config: inference_pb2.BatchConfig) -> None:
        self._config = config
        self._places = {prompt.custom_id: place for place, prompt in enumerate(prompts)}
        self._left = {prompt.custom_id: prompt for prompt in prompts}
        self._kept = config.on_disconnect == _KEEP
        self._asked: Sequence[types_pb2.Prompt] = prompts if self._kept else ()
        self._accepted: tuple[Sequence[types_pb2.Prompt], inference_pb2.BatchConfig] = (self._asked, config)
        self._asked_config = config
        self._failures = 0
        self.cut_off = CutOff()
        """Results of a service that was stopping: their prompts are unfinished until they are given up."""
        self.whole = len(self._places) == len(prompts)
        """Whether the prompts can be told apart."""

    def __len__(self) -> int:
        return len(self._left)

    @property
    def request_id(self) -> str:
        """The batch's name, as its caller gave it."""
        return self._config.request_id

    @property
    def total(self) -> int:
        """All prompts of the batch."""
        return len(self._places)

    @property
    def given_up(self) -> bool:
        """Whether failures that were delivered have ended the batch: its rest is not to be run."""
        limit = self._config.max_failure_rate
        if self._config.failure_policy == _FAIL_FAST and self._failures:
            return True
        return limit > 0 and self._failures > limit * self.total

    def admit(self, result: Result) -> Result | None:
        """The result with its prompt's place in the whole batch; None for one that came before, or is held back."""
        place = self._places.get(result.custom_id)
        if place is None:
            return result
        if result.custom_id not in self._left:
            return None
        placed = result if result.index == place else replace(result, index=place)
        if result.cut_off:
            self.cut_off.hold(result.custom_id, placed)
            return None
        return self._finish(placed)

    def give_up(self) -> list[Result]:
        """What was held back, final now."""
        return [self._finish(result) for result in self.cut_off.give_up()]

    def _finish(self, result: Result) -> Result:
        del self._left[result.custom_id]
        self.cut_off.drop(result.custom_id)
        self._failures += not result.ok
        return result

    def wants(self, custom_id: str) -> bool:
        """Whether output of this prompt is of use: it has no result yet."""
        return custom_id in self._left or custom_id not in self._places

    def accepted(self) -> None:
        """The service has accepted what was asked for last."""
        if self._kept:
            self._accepted = (self._asked, self._asked_config)

    def rest(self) -> inference_pb2.GenerateBatchRequest:
        """Ask for what has no result."""
        config = inference_pb2.BatchConfig()
        config.CopyFrom(self._config)
        limit = self._config.max_failure_rate
        if limit and len(self) < self.total:
            # As many failures of the rest as the whole batch may still have.
            config.max_failure_rate = min(1.0, max((limit * self.total - self._failures) / max(1, len(self)), 1e-9))
        return self._ask(list(self._left.values()), config)

    def again(self) -> inference_pb2.GenerateBatchRequest:
        """Ask for what a service has accepted before, in the same words."""
        return self._ask(*self._accepted)

    def _ask(
        self, prompts: Sequence[types_pb2.Prompt], config: inference_pb2.BatchConfig
    ) -> inference_pb2.GenerateBatchRequest:
        if self._kept:
            self._asked, self._asked_config = prompts, config
        return inference_pb2.GenerateBatchRequest(prompts=prompts, config=config)
