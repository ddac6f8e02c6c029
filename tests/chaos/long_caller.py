"""The process of a caller with one session: it sends whenever it has credit, and cancels whenever it has none."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from statistics import median
from typing import Any

import grpc.aio
from expresslane_client import Client
from expresslane_client.v1 import inference_pb2 as pb
from expresslane_client.v1 import types_pb2

from tests.bench import child
from tests.chaos.silence import Silence

__all__ = ["LongCaller"]

TEXT = "word " * 40
GROUP = 64
"""Most prompts in a message."""
CANCEL_EVERY = 100
SILENT_S = 60.0
"""As its backends answer within 20 ms."""


class LongCaller:
    """Speaks the protocol itself, so that it knows when it has no credit, and sees every result as it comes."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._silence = Silence(SILENT_S)
        self._sent = 0
        self._credits = 0
        self._granted = asyncio.Event()
        self._times: Counter[str] = Counter()
        self._outcomes: Counter[int] = Counter()
        self._foreign = 0
        self._ended = 0
        self._cancelled: dict[str, tuple[int, int]] = {}
        """By custom_id: how many had ended when it was asked for, and how many were unfinished."""
        self._answered: list[str] = []
        """Of these, those that have not ended as cancelled."""
        self._unread: list[str] = []
        """Of these, those sent after every prompt that is acknowledged."""
        self._read_ns: dict[str, int] = {}
        """By custom_id: the cancel had been read by then, monotonic, as a prompt sent behind it was acknowledged."""
        self._since_read: dict[str, int] = {}
        """By custom_id of these, while they have no result: how many messages with results have come since."""
        self._messages: Counter[int] = Counter()
        """Cancels by how many these were, the one with the result included."""
        self._overtook: list[float] = []
        self._unfinished = 0
        self._unfinished_max = 0

    async def run(self, *, prompts: int, tell_every: int) -> dict[str, Any]:
        """Send so many prompts through one session, reading all the time."""
        async with Client(self._address) as client:
            call: Any = client.inference.StreamPrompts()
            await call.write(pb.StreamPromptsRequest(config=pb.BatchConfig()))
            sending = asyncio.create_task(self._send(call, prompts))
            summary = pb.BatchSummary()
            async with self._silence.bounded():
                while (message := await call.read()) is not grpc.aio.EOF:
                    self._take(message, tell_every)
                    if message.HasField("summary"):
                        summary = message.summary
                await sending
            sending.cancel()  # where it was broken off
        return {
            "stood_still": int(self._silence.broken_off),
            "lost": self._sent - len(self._times),
            "duplicated": sum(times - 1 for times in self._times.values()),
            "foreign": self._foreign,
            "cancels_without_credit": len(self._cancelled),
            "cancelled": self._outcomes[types_pb2.OUTCOME_CANCELLED],
            "succeeded": self._outcomes[types_pb2.OUTCOME_SUCCEEDED],
            "answered": {name: self._read_ns.get(name, 0) for name in self._answered},
            "messages_until_cancelled": {str(count): cancels for count, cancels in sorted(self._messages.items())},
            "overtook_p50": round(median(self._overtook), 3) if self._overtook else 0.0,
            "unfinished_max": self._unfinished_max,
            "summary_total": summary.total,
        }

    async def _send(self, call: Any, prompts: int) -> None:
        cancelled_at = 0
        while (sent := self._sent) < prompts:
            while not self._credits:
                self._granted.clear()
                await self._granted.wait()
            count = min(self._credits, GROUP, prompts - sent)
            self._credits -= count
            self._unfinished += count
            self._unfinished_max = max(self._unfinished_max, self._unfinished)
            names = [f"l{number}" for number in range(sent, sent + count)]
            self._sent = sent = sent + count
            messages = [types_pb2.Prompt(custom_id=name, model="m", text=f"{name} {TEXT}") for name in names]
            await call.write(pb.StreamPromptsRequest(prompts=messages))
            if not self._credits and sent - cancelled_at >= CANCEL_EVERY and sent < prompts:
                cancelled_at = sent
                # The last one sent is the last in the queue: all the others would come before it.
                self._cancelled[names[-1]] = (self._ended, self._unfinished)
                self._unread.append(names[-1])
                await call.write(pb.StreamPromptsRequest(cancel=names[-1:]))
        await call.done_writing()

    def _take(self, message: pb.StreamPromptsResponse, tell_every: int) -> None:
        if message.accepted and self._unread:
            newest = max(int(name[1:]) for name in message.accepted)
            now_ns = time.monotonic_ns()
            read = [name for name in self._unread if int(name[1:]) < newest]
            self._read_ns |= dict.fromkeys(read, now_ns)
            self._unread = [name for name in self._unread if name not in self._read_ns]
            self._since_read |= {name: 0 for name in read if not self._times[name]}
        if message.results:
            self._silence.heard()
            self._since_read = {name: count + 1 for name, count in self._since_read.items()}
        for result in message.results:
            name = result.custom_id
            self._times[name] += 1
            self._outcomes[result.outcome] += 1
            self._unfinished -= 1
            self._ended += 1
            succeeded = result.outcome == types_pb2.OUTCOME_SUCCEEDED
            self._foreign += succeeded and not result.choices[0].text.startswith(f"echo {name} ")
            if (asked := self._cancelled.get(name)) is not None:
                ended, waiting = asked
                messages = self._since_read.pop(name, 0)
                if result.outcome == types_pb2.OUTCOME_CANCELLED:
                    self._messages[messages] += 1
                else:
                    self._answered.append(name)
                # It was the last of those that waited; what was on its way to this reader could not be overtaken.
                self._overtook.append(1 - (self._ended - ended) / waiting)
            if self._ended % tell_every == 0:
                child.reply(ended=self._ended)
        if message.credits:
            self._credits += message.credits
            self._granted.set()


async def start() -> Any:
    """The caller for the address of the command line."""
    return LongCaller(sys.argv[1]).run


if __name__ == "__main__":
    child.serve(start)
