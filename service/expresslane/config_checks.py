"""What must hold between settings, beyond each value alone: (path, what is wrong) for every mistake."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from expresslane import memory
from expresslane.auth.keys import parse_records
from expresslane.backends.presets import capabilities_of
from expresslane.policies import Scope
from expresslane.variables import environment_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from expresslane.settings import BackendSettings, Settings, TenantDefaults, TenantSettings

__all__ = ["SIMULATED_MODEL", "backend_problems", "engine_warnings", "exposure_warnings", "service_problems"]

SIMULATED_MODEL = "simulated"
"""The only model that a simulated backend serves: no other name ever gets made-up text."""
ASSUMED_STEP_TOKENS = 2_048
"""Of an engine of which nothing is said: what the core assumes too."""
_STEP_SETTINGS = {
    "vllm": "Set it to vLLM's max_num_batched_tokens (its log says it at start), and ENGINE_CHUNK_TOKENS to its "
    "long_prefill_token_threshold, if that is set.",
    "sglang": "Set it to SGLang's chunked_prefill_size.",
}


_PORTS = {"llamacpp": 8080, "ollama": 11434, "sglang": 30000}
"""Where engines listen unless they are told otherwise; the others at 8000."""


def _a(kind: str) -> str:
    """A kind of backend with its article."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def backend_problems(backend_id: str, backend: BackendSettings, given: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """What is wrong within one backend. `given`: the paths that the environment sets."""
    prefix = f"backends.{backend_id}."
    simulated = backend.kind == "simulated"
    if not simulated:
        if not backend.url and f"{prefix}url" not in given:
            example = f"{environment_name(f'{prefix}url')}=http://127.0.0.1:{_PORTS.get(backend.kind, 8000)}"
            yield f"{prefix}url", f"is missing: {_a(backend.kind)} backend needs it. Example: {example}"
        for path in sorted(given):
            if path.startswith(f"{prefix}simulated."):
                yield path, f"is for backends of kind simulated; this one is {backend.kind}."
    elif any(name != SIMULATED_MODEL for pair in backend.models for name in pair):
        yield (
            f"{prefix}models",
            f"is not allowed: a simulated backend serves only the model {SIMULATED_MODEL}. Unset it.",
        )
    if backend.concurrency and not capabilities_of(backend.kind).can_run_concurrently:
        yield f"{prefix}concurrency", f"is not allowed: {_a(backend.kind)} backend runs one request at a time."
    yield from _engine_problems(prefix, backend, given)
    for first, longest in (("breaker_open", "breaker_open_max"), ("rate_limit_pause", "rate_limit_pause_max")):
        yield from _ascending(backend, f"{first}_s", f"{longest}_s", prefix)
    served = {name for name, _ in backend.models} or ({SIMULATED_MODEL} if simulated else set())
    for model in backend.model_caps:
        if served and model not in served:
            yield f"{prefix}model_caps", f"names {model!r}, which is not among the backend's models: {_list(served)}."


def _ascending(
    settings: Settings | BackendSettings, first: str, longest: str, prefix: str = ""
) -> Iterator[tuple[str, str]]:
    most = getattr(settings, longest)
    if getattr(settings, first) > most:
        yield f"{prefix}{first}", f"is more than {longest} ({most:g})."


def exposure_warnings(settings: Settings) -> Iterator[str]:
    """What an operator should know of who can reach the service.

    An address beyond loopback was asked for by name, and a proxy may stand before it: it is no mistake, and told.
    """
    if settings.authenticated and not any(tenant.admin for tenant in settings.tenants.values()):
        yield "No tenant may use the Admin service: set EXPRESSLANE_TENANTS__<NAME>__ADMIN=true for one."
    if not _is_loopback(settings.listen):
        yield from _memory_warnings(settings)
    for setting, address in (("listen", settings.listen), ("admin_listen", settings.admin_listen)):
        if not address or _is_loopback(address):
            continue
        where = f"{environment_name(setting)}={address} can be reached from other machines"
        if not settings.authenticated and not settings.tls.client_ca_file:
            yield f"{where}, and nobody has to show a key: whoever can connect can use it. docs/security.md says how."
        if not settings.tls.cert_file:
            yield f"{where} in clear text: prompts, answers and keys can be read on the way. Set EXPRESSLANE_TLS__*."


def _memory_warnings(settings: Settings) -> Iterator[str]:
    """Sessions are read all the time: so much may arrive in them, if it was set to more than there is."""
    most, have = settings.sessions_limit_bytes, memory.usable_bytes()
    most = min(most, settings.max_open_sessions * settings.max_message_bytes)
    if have and most > have:
        yield (
            f"Sessions may send {most / 2**30:.0f} GiB at once (EXPRESSLANE_SESSIONS_LIMIT_BYTES), and there are "
            f"{have / 2**30:.0f} GiB of memory. Lower it if not all callers can be trusted."
        )


def engine_warnings(settings: Settings) -> Iterator[str]:
    """What an operator should know of the backends: engines that were not described, caps that hold nothing back."""
    untold = [
        backend_id
        for backend_id, backend in settings.backends.items()
        if backend.kind in _STEP_SETTINGS and not backend.engine_step_tokens and _lanes(backend)
    ]
    if untold:
        kinds = sorted({settings.backends[backend_id].kind for backend_id in untold})
        name = environment_name(f"backends.{untold[0]}.engine_step_tokens")
        others = f" (likewise: {', '.join(untold[1:])})" if untold[1:] else ""
        yield (
            f"{name} is not set{others}: the lanes take it that a long prompt fills a step of the engine. Where the "
            "engine limits long prompts to a part of a step, they wait too long. "
            + "".join(f"{_STEP_SETTINGS[kind]} " for kind in kinds)
            + "docs/scheduling.md says what it is worth."
        )
    for backend_id, backend in settings.backends.items():
        if backend.cap is None:  # it may be found out from the engine itself
            continue
        for model, model_cap in backend.model_caps.items():
            if model_cap > backend.cap:
                yield (
                    f"{environment_name(f'backends.{backend_id}.model_caps')}: {model}={model_cap} holds nothing back, "
                    f"because the backend's own cap is {backend.cap}."
                )


def _lanes(backend: BackendSettings) -> bool:
    return capabilities_of(backend.kind).engine if backend.lanes is None else backend.lanes


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or host.startswith("unix"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _access_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    tls = settings.tls
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(tls, one) and not getattr(tls, other):
            yield f"tls.{one}", f"needs {environment_name(f'tls.{other}')} as well."
    if tls.client_ca_file and not (tls.cert_file or tls.key_file):
        yield "tls.client_ca_file", f"needs {environment_name('tls.cert_file')} as well."
    if settings.admin_listen and settings.admin_listen == settings.listen and not settings.listen.endswith(":0"):
        yield "admin_listen", "is the address of the other server too; give it a port of its own."
    yield from _doubled_identities(settings)


def _doubled_identities(settings: Settings) -> Iterator[tuple[str, str]]:
    """Keys and certificates that stand for two tenants."""
    ids: dict[str, str] = {}
    names: dict[str, str] = {}
    for tenant_id, tenant in settings.tenants.items():
        prefix = f"tenants.{tenant_id}."
        if tenant.certificates and not settings.tls.client_ca_file:
            yield f"{prefix}certificates", f"needs {environment_name('tls.client_ca_file')} as well."
        for record in parse_records(tenant.keys.get_secret_value()) if tenant.keys else ():
            if ids.setdefault(record.id, tenant_id) != tenant_id:
                yield f"{prefix}keys", f"has the key {record.id}, which is the tenant {ids[record.id]}'s."
        for name in tenant.certificates:
            if names.setdefault(name, tenant_id) != tenant_id:
                yield f"{prefix}certificates", f"has {name!r}, which is the tenant {names[name]}'s."


def _engine_problems(prefix: str, backend: BackendSettings, given: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    step, chunk, budget = backend.engine_step_tokens, backend.engine_chunk_tokens, backend.short_budget_tokens
    assumed = backend.simulated.chunk_tokens if backend.kind == "simulated" else ASSUMED_STEP_TOKENS
    chunk_least = chunk or step or assumed
    if chunk > step:
        yield f"{prefix}engine_chunk_tokens", f"is more than engine_step_tokens ({step}), which must be given with it."
    if backend.lanes is False:
        for field in ("long_slots", "short_budget_tokens", "long_threshold_tokens"):
            if f"{prefix}{field}" in given:
                yield f"{prefix}{field}", f"needs the lanes, which {environment_name(f'{prefix}lanes')} switches off."
    if _lanes(backend) and budget is not None and budget < chunk_least:
        known = "" if step or backend.kind == "simulated" else " unless engine_step_tokens says otherwise"
        yield (
            f"{prefix}short_budget_tokens",
            f"is below one chunk of the engine ({chunk_least}{known}), which would then wait for work. Unset it.",
        )


def service_problems(settings: Settings, backend_ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong between the settings of the service. `backend_ids`: those named, also where their settings fail."""
    yield from _access_problems(settings)
    if settings.arriving_limit_bytes < settings.max_message_bytes:
        most = settings.max_message_bytes
        yield "arriving_limit_bytes", f"is less than max_message_bytes ({most}): no message could be read. Raise it."
    if 0 < settings.sessions_limit_bytes < settings.max_message_bytes:
        most = settings.max_message_bytes
        yield "sessions_limit_bytes", f"is less than max_message_bytes ({most}): no session could be read. Raise it."
    yield from _ascending(settings, "retry_base_s", "retry_cap_s")
    ids = set(backend_ids) or {"simulated"}
    wildcard = settings.wildcard_backend
    if wildcard:
        if wildcard not in ids:
            yield "wildcard_backend", f"names no backend. Allowed: one of {_list(ids)}."
        elif not backend_ids or (wildcard in settings.backends and settings.backends[wildcard].kind == "simulated"):
            yield "wildcard_backend", f"is not allowed: a simulated backend serves only the model {SIMULATED_MODEL}."
    models = None if wildcard else _models(settings, backend_ids)
    for alias, model in settings.aliases.items():
        why = _alias_problem(alias, model, settings, models)
        if why:
            yield "aliases", f"makes {alias!r} an alias of {model!r}{why}"
    yield from _tenant_problems(settings)
    yield from _policy_problems(settings, models)
    default = settings.default_model
    if default and models is not None and default not in models | set(settings.aliases):
        yield "default_model", f"is served by no backend. Allowed: one of {_list(models | set(settings.aliases))}."


def _tenant_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.fairness != "none":
        return
    described: dict[str, TenantDefaults | TenantSettings] = {"tenant_defaults": settings.tenant_defaults}
    described |= {f"tenants.{name}": tenant for name, tenant in settings.tenants.items()}
    for path, tenant in described.items():
        for field in ("requests_per_min", "tokens_per_min"):
            if getattr(tenant, field):
                yield f"{path}.{field}", "needs tenants to be told apart, which EXPRESSLANE_FAIRNESS=none does not do."


def _policy_problems(settings: Settings, models: set[str] | None) -> Iterator[tuple[str, str]]:
    for text in settings.policies:
        model = Scope.parse(text).model
        if model and models is not None and model not in models:
            yield "policies", f"names the model {model!r}, which no backend serves. Allowed: one of {_list(models)}."


def _alias_problem(alias: str, model: str, settings: Settings, models: set[str] | None) -> str:
    if model in settings.aliases:
        return ", which is an alias too; name the model itself."
    if model == SIMULATED_MODEL:
        return ": made-up answers are given under no other name."
    if models is None:
        return ""
    if model not in models:
        return f", which no backend serves. Allowed: one of {_list(models)}."
    return ", but it is the name of a model." if alias in models else ""


def _models(settings: Settings, backend_ids: Sequence[str]) -> set[str] | None:
    """All models that callers can name, or None where only the backends themselves know."""
    if not backend_ids:
        return {SIMULATED_MODEL}
    if set(backend_ids) != set(settings.backends):
        return None
    models: set[str] = set()
    for backend in settings.backends.values():
        if backend.models:
            models.update(name for name, _ in backend.models)
        elif backend.kind == "simulated":
            models.add(SIMULATED_MODEL)
        else:
            return None
    return models


def _list(names: AbstractSet[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"
