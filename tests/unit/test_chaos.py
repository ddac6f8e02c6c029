"""The fault harness can fail: what it counts is counted right, on records made by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest
from expresslane_client import Snapshot
from expresslane_client.v1 import admin_pb2

import tests.chaos.__main__ as chaos
from tests.chaos.caller import behaviours
from tests.chaos.faults import AT_LENGTH, LONG_ANSWER_BYTES, reasoning_to
from tests.chaos.ledger import Ledger
from tests.chaos.levels import Levels
from tests.chaos.overlap import exceeded
from tests.chaos.session import flatness, late_cancels
from tests.chaos.slow_reader import BESIDE, IDLE_LOOKS, OUTBOX_BYTES, Stall
from tests.chaos.soak import growth, success_ratio
from tests.chaos.storm import Storm
from tests.chaos.verdict import missed

MS = 1_000_000


@pytest.mark.parametrize(
    ("spans_ms", "cap", "found"),
    [
        ([(0, 100), (100, 200)], 1, []),
        ([(0, 100), (60, 200)], 1, []),
        ([(0, 100), (49, 200)], 1, [(49, 100, 2)]),
        ([(0, 300), (10, 200), (20, 90), (150, 250)], 2, [(20, 90, 3)]),
        ([(0, 300), (10, 200), (20, 90), (150, 250)], 3, []),
        ([(0, 200), (0, 200), (0, 200)], 1, [(0, 200, 3)]),
        ([(0, 100), (40, 200), (150, 400), (300, 500)], 1, [(40, 100, 2), (150, 400, 2)]),
        ([(0, 900), (100, 130), (400, 430)], 1, [(100, 430, 2)]),
        ([(0, 3000), (100, 130), (2_400, 2_430)], 1, []),
        ([], 1, []),
    ],
)
def test_more_at_once_than_the_cap(
    spans_ms: list[tuple[int, int]], cap: int, found: list[tuple[int, int, int]]
) -> None:
    """G01: overlaps above the cap count where they last longer than the grace, in one piece or within a second."""
    spans = [(begin * MS, end * MS) for begin, end in spans_ms]
    assert exceeded(spans, cap) == [(begin * MS, end * MS, most) for begin, end, most in found]


def call(*results: tuple[str, str], **said: Any) -> dict[str, Any]:
    """A call as its caller logs it."""
    rows = [[custom_id, outcome, "", 1, True, []] for custom_id, outcome in results]
    plain = {"behaviour": "stays", "sent": ["a", "b", "c"], "cancelled": [], "left": False, "held": False, "error": ""}
    return {**plain, "results": rows, **said}


def test_what_never_came_is_lost() -> None:
    """A prompt without a result is lost, unless its caller has left."""
    ledger = Ledger()
    ledger.add(call(("a", "succeeded"), ("b", "failed")))
    assert (ledger.lost, ledger.duplicated, ledger.success_ratio) == (["c"], [], 1 / 3)
    ledger.add(call(("a", "succeeded"), left=True))
    assert (len(ledger.lost), ledger.abandoned, ledger.success_ratio) == (1, 2, 2 / 4)


def test_what_came_twice_is_duplicated() -> None:
    """The same custom_id twice is counted, whatever the outcomes were."""
    ledger = Ledger()
    ledger.add(call(("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded"), ("a", "failed")))
    assert (ledger.duplicated, ledger.lost) == (["a"], [])


def test_what_was_never_asked_for_is_foreign() -> None:
    """A result with a custom_id of another call, or with another prompt's text, is a mix-up; its rate is told (P30)."""
    ledger = Ledger()
    mixed = call(("a", "succeeded"), ("z", "succeeded"), sent=["a"])
    mixed["results"][0][4] = False
    ledger.add(mixed)
    assert ledger.foreign == ["a", "z"]
    ledger.add(call(("a", "succeeded"), ("b", "failed")))
    assert ledger.mismatch_rate == 2 / 4


def test_who_gives_up_early_is_told() -> None:
    """A prompt that failed before its third attempt was given up too soon."""
    ledger = Ledger()
    early = call(("a", "failed"), ("b", "expired"), ("c", "cancelled"))
    early["results"][0][3] = 3
    ledger.add(early)
    assert ledger.gave_up == ["b"]


def test_what_a_caller_cancels_says_nothing_of_success() -> None:
    """The success ratio is over the prompts that their callers did not cancel."""
    ledger = Ledger()
    asked = ["b", "c"]
    ledger.add(call(("a", "succeeded"), ("b", "cancelled"), ("c", "expired"), cancelled=asked))
    assert (ledger.success_ratio, ledger.cancelled_unasked) == (1 / 2, [])
    ledger.add(call(("a", "succeeded"), ("b", "succeeded"), ("c", "cancelled"), cancelled=asked, behaviour="cancels"))
    assert (ledger.success_ratio, ledger.cancelled_unasked) == (3 / 4, [])


@pytest.mark.parametrize("behaviour", ["stays", "slow", "slow session", "leaves", "cancels"])
def test_what_nobody_asked_to_be_cancelled_has_not_succeeded(behaviour: str) -> None:
    """A prompt that the service cancels by itself was wanted, whoever its caller is and what else that one cancels."""
    ledger = Ledger()
    results = ("a", "succeeded"), ("b", "cancelled"), ("c", "cancelled")
    ledger.add(call(*results, behaviour=behaviour, cancelled=["c"], left=behaviour == "leaves"))
    assert (ledger.success_ratio, ledger.cancelled_unasked) == (1 / 2, ["b"])
    found = {"success_ratio": ledger.success_ratio, "cancelled_unasked": len(ledger.cancelled_unasked)}
    assert missed(found) == ["cancelled_unasked = 1, at most 0", "success_ratio = 0.5, at least 0.99"]


def looked(**fields: int) -> Snapshot:
    """The service while a tenant's call is held and others run; `fields` change that."""
    now = {"queued": 70, "in_flight": 0, "unread": OUTBOX_BYTES, "others": 36, "retry_waiting": 0, "up": 1} | fields
    message = admin_pb2.Snapshot(in_flight=now["others"] + now["in_flight"], retry_waiting=now["retry_waiting"])
    message.backends.add(available=bool(now["up"]))
    message.tenants.add(tenant="other", queued=70)
    message.tenants.add(
        tenant="slow",
        queued=now["queued"],
        in_flight=now["in_flight"],
        holdings=admin_pb2.Holdings(unread_bytes=now["unread"]),
    )
    return Snapshot.from_proto(message)


@pytest.mark.parametrize(
    ("between", "seen"),
    [
        ({}, True),
        ({"in_flight": 1}, None),
        ({"queued": 69}, None),
        ({"unread": OUTBOX_BYTES - 1}, None),
        ({"queued": 0, "in_flight": 1}, False),
        ({"queued": 0}, False),
    ],
)
def test_a_batch_that_its_reader_holds(between: dict[str, int], seen: bool | None) -> None:
    """A16: held is what had as much unread and as much waiting and nothing in flight, while others had results."""
    stall = Stall("slow")
    assert stall.look(looked(), 0) is None
    assert stall.look(looked(), BESIDE - 1) is None
    middle = stall.look(looked(**between), BESIDE)
    assert middle is seen
    if seen is None:
        # The count begins anew, with what came after.
        assert stall.look(looked(), BESIDE + 1) is None
        assert stall.look(looked(), 2 * BESIDE) is None
        assert stall.look(looked(), 2 * BESIDE + 1) is True


@pytest.mark.parametrize(
    ("fields", "seen"),
    [({}, True), ({"others": 1}, None), ({"retry_waiting": 1}, None), ({"up": 0}, None)],
)
def test_a_batch_that_is_held_in_an_idle_service(fields: dict[str, int], seen: bool | None) -> None:
    """A16: also held is what waits where nobody else has work and a backend would take it, seen more than once."""
    stall = Stall("slow")
    looks = [stall.look(looked(**{"others": 0} | fields), 0) for _ in range(IDLE_LOOKS + 1)]
    assert looks == [None] * IDLE_LOOKS + [seen]


def test_a_caller_that_nothing_is_known_of() -> None:
    """Whose tenant the service does not list has nothing that could be held."""
    assert Stall("nobody").look(looked(), 0) is False


def test_a_storm_whose_slow_readers_nobody_held() -> None:
    """The calls that were held are counted, sessions apart, and one of each at least must be."""
    ledger = Ledger()
    ledger.add(call(behaviour="slow"))
    ledger.add(call(("a", "cancelled"), behaviour="slow session", cancelled=["a"]))
    assert missed(Storm._held(ledger)) == [
        "held_seen = 0, at least 1",
        "held_sessions_seen = 0, at least 1",
        "cancelled_while_held = 0, at least 1",
    ]
    ledger.add(call(behaviour="slow", held=True))
    ledger.add(call(("a", "succeeded"), ("b", "cancelled"), behaviour="slow session", cancelled=["b"], held=True))
    assert Storm._held(ledger) == {"held_seen": 1, "held_sessions_seen": 1, "cancelled_while_held": 1}
    assert missed(Storm._held(ledger)) == []


def test_one_caller_in_a_hundred() -> None:
    """One in a hundred leaves or cancels, in turn, and one reads slowly, a batch or a session."""
    kinds = list(behaviours(400, 0.01))
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"stays": 392, "leaves": 2, "cancels": 2, "slow": 2, "slow session": 2}
    assert set(behaviours(100, 0.01)) == {"stays", "leaves", "slow"}


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.25, 0.5])
def test_the_rate_of_those_who_cancel(rate: float) -> None:
    """The command line's rate of callers that leave or cancel, half of them each, is what happens (P13)."""
    kinds = Counter(behaviours(1_000, rate))
    assert kinds["leaves"] + kinds["cancels"] == kinds["slow"] + kinds["slow session"] == 1_000 * rate
    assert max(abs(kinds["leaves"] - kinds["cancels"]), abs(kinds["slow"] - kinds["slow session"])) <= 1


@pytest.mark.parametrize("wrong", ["0.6", "-1", "nan", "x"])
def test_a_wrong_rate(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate that cannot be is refused before anything is started."""
    with pytest.raises(SystemExit):
        chaos.main(["--misbehave", wrong])
    assert f"--misbehave: invalid rate value: '{wrong}'" in capsys.readouterr().err


EMPTY = Levels(0, 0, 0, 0, 8, 20, 10, 0, 100_000_000)


@pytest.mark.parametrize(
    ("field", "value", "above"),
    [
        *((name, 1, True) for name in ("sessions", "tickets", "unaccounted", "slots", "connections")),
        ("sockets", 9, True),
        ("threads", 11, True),
        ("files", 19, False),
        ("rss_bytes", 104_000_000, False),
        ("rss_bytes", 106_000_000, True),
    ],
)
def test_a_level_that_did_not_come_back(field: str, value: int, above: bool) -> None:
    """Every level counts by itself; memory may be 5 % above where it was."""
    after = Levels(**(EMPTY.values() | {field: value}))
    assert after.above(EMPTY) == ([field] if above else [])


def test_growth_of_memory() -> None:
    """Warm-up and single peaks do not count, growth after the warm-up does."""
    flat = [(float(at), 50 if at < 10 else 900 if at % 7 == 0 else 100) for at in range(60)]
    assert growth(flat, 10, 60, 10) == 0
    rising = [(float(at), 100_000 + 100 * at) for at in range(60)]
    assert growth(rising, 10, 60, 10) == pytest.approx(4_000 / 101_450)


OFFERED = {
    "all in time": ({"succeeded": 995, "failed": 5}, 0.995, []),
    "all refused": ({"refused": 1_000}, 0.0, ["success_ratio = 0.0, at least 0.99"]),
    "late": ({"succeeded": 900, "late": 100}, 0.9, ["success_ratio = 0.9, at least 0.99"]),
    "without a result": ({"succeeded": 980}, 0.98, ["success_ratio = 0.98, at least 0.99"]),
}


@pytest.mark.parametrize(("outcomes", "ratio", "lines"), OFFERED.values(), ids=OFFERED.keys())
def test_a_soak_that_does_nothing_misses(outcomes: dict[str, int], ratio: float, lines: list[str]) -> None:
    """Memory that stays flat is worth nothing unless what was offered was done, and in time."""
    found = success_ratio({"offered": 1_000, "outcomes": outcomes})
    assert found == ratio
    assert missed({"rss_growth": 0.0, "cap_exceeded": 0, "success_ratio": found}) == lines


def test_targets() -> None:
    """What a result does not speak of is no miss; each target has its direction."""
    assert missed({"lost": 0, "success_ratio": 0.99, "rss_growth": -0.1}) == []
    assert missed({"lost": 1, "success_ratio": 0.98}) == ["lost = 1, at most 0", "success_ratio = 0.98, at least 0.99"]


def test_a_long_answer() -> None:
    """Its length is asked for in words, and comes before the echo."""
    body = f'{{"messages":[{{"role":"user","content":"s1-2 {AT_LENGTH} word"}}],"stream":true}}'.encode()
    assert len(reasoning_to(body)) == LONG_ANSWER_BYTES
    assert reasoning_to(body.replace(AT_LENGTH.encode(), b"briefly")) == ""


@pytest.mark.parametrize(
    ("what", "held", "broken"),
    [
        ("storm", {"lost": 0, "success_ratio": 1.0}, {"lost": 1, "success_ratio": 1.0}),
        ("overload", {"goodput_ratio": 0.95}, {"goodput_ratio": 0.94}),
        ("soak", {"rss_growth": 0.02, "cap_exceeded": 0}, {"rss_growth": 0.021, "cap_exceeded": 0}),
        ("soak", {"rss_growth": -0.01, "cap_exceeded": 0}, {"rss_growth": -0.01, "cap_exceeded": 1}),
    ],
)
def test_exit_code_follows_the_verdict(
    what: str,
    held: dict[str, float],
    broken: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 when all targets hold and 1 when one does not; standard output is the JSON object alone."""
    for result, code in ((held, 0), (broken, 1)):
        monkeypatch.setattr(chaos, "run", lambda _, result=result: {**result, "conditions": {}})
        assert chaos.main([what]) == code
        printed = orjson.loads(capsys.readouterr().out)
        assert (bool(printed["missed"]), printed | result) == (bool(code), printed)


def test_which_answers_came_in_spite_of_a_cancel() -> None:
    """Late: begun after the cancel had been read, or nobody knows that it was. Begun before: the answer was first."""
    read_ns = {"first": 100, "late": 100, "never_read": 0, "unseen": 100}
    begun_ns = {"first": 99, "late": 101, "never_read": 50}
    assert late_cancels(read_ns, begun_ns) == 3
    assert late_cancels({}, begun_ns) == 0


def test_flat_memory_of_a_session() -> None:
    """What comes before the warm-up's end does not count; after it, growth is told as a part and in bytes a prompt."""
    flat = [(ended, 50 if ended < 5_000 else 100) for ended in range(500, 20_001, 500)]
    assert flatness(flat, 5_000) == (0, 0)
    rising = [(ended, 1_000_000 + 10 * ended) for ended in range(500, 20_001, 500)]
    share, bytes_per_prompt = flatness(rising, 5_000)
    assert bytes_per_prompt == 10
    assert share == pytest.approx(0.12, abs=0.01)
