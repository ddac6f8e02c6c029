"""Ordering policies and what each is for: everything, a class, a model, or a model within a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

from expresslane.prompts import PromptClass

__all__ = ["CLASS_NAMES", "POLICY_NAMES", "ClassName", "PolicyName", "Scope"]

PolicyName = Literal["hrrn", "lars", "edf", "sjf-aged", "sjf", "ljf", "fcfs"]
POLICY_NAMES: tuple[str, ...] = get_args(PolicyName)
ClassName = Literal["interactive", "standard", "batch"]
CLASS_NAMES: tuple[str, ...] = get_args(ClassName)

_MODEL = "model/"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a policy counts; None and the empty name mean "any". As text: `batch`, `model/NAME`, `batch/model/NAME`.

    Of several that fit a prompt the narrowest counts: model within a class, model, class, everything.
    """

    prompt_class: PromptClass | None = None
    model: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; a model's name may hold slashes. Raises ValueError."""
        if text.startswith(_MODEL):
            class_name, model = "", text.removeprefix(_MODEL)
        else:
            class_name, _, model = text.partition(f"/{_MODEL}")
            if class_name not in CLASS_NAMES:
                raise ValueError(f"{text!r} is neither a class ({', '.join(CLASS_NAMES)}) nor model/NAME")
        if not model and _MODEL in text:
            raise ValueError(f"{text!r} names no model")
        return cls(PromptClass[class_name.upper()] if class_name else None, model)

    def __str__(self) -> str:
        parts = [self.prompt_class.name.lower()] if self.prompt_class is not None else []
        if self.model:
            parts.append(_MODEL + self.model)
        return "/".join(parts) or "all"
