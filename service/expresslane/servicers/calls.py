"""What the inference RPCs share: checking a call's configuration and deadline, and a whole batch's prompts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from expresslane.batches.batch import BatchOptions
from expresslane.deadlines import batch_deadline_ns
from expresslane.errors import FieldViolation, Reason, RefusedError
from expresslane.identity import tenant_of
from expresslane.intake import Intake
from expresslane.results import MAX_RESULT_BYTES, RESULT_ROOM_BYTES
from expresslane.servicers.decode import MAX_ID_BYTES, PromptDecoder, duration_ns
from expresslane.servicers.status import MAX_VIOLATIONS
from expresslane.v1 import inference_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc.aio
    from google.protobuf.duration_pb2 import Duration

    from expresslane.prompts import Prompt
    from expresslane.settings import Settings
    from expresslane.tenants import Tenant
    from expresslane.v1 import types_pb2

__all__ = ["batch_options", "check_heartbeat", "decode_batch"]

TURN = 256
MAX_WINDOW = 100_000
HEARTBEATS = "1 s to 10 min"


def batch_options(
    config: inference_pb2.BatchConfig,
    settings: Settings,
    context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    now_ns: int,
    *,
    path: str = "config.",
) -> BatchOptions:
    """Check a call's configuration; `path` leads to it in violations. Raises RefusedError with every field at fault."""
    violations = list(_config_violations(config, path, settings.kept_max_s))
    if violations:
        raise _refusal(violations)
    heartbeat_s = duration_ns(config.heartbeat_interval) / 1e9 or settings.heartbeat_s
    in_order = config.delivery == inference_pb2.DELIVERY_IN_ORDER
    kept = config.on_disconnect == inference_pb2.ON_DISCONNECT_KEEP
    return BatchOptions(
        request_id=Intake.request_id(config.request_id),
        tenant=tenant_of(context),
        keep_s=(duration_ns(config.keep_for) / 1e9 or min(settings.kept_default_s, settings.kept_max_s)) * kept,
        fail_fast=config.failure_policy == inference_pb2.FAILURE_POLICY_FAIL_FAST,
        max_failure_rate=config.max_failure_rate,
        stream_deltas=config.stream_deltas,
        reorder_window=(config.reorder_window or settings.reorder_window) if in_order else 0,
        outbox_limit=settings.outbox_limit_results,
        outbox_limit_bytes=settings.outbox_limit_bytes,
        result_limit_bytes=max(MAX_RESULT_BYTES, settings.max_answer_bytes + 2 * RESULT_ROOM_BYTES),
        queue_limit_bytes=settings.queue_limit_bytes,
        heartbeat_s=heartbeat_s,
        deadline_ns=batch_deadline_ns(now_ns, context.time_remaining()),
        arrived_ns=now_ns,
    )


def _config_violations(config: inference_pb2.BatchConfig, path: str, kept_max_s: float) -> Sequence[FieldViolation]:
    violations = []

    def check(field: str, ok: bool, description: str, reason: Reason = Reason.INVALID_FIELD) -> None:
        if not ok:
            violations.append(FieldViolation(f"{path}{field}", description, reason))

    check("request_id", len(config.request_id.encode()) <= MAX_ID_BYTES, f"at most {MAX_ID_BYTES} bytes")
    check("delivery", config.delivery in inference_pb2.Delivery.values(), "no such Delivery")
    check("failure_policy", config.failure_policy in inference_pb2.FailurePolicy.values(), "no such FailurePolicy")
    check("max_failure_rate", 0 <= config.max_failure_rate <= 1, "0 to 1; 0 for no limit")
    kept = config.on_disconnect == inference_pb2.ON_DISCONNECT_KEEP
    check("on_disconnect", not kept or bool(config.request_id), "KEEP needs a request_id to come back with")
    check("on_disconnect", config.on_disconnect in inference_pb2.OnDisconnect.values(), "no such OnDisconnect")
    check("heartbeat_interval", check_heartbeat(config.heartbeat_interval), HEARTBEATS)
    keep_ns = duration_ns(config.keep_for)
    in_range = 0 < keep_ns <= kept_max_s * 1e9
    check("keep_for", in_range or not config.HasField("keep_for"), f"above 0 and at most {kept_max_s:g} s")
    check("reorder_window", 0 <= config.reorder_window <= MAX_WINDOW, f"1 to {MAX_WINDOW:,}; 0 for the default")
    return violations


def check_heartbeat(interval: Duration) -> bool:
    """Whether a call may ask for this: nothing, or 1 s to 10 min."""
    heartbeat_ns = duration_ns(interval)
    return not heartbeat_ns or 10**9 <= heartbeat_ns <= 600 * 10**9


async def decode_batch(
    messages: Sequence[types_pb2.Prompt],
    settings: Settings,
    tenant: Tenant,
    *,
    path: str = "prompts[{}]",
    id_required: bool = True,
) -> list[tuple[Prompt, int]]:
    """Decode and check every prompt of a batch, giving way to other work in between; `path` names each in violations.

    Returns (prompt, size in bytes). Raises RefusedError naming up to 20 fields at fault.
    """
    if not messages:
        raise RefusedError(Reason.EMPTY_BATCH, "the batch has no prompts; send at least one")
    if len(messages) > settings.queue_limit_prompts:
        raise RefusedError(
            Reason.BATCH_TOO_LARGE,
            f"{len(messages):,} prompts are more than this service ever queues ({settings.queue_limit_prompts:,}); "
            "send them through StreamPrompts",
        )
    decoder = PromptDecoder(
        settings.max_prompt_bytes,
        tenant.max_class,
        any_urls=settings.content_urls == "any",
        batch_class_from_chars=settings.batch_class_from_chars,
    )
    prompts: list[tuple[Prompt, int]] = []
    violations: list[FieldViolation] = []
    seen: dict[str, int] = {}
    for index, message in enumerate(messages):
        decoded = decoder.decode(message, path.format(index), id_required=id_required)
        violations += decoded.violations
        if decoded.prompt is not None:
            prompts.append((decoded.prompt, decoded.size_bytes))
            earlier = seen.setdefault(decoded.prompt.custom_id, index)
            if earlier != index:
                description = f"{decoded.prompt.custom_id[:60]!r} is also prompts[{earlier}]'s"
                where = f"{path.format(index)}.custom_id"
                violations.append(FieldViolation(where, description, Reason.DUPLICATE_CUSTOM_ID))
        if len(violations) > MAX_VIOLATIONS:
            break
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
    if violations:
        raise _refusal(violations)
    return prompts


def _refusal(violations: Sequence[FieldViolation]) -> RefusedError:
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return RefusedError(first.reason, f"{first.field}: {first.description}{more}", violations=violations)
