"""The fuzzed promises in short form: every seed, and the same few hundred mixtures of words and bytes at each run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import DICTIONARY, SEEDS, TARGETS

words = st.lists(st.sampled_from(DICTIONARY) | st.binary(max_size=8), max_size=40).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """What a server really sends, whole, cut off anywhere, and with every byte changed."""
    for seed in SEEDS[name]:
        for at in range(0, len(seed) + 1, 1 + len(seed) // 200):
            TARGETS[name](seed[:at])
            TARGETS[name](seed[:at] + b"\xff" + seed[at + 1 :])


@pytest.mark.parametrize("name", TARGETS)
def test_mixtures(name: str) -> None:
    """Any mixture of the dialects' words and of bytes breaks no promise."""

    @settings(max_examples=300, derandomize=True, deadline=None, database=None)
    @given(words, st.sampled_from(SEEDS[name]), st.integers(0, 200))
    def holds(mixture: bytes, seed: bytes, at: int) -> None:
        TARGETS[name](mixture)
        TARGETS[name](seed[:at] + mixture + seed[at:])

    holds()
