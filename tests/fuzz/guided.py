"""One target under atheris, in a process of its own: `python -m tests.fuzz.guided TARGET SECONDS`.

Only the parsers are instrumented, so they are first imported here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["expresslane.backends"]):
    from tests.fuzz.targets import DICTIONARY, SEEDS, TARGETS

FOLDER = Path(".fuzz")
SLOWEST_S = 5
MEMORY_MIB = 1_024
LONGEST_BYTES = 4_096


def main(name: str, seconds: str) -> None:
    """Fuzz; libFuzzer ends the process."""
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = FOLDER / f"{name}.dictionary"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in DICTIONARY if len(word) < 64))
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST_BYTES,
        "timeout": SLOWEST_S,
        "rss_limit_mb": MEMORY_MIB,
        "dict": words,
        "artifact_prefix": f"{FOLDER}/{name}-",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    atheris.Setup([name, *(f"-{key}={value}" for key, value in options.items()), str(corpus)], TARGETS[name])
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(*sys.argv[1:])
