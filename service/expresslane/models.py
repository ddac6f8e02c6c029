"""Which model name is served by which backends: listed names, aliases, the default, the wildcard."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from expresslane.errors import PromptError, Reason, RefusedError
from expresslane.masking import masked
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MayUse", "ModelRegistry", "ResolvedModel", "UnknownModelError"]

MAX_LISTED = 8
MAX_SILENT = 3
MAX_AWAITED = 1_024
MAX_TROUBLE_CHARS = 300
MAX_MASKED_CHARS = 2_048
AWAITED_BYTES_PER_TOKEN = 4.0


MayUse = Callable[[str, str], bool]
"""Whether a model may be used that is asked for by the one name and served under the other."""


def _all(_asked: str, _name: str) -> bool:
    return True


class UnknownModelError(Exception):
    """The model cannot be had: nobody serves it, or this caller may not use it; `error` is the prompt's error."""

    def __init__(self, error: PromptError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is served: its number in the core, its canonical name, and its bytes-per-token ratio."""

    number: int
    name: str
    bytes_per_token: float


class ModelRegistry:
    """Resolves what callers write to what is served. Numbers are given once per name and never change.

    Names that only the wildcard backend takes share one number, so that callers cannot make the core grow. While some
    backend has not told its models yet, up to 1,024 names that nobody lists are awaited: prompts wait under them, and
    are released when a backend lists the name, refused when every backend has told its models and none does.
    """

    def __init__(self, *, default: str, aliases: Mapping[str, str], wildcard: str) -> None:
        self._default = default
        self._aliases = dict(aliases)
        self._wildcard = wildcard
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._served: dict[str, float] = {}
        self._wildcard_ratio = 4.0
        self._unreached: Mapping[str, str] = {}
        self._silent: Mapping[str, str] = {}
        self._awaited: set[str] = set()

    @property
    def wildcard_number(self) -> int:
        """The core's number for names that nobody lists; the empty name is no model's."""
        return self.number("")

    def number(self, name: str) -> int:
        """The core's number for a canonical model name."""
        if name not in self._numbers:
            self._names.append(name)
            self._numbers[name] = len(self._names) - 1
        return self._numbers[name]

    def name(self, number: int) -> str:
        """The canonical name with this number, `*` for the wildcard's. Safe to call from another thread."""
        return self._names[number] or "*"

    def update(
        self,
        served: Mapping[str, float],
        unreached: Mapping[str, str],
        silent: Mapping[str, str] = MappingProxyType({}),
        *,
        wildcard_bytes_per_token: float = 4.0,
    ) -> dict[str, PromptError]:
        """Replace what is served: name -> bytes per token.

        `unreached` backends have not told their models yet: id -> why, as far as that is known. `silent` ones have
        answered and told none: id -> why, as far as that is known. Returns the names that were awaited and that nobody
        serves after all, each with its error.
        """
        self._served = dict(served)
        self._wildcard_ratio = wildcard_bytes_per_token
        self._unreached = dict(unreached)
        self._silent = dict(silent)
        if self._unreached:
            return {}
        refused = {name: self._unknown(name, name) for name in self._awaited - served.keys()}
        self._awaited.clear()
        return refused

    def served(self) -> Sequence[str]:
        """All canonical names, sorted."""
        return sorted(self._served)

    def resolve(self, asked: str, may_use: MayUse = _all) -> ResolvedModel:
        """Find the model that a caller means, among those that it `may_use`. Raises UnknownModelError.

        What it may not use it is not told about: not whether it is served, not as a hint.
        """
        name = self._aliases.get(asked, asked) or self._default_name()
        if name and not may_use(asked or self._default or name, name):
            what = f"the model {asked[:256]!r}" if asked else "the default model; name another"
            message = f"this tenant may not use {what}"
            raise UnknownModelError(PromptError(Reason.MODEL_NOT_PERMITTED, message, field="model"))
        if (ratio := self._served.get(name)) is not None:
            return ResolvedModel(self.number(name), name, ratio)
        if self._wildcard and name:
            return ResolvedModel(self.wildcard_number, name, self._wildcard_ratio)
        if self._await(name):
            return ResolvedModel(self.number(name), name, AWAITED_BYTES_PER_TOKEN)
        raise UnknownModelError(self._unknown(asked, name, may_use))

    def listed(self, asked: str) -> ResolvedModel:
        """A model that some backend lists, by name or alias. Raises RefusedError (UNKNOWN_MODEL)."""
        name = self._aliases.get(asked, asked)
        if (ratio := self._served.get(name)) is not None:
            return ResolvedModel(self.number(name), name, ratio)
        error = self._unknown(asked, name)
        raise RefusedError(Reason.UNKNOWN_MODEL, error.message)

    def _await(self, name: str) -> bool:
        """Whether prompts may wait under a name that nobody lists yet."""
        if not (name and self._unreached):
            return False
        if len(self._awaited) < MAX_AWAITED:
            self._awaited.add(name)
        return name in self._awaited

    def _default_name(self) -> str:
        if self._default:
            return self._aliases.get(self._default, self._default)
        return next(iter(self._served)) if len(self._served) == 1 else ""

    def _unknown(self, asked: str, name: str, may_use: MayUse = _all) -> PromptError:
        if self._unreached:
            backends = ", ".join(_with_cause(*one) for one in islice(self._unreached.items(), MAX_LISTED))
            if len(self._unreached) > MAX_LISTED:
                backends += f" and {len(self._unreached) - MAX_LISTED} more"
            what = (
                f"model {asked[:256]!r} is not known"
                if asked
                else "the prompt names no model, the default is not known"
            )
            backends += self._told_of_silent()
            message = f"{what}: no list of models has come yet from {backends}; see `expresslane backends`"
            return PromptError(Reason.NO_BACKEND, message, retryable=True, deadline="", field="model")
        known = [one for one in (*self._served, *self._aliases) if may_use(one, self._aliases.get(one, one))]
        if not name:
            settings = "name one in it, or set EXPRESSLANE_DEFAULT_MODEL"
            message = f"the prompt names no model and there is no default: {settings}; {self._listing(known)}"
            return PromptError(Reason.UNKNOWN_MODEL, message, field="model")
        close = difflib.get_close_matches(name[:256], known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else self._listing(known)
        message = f"no backend serves the model {asked[:256]!r}; {hint}{self._told_of_silent()}"
        return PromptError(Reason.UNKNOWN_MODEL, message, field="model")

    def _told_of_silent(self) -> str:
        """The backends that may well serve it and do not say so, a few of them, where it is known why."""
        told = [f"backends/{one} ({why})" for one, why in self._silent.items() if why]
        if not told:
            return ""
        more = f" and {len(told) - MAX_SILENT} more" if len(told) > MAX_SILENT else ""
        return f"; no list of models can be had from {', '.join(told[:MAX_SILENT])}{more}"

    def _listing(self, known: list[str]) -> str:
        if not self._served and self._silent:
            settings = " or ".join(
                environment_name(f"backends.{one}.models") for one in islice(self._silent, MAX_LISTED)
            )
            return f"models served: none, as no backend lists its models: name them in {settings}"
        more = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
        return f"models served: {', '.join(sorted(known)[:MAX_LISTED]) or 'none'}{more}"


def _with_cause(backend: str, trouble: str) -> str:
    """A backend, and why it cannot be asked."""
    why = masked(trouble[:MAX_MASKED_CHARS])[:MAX_TROUBLE_CHARS]
    return f"backends/{backend} ({why})" if why else f"backends/{backend}"
