"""How to run a batch: the keyword arguments of generate_batch and stream_prompts, and their way into the contract."""

from __future__ import annotations

import uuid
from typing import TypedDict, Unpack

from expresslane_client.units import duration
from expresslane_client.v1 import inference_pb2

__all__ = ["BatchOptions", "batch_config"]


class BatchOptions(TypedDict, total=False):
    """How to run a batch; every key may be left out.

    `request_id` names the batch in logs and traces. `in_order` delivers results in the order of the prompts, else each
    comes as soon as it is finished; `reorder_window` is how many may be finished ahead. `fail_fast` cancels the rest
    when one fails, `max_failure_rate` once more than that share (above 0, at most 1) has failed; of a session,
    that share of what was sent so far, from 20 results on. `stream_deltas` asks for output as it is generated (implied
    by on_delta). `heartbeat_s`: longest silence before a Progress event.
    `keep_s`: the batch goes on when the connection ends, and the service keeps it for so long while no call is
    attached; the same prompts under the same `request_id` (made up if there is none) attach to it. Not for sessions.
    """

    request_id: str
    in_order: bool
    reorder_window: int
    fail_fast: bool
    max_failure_rate: float
    stream_deltas: bool
    heartbeat_s: float
    keep_s: float


def batch_config(**options: Unpack[BatchOptions]) -> inference_pb2.BatchConfig:
    """The contract's message."""
    config = inference_pb2.BatchConfig(
        request_id=options.get("request_id", ""),
        reorder_window=options.get("reorder_window", 0),
        max_failure_rate=options.get("max_failure_rate", 0.0),
        stream_deltas=options.get("stream_deltas", False),
    )
    if options.get("in_order"):
        config.delivery = inference_pb2.DELIVERY_IN_ORDER
    if options.get("fail_fast"):
        config.failure_policy = inference_pb2.FAILURE_POLICY_FAIL_FAST
    if "keep_s" in options:
        config.on_disconnect = inference_pb2.ON_DISCONNECT_KEEP
        config.keep_for.CopyFrom(duration(options["keep_s"]))
        config.request_id = config.request_id or uuid.uuid4().hex
    if "heartbeat_s" in options:
        config.heartbeat_interval.CopyFrom(duration(options["heartbeat_s"]))
    return config
