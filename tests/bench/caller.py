"""The caller: generated stubs, its own process, every response parsed, every prompt accounted for."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc.aio
from expresslane.v1 import inference_pb2 as pb
from expresslane.v1 import inference_pb2_grpc, types_pb2

from tests.bench import child, load

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB_64 = 64 * 1024 * 1024


class Caller:
    """Sends batches and single prompts."""

    def __init__(self, address: str, seed: int) -> None:
        channel = grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", MIB_64)])
        self._stub = inference_pb2_grpc.InferenceStub(channel)
        self._texts = load.texts(2_000, seed)
        self._calls: list[Any] = []
        self._sizes: list[int] = []
        self._waiting_bytes = 0
        self._messages = 0
        self._finished = 0

    async def carry_out(self, *, do: str, **arguments: Any) -> dict[str, Any]:
        """One command."""
        self._messages = self._finished = 0
        started = time.perf_counter()
        summary = await getattr(self, do)(**arguments)
        return {"wall_s": time.perf_counter() - started, "messages": self._messages, "summary": summary}

    async def batches(self, *, count: int, size: int, deltas: bool = False) -> dict[str, Any]:
        """Batches one after the other; returns the last one's summary."""
        summary: dict[str, Any] = {}
        for number in range(count):
            call = self._stub.GenerateBatch(self._request(number * size, size, self._texts, deltas=deltas))
            summary = await self._read(call, size)
        return summary

    async def unary(self, *, count: int, in_flight: int) -> dict[str, Any]:
        """Single prompts through Generate, `in_flight` at a time."""
        work = iter(range(count))

        async def worker() -> None:
            for number in work:
                call = self._stub.Generate(pb.GenerateRequest(prompt=self._prompt(number, self._texts)))
                outcome = 0
                async for message in call:
                    self._messages += 1
                    outcome = message.result.outcome or outcome
                if outcome != types_pb2.OUTCOME_SUCCEEDED:
                    raise ValueError("a prompt did not succeed")

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return {}

    async def queue(self, *, batches: int, size: int, seed: int) -> dict[str, Any]:
        """Open batches at the same time; returns once all are accepted, with the size of their texts."""
        texts = load.texts(batches * size, seed, median_bytes=1_500)

        async def one(number: int) -> Any:
            call = self._stub.GenerateBatch(self._request(number * size, size, texts))
            first: Any = await call.read()
            if first.events[0].accepted.prompts != size:
                raise ValueError("the batch was not accepted")
            return call

        self._calls = await asyncio.gather(*(one(number) for number in range(batches)))
        self._sizes = list(map(len, texts))
        return {"text_bytes": sum(self._sizes)}

    async def drain(self, *, size: int, report_every: int) -> dict[str, Any]:
        """Read the opened batches to their ends and tell how far they are, in prompts and in bytes of their texts."""
        self._waiting_bytes = sum(self._sizes)
        calls, self._calls = self._calls, []
        summaries = await asyncio.gather(*(self._read(call, size, report_every) for call in calls))
        return summaries[-1]

    async def _read(self, call: Any, size: int, report_every: int = 0) -> dict[str, Any]:
        succeeded = 0
        summary = pb.BatchSummary()
        while (message := await call.read()) is not grpc.aio.EOF:
            self._messages += 1
            for result in message.results:
                succeeded += result.outcome == types_pb2.OUTCOME_SUCCEEDED and bool(result.choices[0].text)
                self._finished += 1
                if report_every:
                    self._waiting_bytes -= self._sizes[int(result.custom_id.removeprefix("prompt-"))]
                    if self._finished % report_every == 0:
                        child.reply(finished=self._finished, waiting_text_bytes=self._waiting_bytes)
            if message.HasField("summary"):
                summary = message.summary
        if succeeded != size:
            raise ValueError(f"{size - succeeded} of {size} prompts did not succeed: {summary}")
        return {
            "wall_s": summary.wall_time.ToNanoseconds() / 1e9,
            "sequential_s": summary.sequential_estimate.ToNanoseconds() / 1e9,
            "speed_up": summary.speed_up,
        }

    def _request(self, first: int, size: int, texts: list[str], *, deltas: bool = False) -> pb.GenerateBatchRequest:
        config = pb.BatchConfig(stream_deltas=deltas)
        return pb.GenerateBatchRequest(prompts=self._prompts(first, size, texts), config=config)

    def _prompts(self, first: int, size: int, texts: list[str]) -> Iterable[types_pb2.Prompt]:
        return (self._prompt(number, texts) for number in range(first, first + size))

    @staticmethod
    def _prompt(number: int, texts: list[str]) -> types_pb2.Prompt:
        sampling = types_pb2.SamplingParams(max_tokens=load.MAX_TOKENS, temperature=load.TEMPERATURE)
        text = texts[number % len(texts)]
        return types_pb2.Prompt(custom_id=f"prompt-{number}", model=load.MODEL, text=text, sampling=sampling)


async def start() -> Any:
    """The caller for the address and seed of the command line."""
    return Caller(sys.argv[1], int(sys.argv[2])).carry_out


if __name__ == "__main__":
    child.serve(start)
