"""Which segments of a URL's path look like keys: by how keys of known services begin, or as no name is spelt."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["keys_in_path"]

# Those that begin models' names too (`pplx-`, `xai-`) are not here: their keys are long and random.
_PREFIXED = re.compile(r"(?:sk[-_]|gsk_|hf_|fw_|r8_|gh[opsu]_|github_pat_|glpat-|xox[abp]-|AIza|eyJ).{8,}", re.DOTALL)
_NAMED = re.compile(r"(?:api[-_]?)?(?:key|token|secret|password|passwd|pwd)s?", re.IGNORECASE)
_BEHIND_A_NAME_CHARS_MIN = 8
# Behind these stands the name of a thing, which may be made of random letters and digits and is no secret.
_OF_THINGS = re.compile(
    r"(?:account|deployment|(?:serving-)?endpoint|environment|function|location|model|organization|project|region"
    r"|workspace)s?",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_KEY_CHARS_MIN = 20
_RANDOM_CHARS_MIN = 12
_WORD = re.compile(r"[A-Za-z0-9]{6,}")
_WORD_CHANGES_MIN = 3


def keys_in_path(segments: Sequence[str]) -> list[bool]:
    """For each segment of a path, as it is written in a URL, whether it looks like a key."""
    plain = [unquote(segment) for segment in segments]
    return [_is_key(segment, before) for segment, before in zip(plain, ["", *plain], strict=False)]


def _is_key(segment: str, before: str) -> bool:
    if _PREFIXED.fullmatch(segment):
        return True
    if _OF_THINGS.fullmatch(before):
        return False
    if _NAMED.fullmatch(before) and len(segment) >= _BEHIND_A_NAME_CHARS_MIN and _mixes(segment):
        return True
    return _UUID.fullmatch(segment) is not None or _is_random(segment)


def _is_random(segment: str) -> bool:
    """Whether enough of it is words in which letters and digits, or large and small ones, take turns.

    Names do so in short words (`70b`, `v3p1`, `8x22b`), and put hyphens and dots between them.
    """
    if len(segment) < _KEY_CHARS_MIN or not _mixes(segment):
        return False
    words = (word for word in _WORD.findall(segment) if _changes(word) >= _WORD_CHANGES_MIN)
    return sum(map(len, words)) >= _RANDOM_CHARS_MIN


def _mixes(text: str) -> bool:
    return re.search(r"[A-Za-z]", text) is not None and re.search(r"[0-9]", text) is not None


def _changes(word: str) -> int:
    """How often a letter follows a digit in it, a digit a letter, or a large letter a small one."""
    return sum(_kind(one) != _kind(other) for one, other in pairwise(word))


def _kind(character: str) -> int:
    return 0 if character.isdigit() else 1 + character.isupper()
