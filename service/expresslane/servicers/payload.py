"""A digest of what a call asks for, to tell whether a later call under the same request_id asks for the same."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expresslane.batches.batch import BatchOptions
    from expresslane.prompts import Prompt

__all__ = ["payload_digest"]

TURN = 256
DIGEST_BYTES = 16


async def payload_digest(prompts: Sequence[tuple[Prompt, int]], options: BatchOptions) -> bytes:
    """Of the prompts, in order and with every field, and of the failure rules; giving way to other work in between.

    Not of the request's bytes: protobuf may write one message in many ways. What only says how results are delivered
    (delivery, deltas, heartbeats, keeping) is left out, so a call may come back in another way than it began.
    """
    # Each value is one JSON text, which says by itself where it ends: no two different payloads give the same bytes.
    digest = hashlib.blake2b(orjson.dumps([options.fail_fast, options.max_failure_rate]), digest_size=DIGEST_BYTES)
    for number, (prompt, _) in enumerate(prompts, 1):
        digest.update(orjson.dumps(prompt))
        if number % TURN == 0:
            await asyncio.sleep(0)
    return digest.digest()
