"""The whole configuration as frozen values, each with its default, unit and meaning; config.py reads them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from expresslane.policies import CLASS_NAMES, POLICY_NAMES, ClassName, PolicyName, Scope
from expresslane.settings.backends import BackendSettings
from expresslane.settings.tenants import TenantDefaults, TenantSettings
from expresslane.settings.types import Frozen, Seconds, SecondsOrOff, mapping, says

__all__ = ["Settings", "TlsSettings"]


def _scopes(value: dict[str, PolicyName]) -> dict[str, PolicyName]:
    """Policies by scope, each scope written in its one way."""
    return {str(Scope.parse(scope)): policy for scope, policy in value.items()}


def _shares(value: dict[ClassName, float]) -> dict[ClassName, float]:
    """Shares that leave something to share."""
    if sum(value.values()) >= 1:
        raise ValueError("the shares make up 1 or more, which leaves nothing to go by class")
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


class TlsSettings(Frozen):
    """Files in PEM form, read again when they change; a set that cannot be used leaves the last one in force."""

    cert_file: str = ""
    """The server's certificate with its chain. With key_file it turns TLS on, for every listener."""
    key_file: str = ""
    """The certificate's private key, without a passphrase."""
    client_ca_file: str = ""
    """Authorities for callers' certificates. When set, every caller must show one that they have signed."""


class Settings(Frozen):
    """The whole service."""

    listen: Annotated[
        str, AfterValidator(_host_port), Field(json_schema_extra=says("host:port", "127.0.0.1:50051"))
    ] = "127.0.0.1:50051"
    """Address of the gRPC server, host:port; port 0 picks a free one."""
    admin_listen: Annotated[
        str, AfterValidator(_host_port_or_none), Field(json_schema_extra=says("host:port", "127.0.0.1:50052"))
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
        BeforeValidator(mapping),
        Field(json_schema_extra=says("`alias=model` entries, comma-separated, each alias once", "fast=small,best=big")),
    ] = Field(default_factory=dict)
    """More names for models. Environment: `alias=model`, comma-separated."""
    wildcard_backend: str = ""
    """Id of the backend that gets prompts for models nobody lists. Empty: such prompts fail with NOT_FOUND."""
    policy: PolicyName = "hrrn"
    """Ordering of waiting prompts where `policies` says nothing else."""
    policies: Annotated[
        dict[str, PolicyName],
        BeforeValidator(mapping),
        AfterValidator(_scopes),
        Field(
            json_schema_extra=says(
                "`CLASS=policy`, `model/NAME=policy` or `CLASS/model/NAME=policy` entries, comma-separated; policies: "
                + ", ".join(POLICY_NAMES),
                "batch=sjf,model/small=fcfs",
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
        BeforeValidator(mapping),
        AfterValidator(_shares),
        Field(
            json_schema_extra=says(
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
    limit turns one away. What a backend asks for (Retry-After) is waited for before.
    EXPRESSLANE_REQUEST_TIMEOUT is accepted as another name. Seconds, or with a unit: 90s, 10m, 1h."""
    no_backend_timeout_s: Seconds = 10.0
    """How long prompts wait while every backend of their model is down; for one that was there before
    EXPRESSLANE_BACKENDS__<ID>__ABSENCE_TIMEOUT_S, where that is longer."""
    model_refresh_s: Seconds = 60.0
    """How often backends are asked for their models."""
    probe_interval_s: Seconds = 1.0
    """How often a backend that could not be reached is tried again."""
    retry_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Most attempts for one prompt. What a backend refused for a reason of its own (the key, no such model), so that
    the prompt went to another backend, does not count."""
    retry_base_s: Seconds = 0.5
    """Upper bound of the first random back-off; doubles with each retry (full jitter). Not above retry_cap_s."""
    retry_cap_s: Seconds = 30.0
    """Upper bound of any random back-off."""
    retry_jitter: Literal["full", "equal", "decorrelated", "none"] = "full"
    """How the back-off is spread: full: uniform up to the bound; equal: half fixed, half uniform; decorrelated: uniform
    from retry_base_s up to three times the last one, the first up to three times retry_base_s; none: the bound
    itself."""
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
    """Prompts that one StreamPrompts session may have unfinished; no more than the queue's bounds allow."""
    max_open_batches: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Calls and running jobs that may be open at once."""
    max_open_calls: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Calls that may be open at once, those that have sent nothing yet included; Admin and health are not counted."""
    max_open_sessions: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000
    """StreamPrompts sessions that may be open at once, of all open calls; EXPRESSLANE_SESSIONS_LIMIT_BYTES says how
    many of them are read."""
    sessions_limit_bytes: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Memory for messages that arrive in sessions. Sessions are read all the time, so that cancels arrive: each counts
    as EXPRESSLANE_MAX_MESSAGE_BYTES from its beginning to its end. At the bound a session waits for its turn, at most
    EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S, and is refused after it; one that has been idle for half as long gives way. A
    smaller EXPRESSLANE_MAX_MESSAGE_BYTES makes room for more; EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_SESSIONS keeps one
    tenant from taking all. 0: half of the machine's or container's memory."""
    arriving_limit_bytes: Annotated[int, Field(ge=4_096, le=2**63 - 1)] = 1024 * 1024 * 1024
    """Memory for messages that are arriving, those of sessions that have begun left out. Each counts as
    EXPRESSLANE_MAX_MESSAGE_BYTES until it has become prompts. At the bound calls wait for their turn unread, at most
    EXPRESSLANE_FIRST_MESSAGE_TIMEOUT_S, and are refused after it."""
    first_message_timeout_s: Seconds = 30.0
    """How long a call may take to send its first message, the whole of it, and its place is kept for it. Where others
    wait for theirs (EXPRESSLANE_ARRIVING_LIMIT_BYTES) it may be less."""
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
