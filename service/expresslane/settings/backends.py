"""What is configured for one backend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from expresslane.settings.types import (
    MAX_CAP,
    Cap,
    Count,
    EngineTokens,
    Frozen,
    Key,
    LoadedModels,
    Rate,
    RequestsPerMin,
    Seconds,
    TokensPerMin,
    Url,
    duration,
    mapping,
    pairs,
    says,
)

__all__ = ["BackendKind", "BackendSettings", "SimulatedSettings"]

BackendKind = Literal["openai", "vllm", "sglang", "ollama", "llamacpp", "simulated"]


class SimulatedSettings(Frozen):
    """Costs and faults of a simulated engine. Its output is made up and stamped SIMULATED."""

    prefill_tokens_per_s: Rate = 8_000.0
    """Prefill rate, shared by all prompts in prefill."""
    chunk_tokens: Count = 512
    """Tokens of one prefill chunk: the engine's prefill lane turns to decoding between chunks."""
    step_s: Annotated[
        float,
        BeforeValidator(duration),
        Field(
            ge=0,
            le=60,
            allow_inf_nan=False,
            json_schema_extra=says("0 to 60 seconds, in seconds or with a unit (ms, s)", "10ms"),
        ),
    ] = 0.01
    """One decode step, in which every running prompt gains one token."""
    max_running: Count = 16
    """Prompts that decode together; more wait inside the engine."""
    output_tokens: Count = 24
    """Output length where the prompt sets no max_tokens."""
    error_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Share of requests that fail with a retryable error."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seed of the faults."""


class BackendSettings(Frozen):
    """One backend. None means: the kind's own default."""

    kind: BackendKind
    """Adapter or preset: openai (any compatible API), vllm, sglang, ollama, llamacpp, simulated."""
    url: Url = ""
    """Base URL, such as http://127.0.0.1:8000 (a trailing /v1 is understood). Required but for simulated."""
    api_key: Key | None = None
    """Sent as `Authorization: Bearer`."""
    models: Annotated[
        tuple[tuple[str, str], ...],
        BeforeValidator(pairs),
        Field(
            json_schema_extra=says("`name` or `name=own-name` entries, comma-separated, each once", "small,big=big-70b")
        ),
    ] = ()
    """Models served, as (name callers use, backend's own name). Environment: `name` or `name=own-name`,
    comma-separated. Empty: the backend's own list, refreshed."""
    cap: Cap | None = None
    """Most requests in flight."""
    model_caps: Annotated[
        dict[str, Cap],
        BeforeValidator(mapping),
        Field(
            json_schema_extra=says(
                f"`name=cap` entries with caps from 1 to {MAX_CAP}, comma-separated", "small=8,big=2"
            )
        ),
    ] = Field(default_factory=dict)
    """Caps of single models within this backend. Environment: `name=cap`, comma-separated."""
    max_loaded_models: LoadedModels = 0
    """Most models that run there at once, as many as it holds in memory (Ollama: OLLAMA_MAX_LOADED_MODELS). Models that
    wait for a place take turns, so that it is not reloaded for each prompt. 0: no limit; also for ollama, which does
    not tell how many it holds."""
    concurrency: bool | None = None
    """The concurrency switch; off means one request at a time."""
    streaming: bool = True
    """Whether to ask the backend for a stream, which gives a true first token; results are the same."""
    lanes: bool | None = None
    """Whether a long lane and a short-prompt budget protect this backend's prefill.
    Default: on for engines, off for hosted APIs."""
    long_threshold_tokens: Count = 16_384
    """A prompt of more tokens than this takes the long lane; rounded up to a bucket edge (2^(k/5))."""
    long_slots: Count | None = None
    """Long prompts that may prefill at once. Default: 1 and a further one for each 65,536 tokens of short prompts in
    prefill; with engine_chunk_tokens as many as fill three quarters of the engine's step (8,192 and 512: 12) and fit
    into it beside what is short or in decode. Needs the lanes."""
    short_budget_tokens: Count | None = None
    """Tokens of short prompts that may be in prefill at once. Default: learned, what the engine prefills in two round
    trips and steps and one chunk, at least 65,536 and 1,024 for each slot of the cap. Not below one chunk of the
    engine: engine_chunk_tokens, else engine_step_tokens, else 2,048 (simulated: its chunk_tokens). Needs the lanes."""
    engine_step_tokens: EngineTokens = 0
    """Most tokens in one step of the engine (vLLM: max_num_batched_tokens; SGLang: chunked_prefill_size). 0: unknown,
    taken as 2,048; for vllm and sglang a warning says so at start."""
    engine_chunk_tokens: EngineTokens = 0
    """Most tokens of one prompt in a step of the engine (vLLM: long_prefill_token_threshold); needs engine_step_tokens.
    0: no limit of its own, a long prompt fills the step."""
    prefill_tokens_per_s: Rate = 5_000.0
    """Expected prefill rate, for ordering and for choosing among backends, until the backend's own is learned."""
    bytes_per_token: Annotated[float, Field(gt=0, le=64, allow_inf_nan=False)] = 4.0
    """UTF-8 bytes per token, for estimates, until the model's own ratio is learned from reported usage."""
    first_token_timeout_s: Seconds | None = None
    """Longest wait for a first token, from release. Default: none of its own (the attempt's holds)."""
    idle_timeout_s: Seconds = 60.0
    """Longest silence between chunks of an answer."""
    attempt_timeout_s: Seconds | None = None
    """Longest attempt, from release. Default: 30 for openai, 600 for engines."""
    connect_timeout_s: Seconds = 5.0
    """Longest wait for a connection."""
    absence_timeout_s: Seconds = 120.0
    """How long prompts wait for it while it cannot be reached though it could be before, where that is longer than
    EXPRESSLANE_NO_BACKEND_TIMEOUT_S: an engine that starts again loads its model first."""
    requests_per_min: RequestsPerMin = 0
    """Most requests sent within any 60 seconds, retries counted. 0: no limit."""
    tokens_per_min: TokensPerMin = 0
    """Most tokens, input and expected output, sent within any 60 seconds; what a request really used takes the place of
    its estimate when it ends, cached input too. 0: no limit."""
    breaker_error_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    """The backend is left alone for a while once at least this part of the attempts within breaker_window_s failed by
    its fault: unreachable, broken off, timed out, 5xx; never a caller's mistake, a refused key or a rate limit. 0: no
    breaker."""
    breaker_min_samples: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Attempts within the window before the ratio counts."""
    breaker_window_s: Seconds = 30.0
    """How far back attempts count."""
    breaker_open_s: Seconds = 5.0
    """How long a failing backend is left alone before one prompt tries it; doubles each time that it fails again."""
    breaker_open_max_s: Seconds = 60.0
    """Longest time that it is left alone."""
    rate_limit_pause_s: Seconds = 1.0
    """How long a model is left alone there after a 429 that does not say for how long; doubles each time that the next
    prompt after it is turned away too. The time is random, from half of it to all."""
    rate_limit_pause_max_s: Seconds = 60.0
    """Longest such pause. What the backend itself asks for is kept in full."""
    rate_limit_ramp: bool | None = None
    """Whether a 429 halves how many prompts of the model run there at once; then one more for each round of as many
    successes, up to the cap. Default: on for hosted APIs; off for engines, which ask nobody to start slowly."""
    simulated: SimulatedSettings = SimulatedSettings()
    """Costs of a simulated backend."""
