"""What the bench says of its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tests.bench.__main__ import Bench
from tests.bench.report import TARGETS, finish

if TYPE_CHECKING:
    import pytest

    from tests.bench.processes import Upstream


def test_the_stream_ratio_is_the_worse_of_both_shapes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Events in few segments and one segment each are both held against the target, and the worse is the headline."""
    bench = Bench(quick=True, seed=1)
    ratios = {"stream": [1.0, 1.1, 1.2], "stream_segment_per_event": [1.0, 1.6, 1.7]}
    monkeypatch.setattr(bench, "_ratio", lambda name, *_: ratios[name])
    bench.parts()["stream"](cast("Upstream", None))
    named = {name: value for name, value in bench.result.items() if name in TARGETS}
    assert list(named.values()) == [1.6, 1.1, 1.6]
    finish(bench.result | {"failures": {}})
    shown = capsys.readouterr().out
    assert (shown.count("MISSED"), shown.count("met")) == (2, 1)
