"""The service's configuration as frozen values, each with its default, unit and meaning; config.py reads them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from expresslane.auth.keys import parse_records
from expresslane.masking import masked
from expresslane.policies import CLASS_NAMES, POLICY_NAMES, ClassName, PolicyName, Scope

__all__ = [
    "MAX_CAP",
    "MAX_REQUESTS_PER_MIN",
    "MAX_TOKENS_PER_MIN",
    "MAX_WEIGHT",
    "BackendKind",
    "BackendSettings",
    "Settings",
    "SimulatedSettings",
    "TenantDefaults",
    "TenantSettings",
    "TlsSettings",
]

BackendKind = Literal["openai", "vllm", "sglang", "ollama", "llamacpp", "simulated"]
MAX_CAP = 100_000
MAX_REQUESTS_PER_MIN = 1_000_000_000
MAX_TOKENS_PER_MIN = 1_000_000_000_000
MAX_WEIGHT = 1_000

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h|)\s*")
_UNIT_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3_600.0}
_HEADER_UNSAFE = re.compile(r"[^\x21-\x7e]")


def _duration(value: Any) -> Any:
    """Seconds from text with or without a unit; anything but text passes."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError("not a duration")
    return float(match[1]) * _UNIT_S[match[2]]


def _pairs(value: Any) -> Any:
    """`a=b,c=d` as pairs, with `a` alone for `a=a`; anything but text passes."""
    if not isinstance(value, str):
        return value
    pairs = []
    for item in value.split(","):
        left, equals, right = (part.strip() for part in item.partition("="))
        if not left or (equals and not right):
            raise ValueError(f"{item.strip()!r} is not an entry")
        pairs.append((left, right or left))
    names = [left for left, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return tuple(pairs)


def _map(value: Any) -> Any:
    """`a=b,c=d` as a dict; anything but text passes."""
    if not isinstance(value, str):
        return value
    for item in value.split(","):
        if "=" not in item:
            raise ValueError(f"{item.strip()!r} has no =")
    return dict(_pairs(value))


def _names(value: Any) -> Any:
    """`a,b,c` as a tuple of names; anything but text passes."""
    if not isinstance(value, str):
        return value
    names = tuple(item.strip() for item in value.split(","))
    if not all(names):
        raise ValueError("an entry is empty")
    return names


def _scopes(value: dict[str, PolicyName]) -> dict[str, PolicyName]:
    """Policies by scope, each scope written in its one way."""
    return {str(Scope.parse(scope)): policy for scope, policy in value.items()}


def _shares(value: dict[ClassName, float]) -> dict[ClassName, float]:
    """Shares that leave something to share."""
    if sum(value.values()) >= 1:
        raise ValueError("the shares make up 1 or more, which leaves nothing to go by class")
    return value


def _http_url(value: str) -> str:
    """An address that requests can be sent to, or empty."""
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it does not start with http:// or https://")
    if not parts.hostname or re.search(r"\s", value):
        raise ValueError("it names no host")
    if parts.port == 0:
        raise ValueError("port 0 is not an address")
    return value


def _host_port(value: str) -> str:
    """An address to listen on."""
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("it does not end in :port with a port from 0 to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or re.search(r"\s|/", host) or (":" in host and not bracketed):
        raise ValueError("it does not start with a host; an IPv6 address stands in brackets")
    return value


def _host_port_or_none(value: str) -> str:
    """An address to listen on, or empty."""
    return _host_port(value) if value else value


def _key_records(value: SecretStr) -> SecretStr:
    """Hashed keys as `expresslane keys new` prints them."""
    parse_records(value.get_secret_value())
    return value


def _header_safe(value: SecretStr) -> SecretStr:
    """A key that can be sent in an HTTP header."""
    if _HEADER_UNSAFE.search(value.get_secret_value()):
        raise ValueError("it holds white space or characters that an HTTP header cannot carry")
    return value


def _says(allowed: str, example: str) -> dict[str, Any]:
    """What errors and the reference say of a setting whose type does not tell it all."""
    return {"allowed": allowed, "example": example}


Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Cap = Annotated[int, Field(ge=1, le=MAX_CAP)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LoadedModels = Annotated[int, Field(ge=0, le=4_096)]
EngineTokens = Annotated[int, Field(ge=0, le=1_000_000_000)]
RequestsPerMin = Annotated[int, Field(ge=0, le=MAX_REQUESTS_PER_MIN)]
TokensPerMin = Annotated[int, Field(ge=0, le=MAX_TOKENS_PER_MIN)]
QueuePrompts = Annotated[int, Field(ge=0, le=10_000_000)]
QueueBytes = Annotated[int, Field(ge=0, le=2**63 - 1)]
TenantCount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Weight = Annotated[int, Field(ge=1, le=MAX_WEIGHT)]
Seconds = Annotated[
    float,
    BeforeValidator(_duration),
    Field(
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        json_schema_extra=_says("more than 0 and at most 24 hours, in seconds or with a unit (ms, s, m, h)", "90s"),
    ),
]
SecondsOrOff = Annotated[
    float,
    BeforeValidator(_duration),
    Field(
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        json_schema_extra=_says("0 to 24 hours, in seconds or with a unit (ms, s, m, h)", "10s"),
    ),
]
Url = Annotated[
    str,
    AfterValidator(_http_url),
    Field(json_schema_extra=_says("an http:// or https:// address with a host", "http://127.0.0.1:8000")),
]
Key = Annotated[
    SecretStr,
    AfterValidator(_header_safe),
    Field(json_schema_extra=_says("printable ASCII without white space", "sk-...")),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Any:
        """Fields for `repr`, credentials inside URLs hidden: a repr ends up in tracebacks and logs."""
        for name, value in super().__repr_args__():
            yield name, masked(value) if isinstance(value, str) else value


class SimulatedSettings(_Frozen):
    """Costs and faults of a simulated engine. Its output is made up and stamped SIMULATED."""

    prefill_tokens_per_s: Rate = 8_000.0
    """Prefill rate, shared by all prompts in prefill."""
    chunk_tokens: Count = 512
    """Tokens of one prefill chunk: the engine's prefill lane turns to decoding between chunks."""
    step_s: Annotated[
        float,
        BeforeValidator(_duration),
        Field(
            ge=0,
            le=60,
            allow_inf_nan=False,
            json_schema_extra=_says("0 to 60 seconds, in seconds or with a unit (ms, s)", "10ms"),
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


class BackendSettings(_Frozen):
    """One backend. None means: the kind's own default."""

    kind: BackendKind
    """Adapter or preset: openai (any compatible API), vllm, sglang, ollama, llamacpp, simulated."""
    url: Url = ""
    """Base URL, such as http://127.0.0.1:8000 (a trailing /v1 is understood). Required but for simulated."""
    api_key: Key | None = None
    """Sent as `Authorization: Bearer`."""
    models: Annotated[
        tuple[tuple[str, str], ...],
        BeforeValidator(_pairs),
        Field(
            json_schema_extra=_says(
                "`name` or `name=own-name` entries, comma-separated, each once", "small,big=big-70b"
            )
        ),
    ] = ()
    """Models served, as (name callers use, backend's own name). Environment: `name` or `name=own-name`,
    comma-separated. Empty: the backend's own list, refreshed."""
    cap: Cap | None = None
    """Most requests in flight."""
    model_caps: Annotated[
        dict[str, Cap],
        BeforeValidator(_map),
        Field(
            json_schema_extra=_says(
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
    """Long prompts that may prefill at once. Default: as many as fill three quarters of the engine's step: 1, or with
    engine_chunk_tokens three quarters of the chunks in a step (8,192 and 512: 12)."""
    short_budget_tokens: Count | None = None
    """Tokens of short prompts that may be in prefill at once. Default: learned, what the engine prefills in two round
    trips and steps and one chunk, at least 32,768. Not below one chunk of the engine: engine_chunk_tokens, else
    engine_step_tokens, else 2,048 (simulated: its chunk_tokens)."""
    engine_step_tokens: EngineTokens = 0
    """Most tokens in one step of the engine (vLLM: max_num_batched_tokens). 0: unknown."""
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
    requests_per_min: RequestsPerMin = 0
    """Most requests sent within any 60 seconds, retries counted. 0: no limit."""
    tokens_per_min: TokensPerMin = 0
    """Most tokens, input and expected output, sent within any 60 seconds; what a request really used takes the place of
    its estimate when it ends, cached input too. 0: no limit."""
    breaker_error_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    """The backend is left alone for a while once at least this part of the attempts within breaker_window_s failed by
    its fault: unreachable, broken off, timed out, 5xx; never a caller's mistake or a rate limit. 0: no breaker."""
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


class TlsSettings(_Frozen):
    """Files in PEM form, read again when they change; a set that cannot be used leaves the last one in force."""

    cert_file: str = ""
    """The server's certificate with its chain. With key_file it turns TLS on, for every listener."""
    key_file: str = ""
    """The certificate's private key, without a passphrase."""
    client_ca_file: str = ""
    """Authorities for callers' certificates. When set, every caller must show one that they have signed."""


class TenantDefaults(_Frozen):
    """What holds for tenants where they have no setting of their own."""

    weight: Weight = 1
    """Share of each class relative to other tenants' weights."""
    max_class: ClassName = "interactive"
    """Highest class that prompts may ask for."""
    requests_per_min: RequestsPerMin = 0
    """Most requests sent for one tenant within any 60 seconds, over all backends, retries counted. 0: no limit."""
    tokens_per_min: TokensPerMin = 0
    """Most tokens, input and expected output, sent for one tenant within any 60 seconds. 0: no limit."""
    queue_limit_prompts: QueuePrompts = 0
    """Most prompts of one tenant that may wait or run at once. 0: only the bounds of all."""
    queue_limit_bytes: QueueBytes = 0
    """Most bytes of prompts of one tenant that may wait or run at once. 0: only the bounds of all."""
    max_open_calls: TenantCount = 0
    """Most calls of one tenant that may be open at once, sessions included. 0: only the bound of all."""
    unread_limit_results: TenantCount = 0
    """Most results of one tenant that may wait for slow readers. 0: only the bounds of all."""
    unread_limit_bytes: QueueBytes = 0
    """Most bytes of answers of one tenant that may wait for slow readers. 0: only the bounds of all."""
    job_limit: TenantCount = 0
    """Most jobs of one tenant that are kept. 0: only the bound of all."""
    job_results_limit_bytes: QueueBytes = 0
    """Memory for the results of one tenant's jobs, about. 0: only the bound of all."""
    kept_limit: TenantCount = 0
    """Most batches of one tenant that are kept for callers that may come back. 0: only the bound of all."""
    kept_results_limit_bytes: QueueBytes = 0
    """Memory for the results of one tenant's kept batches, about. 0: only the bound of all."""


class TenantSettings(_Frozen):
    """One tenant: who it is, and what it may do. None means: as in the defaults for tenants, or no bound of its own."""

    keys: (
        Annotated[
            SecretStr,
            AfterValidator(_key_records),
            Field(
                json_schema_extra=_says("entries that `expresslane keys new` prints, comma-separated", "sha256:ID:HEX")
            ),
        ]
        | None
    ) = None
    """Hashes of the tenant's API keys: `sha256:ID:HEX` or `sha256:ID:HEX:EXPIRY`, comma-separated."""
    certificates: Annotated[
        tuple[str, ...],
        BeforeValidator(_names),
        Field(json_schema_extra=_says("names, comma-separated", "spiffe://example.org/acme")),
    ] = ()
    """Names (subject alternative name, or common name) in client certificates that stand for this tenant."""
    admin: bool = False
    """Whether the tenant may use the Admin service."""
    models: Annotated[
        tuple[str, ...],
        BeforeValidator(_names),
        Field(json_schema_extra=_says("model names, comma-separated, a * at the end for any rest", "small,qwen-*")),
    ] = ()
    """Models the tenant may use, by name or alias; a `*` at the end stands for any rest. Empty: all."""
    max_open_calls: TenantCount | None = None
    """Most calls of the tenant that may be open at once, sessions included. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_CALLS."""
    weight: Weight | None = None
    """Share of each class relative to other tenants' weights. Default: EXPRESSLANE_TENANT_DEFAULTS__WEIGHT."""
    max_class: ClassName | None = None
    """Highest class that prompts may ask for. Default: EXPRESSLANE_TENANT_DEFAULTS__MAX_CLASS."""
    requests_per_min: RequestsPerMin | None = None
    """Most requests sent for the tenant within any 60 seconds, over all backends. 0: no limit.
    Default: EXPRESSLANE_TENANT_DEFAULTS__REQUESTS_PER_MIN."""
    tokens_per_min: TokensPerMin | None = None
    """Most tokens, input and expected output, sent for the tenant within any 60 seconds. 0: no limit.
    Default: EXPRESSLANE_TENANT_DEFAULTS__TOKENS_PER_MIN."""
    queue_limit_prompts: QueuePrompts | None = None
    """Most prompts of the tenant that may wait or run at once. 0: only the bounds of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__QUEUE_LIMIT_PROMPTS."""
    queue_limit_bytes: QueueBytes | None = None
    """Most bytes of prompts of the tenant that may wait or run at once. 0: only the bounds of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__QUEUE_LIMIT_BYTES."""
    unread_limit_results: TenantCount | None = None
    """Most results of the tenant that may wait for slow readers. 0: only the bounds of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__UNREAD_LIMIT_RESULTS."""
    unread_limit_bytes: QueueBytes | None = None
    """Most bytes of answers of the tenant that may wait for slow readers. 0: only the bounds of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__UNREAD_LIMIT_BYTES."""
    job_limit: TenantCount | None = None
    """Most jobs of the tenant that are kept. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__JOB_LIMIT."""
    job_results_limit_bytes: QueueBytes | None = None
    """Memory for the results of the tenant's jobs, about. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__JOB_RESULTS_LIMIT_BYTES."""
    kept_limit: TenantCount | None = None
    """Most batches of the tenant that are kept for callers that may come back. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__KEPT_LIMIT."""
    kept_results_limit_bytes: QueueBytes | None = None
    """Memory for the results of the tenant's kept batches, about. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__KEPT_RESULTS_LIMIT_BYTES."""


class Settings(_Frozen):
    """The whole service."""

    listen: Annotated[
        str, AfterValidator(_host_port), Field(json_schema_extra=_says("host:port", "127.0.0.1:50051"))
    ] = "127.0.0.1:50051"
    """Address of the gRPC server, host:port; port 0 picks a free one."""
    admin_listen: Annotated[
        str, AfterValidator(_host_port_or_none), Field(json_schema_extra=_says("host:port", "127.0.0.1:50052"))
    ] = ""
    """Address of a server of its own for the Admin service, which the other one then does not have. Empty: none."""
    tls: TlsSettings = TlsSettings()
    """Certificates of the gRPC servers."""
    keys_file: str = ""
    """A file of hashed API keys, `TENANT ENTRY` a line as `expresslane keys new` prints it; read again when it changes.
    When set, or when a tenant has keys or certificates, every call must show who it is from."""
    backends: dict[str, BackendSettings] = Field(default_factory=dict)
    """Backends by id (a-z, 0-9, -). Empty: one simulated backend."""
    default_model: str = ""
    """Model of prompts that name none. Empty: the only model there is, if there is only one."""
    aliases: Annotated[
        dict[str, str],
        BeforeValidator(_map),
        Field(
            json_schema_extra=_says("`alias=model` entries, comma-separated, each alias once", "fast=small,best=big")
        ),
    ] = Field(default_factory=dict)
    """More names for models. Environment: `alias=model`, comma-separated."""
    wildcard_backend: str = ""
    """Id of the backend that gets prompts for models nobody lists. Empty: such prompts fail with NOT_FOUND."""
    policy: PolicyName = "hrrn"
    """Ordering of waiting prompts where `policies` says nothing else."""
    policies: Annotated[
        dict[str, PolicyName],
        BeforeValidator(_map),
        AfterValidator(_scopes),
        Field(
            json_schema_extra=_says(
                "`CLASS=policy`, `model/NAME=policy` or `CLASS/model/NAME=policy` entries, comma-separated; policies: "
                + ", ".join(POLICY_NAMES),
                "batch=ljf,model/small=fcfs",
            )
        ),
    ] = Field(default_factory=dict)
    """Ordering within one class, one model, or one model of a class; the narrowest counts."""
    cost_includes_output: bool = False
    """Whether policies that go by size (sjf, sjf-aged, ljf) count the expected output with the prompt."""
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    """Tenants by name (a-z, 0-9, -); `default` is whose calls those are that name none. Others may come too."""
    tenant_defaults: TenantDefaults = TenantDefaults()
    """What holds for tenants without a setting of their own."""
    fairness: Literal["tenant_batch", "tenant", "none"] = "tenant_batch"
    """Among whom a class is shared before the policy orders. tenant_batch: tenants by weight, and within a tenant its
    batches of more than 16 unfinished prompts and the smaller ones together; tenant: tenants by weight only; none: no
    sharing."""
    class_min_shares: Annotated[
        dict[ClassName, Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]],
        BeforeValidator(_map),
        AfterValidator(_shares),
        Field(
            json_schema_extra=_says(
                f"`CLASS=share` entries with classes of {', '.join(CLASS_NAMES)} and shares from 0, below 1 in all",
                "batch=0.1",
            )
        ),
    ] = Field(default_factory=dict)
    """Least share of the released tokens for a class while it has prompts that could go. Not set: strictly after the
    classes above it."""
    batch_class_from_chars: Annotated[int, Field(ge=0, le=2_147_483_647, json_schema_extra={"example": "100"})] = 0
    """A prompt that asks for no class gets `batch` if its content has this many characters or more. 0: length gives no
    class."""
    queue_limit_prompts: Annotated[int, Field(ge=1, le=10_000_000)] = 200_000
    """Most prompts that may wait at once; also the largest batch."""
    queue_limit_bytes: Annotated[int, Field(ge=1_024, le=2**63 - 1)] = 1024 * 1024 * 1024
    """Most bytes of prompts that may wait or run at once."""
    queue_limit_s: SecondsOrOff = 0.0
    """Longest that a prompt may be expected to wait, by what is ahead of it and the rate at which its model's prompts
    are released; what would wait longer is refused, but for sessions. Counts once that rate is known. 0: no limit."""
    in_flight_limit: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Most prompts in flight over all backends. 0: no global cap."""
    queue_timeout_s: Seconds = 300.0
    """Longest wait in the queue; for a batch's prompts the clock restarts whenever one of them ends, not when a rate
    limit turns one away.
    EXPRESSLANE_REQUEST_TIMEOUT is accepted as another name. Seconds, or with a unit: 90s, 10m, 1h."""
    no_backend_timeout_s: Seconds = 10.0
    """How long prompts wait while every backend of their model is down."""
    model_refresh_s: Seconds = 60.0
    """How often backends are asked for their models."""
    probe_interval_s: Seconds = 1.0
    """How often a backend that could not be reached is tried again."""
    retry_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Most attempts for one prompt."""
    retry_base_s: Seconds = 0.5
    """Upper bound of the first random back-off; doubles with each retry (full jitter)."""
    retry_cap_s: Seconds = 30.0
    """Upper bound of any random back-off."""
    retry_jitter: Literal["full", "equal", "decorrelated", "none"] = "full"
    """How the back-off is spread: full: uniform up to the bound; equal: half fixed, half uniform; decorrelated: uniform
    up to three times the last one; none: the bound itself."""
    retry_ratio: Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)] = 0.0
    """Most retries of a tenant per first attempt of its prompts, beside a burst of ten. 0: no such limit."""
    max_prompt_bytes: Annotated[int, Field(ge=1, le=2_147_483_647)] = 4 * 1024 * 1024
    """Largest prompt, with everything of it that goes to the backend."""
    max_message_bytes: Annotated[int, Field(ge=4_096, le=2_147_483_647)] = 64 * 1024 * 1024
    """Largest gRPC message taken in."""
    max_answer_bytes: Annotated[int, Field(ge=1_024, le=2_000_000_000)] = 3 * 1024 * 1024
    """Largest answer taken from a backend for one prompt. Above 3.8 MiB, callers must raise the message limit of their
    gRPC client, 4 MiB by default."""
    collect_limit_bytes: Annotated[int, Field(ge=1_024, le=2_147_483_647)] = 4 * 1024 * 1024
    """Largest answer of CollectBatch, declared and real: a gRPC client's default message limit."""
    heartbeat_s: Seconds = 15.0
    """Longest silence on a batch's stream."""
    reorder_window: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Results that in-order delivery may finish ahead."""
    outbox_limit_results: Annotated[int, Field(ge=1, le=10_000_000)] = 1_024
    """Results that wait for a slow reader before its batch is held."""
    outbox_limit_bytes: Annotated[int, Field(ge=1_024, le=2**63 - 1)] = 64 * 1024 * 1024
    """Bytes of answers that wait for a slow reader before its batch is held."""
    unread_limit_results: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    """Results of all calls together that wait for slow readers. At the bound, batches with results that wait are held,
    and tenants with more than their share of them are refused further calls."""
    unread_limit_bytes: Annotated[int, Field(ge=1_024, le=2**63 - 1)] = 1024 * 1024 * 1024
    """Bytes of answers of all calls together that wait for slow readers, about: what is under way comes on top."""
    stream_credits: Annotated[int, Field(ge=1, le=1_000_000)] = 1_024
    """Prompts that one StreamPrompts session may have unfinished."""
    max_open_batches: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Calls and running jobs that may be open at once."""
    max_open_calls: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Calls that may be open at once, those that have sent nothing yet included; Admin and health are not counted."""
    first_message_timeout_s: Seconds = 30.0
    """How long a call may take to send its first message, the whole of it, and its place is kept for it."""
    content_urls: Literal["data", "any"] = "data"
    """What chats may name under a `url`: data (the content itself, as a data: URL) or any, which the backend fetches
    from where it stands."""
    job_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Most jobs kept, running and ended. Beyond it CreateJob is refused."""
    job_results_limit_bytes: Annotated[int, Field(ge=4_096, le=1_099_511_627_776)] = 256 * 1024 * 1024
    """Memory for the results of all jobs, about. While it is full CreateJob is refused and nothing of a running job is
    released; answers that are under way still come on top."""
    job_retention_s: Seconds = 3_600.0
    """How long a job and its results are kept after its end, in memory: they are lost when the service stops."""
    kept_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Most batches kept for callers that may come back (on_disconnect KEEP), running and ended. Beyond it one that was
    read to its end is forgotten, else another is refused."""
    kept_results_limit_bytes: Annotated[int, Field(ge=4_096, le=1_099_511_627_776)] = 256 * 1024 * 1024
    """Memory for the results of all kept batches, about. While it is full another is refused and nothing of a running
    one is released; answers that are under way still come on top."""
    kept_default_s: Seconds = 300.0
    """How long a kept batch stays while no call is attached to it, when its caller does not say."""
    kept_max_s: Seconds = 3_600.0
    """The longest that a caller may ask for."""
    drain_grace_s: Seconds = 30.0
    """How long a stopping service lets accepted work finish."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """auto: text on a terminal, JSON otherwise."""
    reflection: bool = True
    """Whether gRPC server reflection is on."""
    trace_content: bool = False
    """Whether prompts and answers stand in the spans of prompts (gen_ai.input.messages, gen_ai.output.messages), cut to
    4,096 characters each. Whoever may read the traces then reads them too."""
    log_exception_text: bool = False
    """Whether tracebacks in the log show what exceptions say, which may quote prompts, and not only their types."""

    @property
    def authenticated(self) -> bool:
        """Whether every call must show who it is from."""
        return bool(self.keys_file) or any(tenant.keys or tenant.certificates for tenant in self.tenants.values())
