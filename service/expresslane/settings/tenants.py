"""What is configured for tenants."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from expresslane.auth.keys import parse_records
from expresslane.policies import ClassName
from expresslane.settings.types import (
    Frozen,
    QueueBytes,
    QueuePrompts,
    RequestsPerMin,
    TenantCount,
    TokensPerMin,
    Weight,
    names,
    says,
)

__all__ = ["TenantDefaults", "TenantSettings"]


def _key_records(value: SecretStr) -> SecretStr:
    """Hashed keys as `expresslane keys new` prints them."""
    parse_records(value.get_secret_value())
    return value


class TenantDefaults(Frozen):
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
    max_open_sessions: TenantCount = 0
    """Most StreamPrompts sessions of one tenant that may be open at once. 0: only the bound of all."""
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


class TenantSettings(Frozen):
    """One tenant: who it is, and what it may do. None means: as in the defaults for tenants, or no bound of its own."""

    keys: (
        Annotated[
            SecretStr,
            AfterValidator(_key_records),
            Field(
                json_schema_extra=says("entries that `expresslane keys new` prints, comma-separated", "sha256:ID:HEX")
            ),
        ]
        | None
    ) = None
    """Hashes of the tenant's API keys: `sha256:ID:HEX` or `sha256:ID:HEX:EXPIRY`, comma-separated."""
    certificates: Annotated[
        tuple[str, ...],
        BeforeValidator(names),
        Field(json_schema_extra=says("names, comma-separated", "spiffe://example.org/acme")),
    ] = ()
    """Names (subject alternative name, or common name) in client certificates that stand for this tenant."""
    admin: bool = False
    """Whether the tenant may use the Admin service."""
    models: Annotated[
        tuple[str, ...],
        BeforeValidator(names),
        Field(json_schema_extra=says("model names, comma-separated, a * at the end for any rest", "small,qwen-*")),
    ] = ()
    """Models the tenant may use, by name or alias; a `*` at the end stands for any rest. Empty: all."""
    max_open_calls: TenantCount | None = None
    """Most calls of the tenant that may be open at once, sessions included. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_CALLS."""
    max_open_sessions: TenantCount | None = None
    """Most StreamPrompts sessions of the tenant that may be open at once. 0: only the bound of all.
    Default: EXPRESSLANE_TENANT_DEFAULTS__MAX_OPEN_SESSIONS."""
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
