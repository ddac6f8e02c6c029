"""Very many prompts through one session that never ends by itself: credits keep the service's memory flat."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.processes import Child, rss_bytes
from tests.chaos.faults import Plan
from tests.chaos.world import World, say

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LongSession", "at_once_ratio", "flatness", "late_cancels"]

PLANS = (Plan(latency_s=(0.005, 0.02)),) * 2
CAP = 64
WARM_PROMPTS = 5_000
"""Pools and buffers are filled, and what is learned is learned."""
TELL_EVERY = 500
AT_ONCE = 2
"""Messages with results, counted from the one that says that a prompt sent behind a cancel is accepted: the results of
that message may have been gathered before, and then that of the cancel is in the next one."""


def flatness(samples: list[tuple[int, int]], warm: int) -> tuple[float, float]:
    """Growth of memory after the first `warm` prompts: as a part of what it was then, and in bytes a prompt.

    Samples are (prompts ended, bytes). The median of the first fifth of what comes after against that of the last.
    """
    later = [(ended, size) for ended, size in samples if ended >= warm]
    fifth = max(1, len(later) // 5)
    (early_at, early), (late_at, late) = (
        (median(at for at, _ in part), median(size for _, size in part)) for part in (later[:fifth], later[-fifth:])
    )
    return late / early - 1, (late - early) / max(1, late_at - early_at)


def late_cancels(read_ns: Mapping[str, int], begun_ns: Mapping[str, int]) -> int:
    """How many prompts were answered that a backend had not begun with when their cancel had been read.

    By custom_id, monotonic: when the cancel had been read (0: nobody knows, it is late), when the backend began.
    """
    return sum(begun_ns.get(name, read + 1) > read for name, read in read_ns.items())


def at_once_ratio(messages: Mapping[str, int]) -> float:
    """Of the cancels that were carried out, the part whose results came AT_ONCE.

    How many cancels there were by the messages that it took, as the caller says it.
    """
    at_once = sum(cancels for count, cancels in messages.items() if int(count) <= AT_ONCE)
    return at_once / max(1, sum(messages.values()))


@dataclass(frozen=True, slots=True)
class LongSession:
    """One StreamPrompts session whose caller always has more than it has credits for.

    Once in a hundred prompts or so, when its credits are used up and it has to wait for more, the caller cancels the
    prompt that it has sent last: the cancel has to overtake all that waits. It is late if that prompt is answered and
    a backend began with it after the service had read the cancel: it had acknowledged a prompt sent behind it.

    A cancel of a prompt that waits is carried out when it is read, and so its result comes with the next results to be
    sent. That counts messages, not time, and so neither the machine nor the transport makes it more of them.

    Answers before that prove nothing: when the transport stands still for as long as the queue lasts, the prompt and
    its cancel come to an empty queue. There must be few of them all the same, or the service reads too late.
    """

    prompts: int
    seed: int

    def run(self) -> dict[str, Any]:
        """Send everything, and look at memory as results come."""
        with World(PLANS, cap=CAP, seed=self.seed, settings={}) as world:
            samples: list[tuple[int, int]] = []
            for backend in world.backends.values():
                backend.do(do="name")
            begun = time.monotonic()
            with Child("long_caller", world.service.address, package="tests.chaos") as caller:
                caller.start(prompts=self.prompts, tell_every=TELL_EVERY)
                while not (said := caller.next()).get("done"):
                    samples.append((said["ended"], rss_bytes(world.service.pid)))
                    if said["ended"] % (10 * TELL_EVERY) == 0:
                        say(f"session: {time.monotonic() - begun:.0f} s: ended {said['ended']:,}")
            wall_s = time.monotonic() - begun
            result = {
                "stood_still": said["stood_still"],
                "lost": said["lost"],
                "duplicated": said["duplicated"],
                "foreign": said["foreign"],
                "prompts": self.prompts,
                "wall_s": round(wall_s, 2),
                "caller": said,
                "conditions": {"warm_up_prompts": WARM_PROMPTS, "cap_per_backend": CAP, "plan": PLANS[0].values()},
            }
            if said["stood_still"]:
                return result
            left = world.levels()
            begun_ns: dict[str, int] = {}
            for backend in world.backends.values():
                for name, at_ns in backend.do(do="begun", names=list(said["answered"]))["begun_ns"].items():
                    begun_ns[name] = max(at_ns, begun_ns.get(name, 0))
        grown, bytes_per_prompt = flatness(samples, WARM_PROMPTS)
        return {
            **result,
            "late_cancels": late_cancels(said["answered"], begun_ns),
            "heeded_ratio": round(said["cancelled"] / max(1, said["cancels_without_credit"]), 4),
            "cancelled_at_once_ratio": round(at_once_ratio(said["messages_until_cancelled"]), 4),
            "overtook_p50": said["overtook_p50"],
            "rss_growth": round(grown, 4),
            "bytes_per_prompt": round(bytes_per_prompt, 2),
            "leaked": left.sessions + left.tickets + left.unaccounted + left.slots,
            "rss_bytes": {f"{ended:,} ended": size for ended, size in samples[:: max(1, len(samples) // 10)]},
        }
