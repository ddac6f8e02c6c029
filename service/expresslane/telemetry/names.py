"""Every name that telemetry uses, in one table: spans, attributes and metrics.

`gen_ai.*`, `rpc.*`, `server.*`, `error.*` and `http.*` follow the OpenTelemetry semantic conventions; what they have no
word for is `expresslane.*`. The older `rpc.system`, `rpc.service` and `rpc.grpc.status_code` are written beside their
successors, because most trace viewers still read them.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "expresslane"

SPAN_BATCH: Final = "expresslane.batch"
SPAN_PROMPT: Final = "expresslane.prompt"
SPAN_QUEUE: Final = "expresslane.queue"
SPAN_INGEST: Final = "expresslane.ingest"
SPAN_DELIVER: Final = "expresslane.deliver"
EVENT_FIRST_TOKEN: Final = "first_token"  # noqa: S105 - no password

REQUEST_ID: Final = "expresslane.request_id"
METHOD: Final = "expresslane.method"
BATCH_PROMPTS: Final = "expresslane.batch.prompts"
BATCH_STATE: Final = "expresslane.batch.state"
BATCH_COUNT_PREFIX: Final = "expresslane.batch.count."
CUSTOM_ID: Final = "expresslane.custom_id"
INDEX: Final = "expresslane.index"
TENANT: Final = "expresslane.tenant"
CLASS: Final = "expresslane.class"
MODEL: Final = "expresslane.model"
BACKEND: Final = "expresslane.backend"
BACKEND_KIND: Final = "expresslane.backend.kind"
ATTEMPT: Final = "expresslane.attempt"
ATTEMPTS: Final = "expresslane.attempts"
OUTCOME: Final = "expresslane.outcome"
REASON: Final = "expresslane.reason"
STATE: Final = "expresslane.state"
CANCELLED: Final = "expresslane.cancelled"
SIMULATED: Final = "expresslane.simulated"
DEADLINE: Final = "expresslane.deadline"
QUEUE_WAIT_S: Final = "expresslane.queue_wait_s"
TTFT_S: Final = "expresslane.ttft_s"
USAGE_ESTIMATED: Final = "expresslane.usage_estimated"
PROVIDER_CODE: Final = "expresslane.provider.code"
PROVIDER_REQUEST_ID: Final = "expresslane.provider.request_id"

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_SEED: Final = "gen_ai.request.seed"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS_CODE: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"

RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_SYSTEM: Final = "rpc.system"
RPC_SERVICE: Final = "rpc.service"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
RPC_GRPC_STATUS_CODE: Final = "rpc.grpc.status_code"
METRIC_RPC_DURATION: Final = "rpc.server.call.duration"

QUEUE_PROMPTS: Final = "expresslane.queue.prompts"
QUEUE_MODEL_PROMPTS: Final = "expresslane.queue.model_prompts"
QUEUE_TOKENS: Final = "expresslane.queue.tokens"
QUEUE_LIMIT: Final = "expresslane.queue.limit"
QUEUE_HELD: Final = "expresslane.queue.held"
QUEUE_RETRY_WAITING: Final = "expresslane.queue.retry_waiting"
BACKEND_AVAILABLE: Final = "expresslane.backend.available"
BACKEND_CAP: Final = "expresslane.backend.cap"
BACKEND_IN_FLIGHT: Final = "expresslane.backend.in_flight"
BACKEND_LONG_IN_PREFILL: Final = "expresslane.backend.long_in_prefill"
BACKEND_SHORT_TOKENS: Final = "expresslane.backend.short_tokens_in_prefill"
BACKEND_PREFILL_TOKENS: Final = "expresslane.backend.outstanding_prefill_tokens"
ATTEMPTS_STARTED: Final = "expresslane.attempts.started"
ATTEMPTS_ENDED: Final = "expresslane.attempts.ended"
PROMPTS_SUBMITTED: Final = "expresslane.prompts.submitted"
PROMPTS_ENDED: Final = "expresslane.prompts.ended"
PROMPTS_RETRIED: Final = "expresslane.prompts.retried"
PROMPTS_RETRIES_DENIED: Final = "expresslane.prompts.retries_denied"
PROMPTS_REFUSED: Final = "expresslane.prompts.refused"
BACKEND_PREFILL_RATE: Final = "expresslane.backend.prefill_rate"
BACKEND_SHORT_BUDGET: Final = "expresslane.backend.short_budget"
BACKEND_LONG_SLOTS: Final = "expresslane.backend.long_slots"
BACKEND_LOADED_MODELS: Final = "expresslane.backend.loaded_models"
BACKEND_MODEL_LOADS: Final = "expresslane.backend.model_loads"
BACKEND_MODEL_CAP: Final = "expresslane.backend.model_cap"
BACKEND_TURNED_AWAY: Final = "expresslane.backend.turned_away"
BACKEND_BREAKER: Final = "expresslane.backend.breaker"
BACKEND_BREAKER_OPENINGS: Final = "expresslane.backend.breaker_openings"
BACKEND_LIMITED: Final = "expresslane.backend.rate_limited"
BACKEND_LIMITED_TIME: Final = "expresslane.backend.rate_limited_time"
HELD_OPEN_CALLS: Final = "expresslane.held.open_calls"
HELD_OPEN_SESSIONS: Final = "expresslane.held.open_sessions"
HELD_UNREAD_RESULTS: Final = "expresslane.held.unread_results"
HELD_UNREAD_BYTES: Final = "expresslane.held.unread_bytes"
HELD_JOBS: Final = "expresslane.held.jobs"
HELD_JOB_RESULT_BYTES: Final = "expresslane.held.job_result_bytes"
HELD_KEPT_BATCHES: Final = "expresslane.held.kept_batches"
HELD_KEPT_RESULT_BYTES: Final = "expresslane.held.kept_result_bytes"
TOKEN_RATIO: Final = "token_ratio"  # noqa: S105 - no password
PREFILL_RATIO: Final = "prefill"
HISTOGRAMS: Final = {
    "queue_wait": ("expresslane.prompt.queue_wait", "s", "Time from submit to the first release"),
    "ttft": ("expresslane.prompt.ttft", "s", "Time from submit to the first token"),
    "total": ("expresslane.prompt.duration", "s", "Time from submit to the end"),
    PREFILL_RATIO: ("expresslane.prefill.estimate_ratio", "1", "Predicted over measured prefill time, alone"),
    TOKEN_RATIO: ("expresslane.prompt.token_estimate_ratio", "1", "Estimated over reported input tokens"),
}
"""Histograms that are kept elsewhere and added to each export: metric name, unit and description."""
