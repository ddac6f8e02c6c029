"""The environment, read once: every setting with its origin, or every mistake in one ConfigError.

Precedence: the environment before the default. What Admin changes at runtime holds until the next restart, no longer.
An empty variable counts as not set.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from expresslane.config_checks import backend_problems, engine_warnings, exposure_warnings, service_problems
from expresslane.errors import ConfigError
from expresslane.masking import MASK, masked, masked_url
from expresslane.settings import BackendSettings, Settings
from expresslane.variables import (
    OTHER_NAMES,
    OTHER_VARIABLES,
    PREFIX,
    Variable,
    group_members,
    is_foreign,
    is_id,
    show,
    value_at,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Configuration", "Row", "describe", "load", "reference"]

_BACKENDS = f"{PREFIX}BACKENDS__"
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings that hold, where each came from, and what the operator should know of them.

    `origins`: dotted path → `default` or `environment variable NAME`.
    `simulated_only`: no backend was configured, so the embedded simulated one runs.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
    simulated_only: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as `expresslane config` shows it; secrets are masked."""

    path: str
    name: str
    value: str
    origin: str
    meaning: str
    allowed: str


def load(environ: Mapping[str, str]) -> Configuration:
    """Read the whole environment. Raises ConfigError with one line for each mistake."""
    given = {name: value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    members = group_members(given)
    known = variables(members)
    problems: list[str] = []
    texts: dict[str, str] = {}
    origins: dict[str, str] = {}
    for name, value in sorted(given.items()):
        canonical = OTHER_NAMES.get(name, name)
        if is_foreign(name, value):
            continue
        if canonical not in known:
            problems.append(_unknown(name, known))
        elif value.strip():
            variable = known[canonical]
            if variable.path in texts:
                problems.append(f"{name} and {canonical} are two names of one setting; set only one of them.")
            texts[variable.path] = value if variable.secret else value.strip()
            origins[variable.path] = f"environment variable {name}"
    settings, wrong = _validate(texts, members, origins, known)
    problems += wrong
    if problems:
        count = len(problems)
        raise ConfigError(f"{count} mistake{'s' if count > 1 else ''} in the environment:\n" + "\n".join(problems))
    simulated_only = not settings.backends
    if simulated_only:
        settings = settings.model_copy(update={"backends": {"simulated": BackendSettings(kind="simulated")}})
    all_origins = {
        variable.path: origins.get(variable.path, _DEFAULT) for variable in variables(_members(settings)).values()
    }
    return Configuration(settings, all_origins, _warnings(settings, simulated_only), simulated_only)


def describe(configuration: Configuration) -> list[Row]:
    """Every setting that holds, with where it came from; fed back as environment it gives the same settings."""
    settings = configuration.settings
    return [
        Row(
            variable.path,
            variable.name,
            show(value_at(settings, variable.path)),
            configuration.origins[variable.path],
            variable.meaning,
            variable.allowed,
        )
        for variable in variables(_members(settings)).values()
        if _applies(variable.path, settings)
    ]


def reference() -> list[Row]:
    """Every setting there is, with its default; those of a group's member as `EXPRESSLANE_BACKENDS__<ID>__...`."""
    rows = [
        Row(variable.path, variable.name, variable.default, _DEFAULT, variable.meaning, variable.allowed)
        for variable in variables({"backends": ("<id>",), "tenants": ("<name>",)}).values()
    ]
    rows += [Row("", name, "", "ignored", meaning, "") for name, meaning in OTHER_VARIABLES.items()]
    return rows


def _members(settings: Settings) -> dict[str, Iterable[str]]:
    return {"backends": settings.backends, "tenants": settings.tenants}


def _applies(path: str, settings: Settings) -> bool:
    """Whether a setting means anything here: the costs of a simulated engine do for simulated backends only."""
    parts = path.split(".")
    return parts[0] != "backends" or parts[2] != "simulated" or settings.backends[parts[1]].kind == "simulated"


def _validate(
    texts: Mapping[str, str],
    members: Mapping[str, list[str]],
    origins: Mapping[str, str],
    known: Mapping[str, Variable],
) -> tuple[Settings, list[str]]:
    """The settings and what is wrong with them. Wrong values are left out in a second pass, so that all checks run."""
    by_path = {variable.path: variable for variable in known.values()}
    wrong: dict[str, str] = {}
    try:
        settings = Settings.model_validate(_nested(texts, members))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path = next(joined for joined in _prefixes(detail["loc"]) if joined in by_path)
            wrong.setdefault(path, _wrong(by_path[path], texts, origins, str(detail.get("ctx", {}).get("error", ""))))
        rest = {path: text for path, text in texts.items() if path not in wrong}
        whole = [backend_id for backend_id in members["backends"] if f"backends.{backend_id}.kind" not in wrong]
        settings = Settings.model_validate(_nested(rest, {**members, "backends": whole}))
    lines = list(wrong.values())
    given = frozenset(texts)
    checks = [
        problem
        for backend_id, backend in settings.backends.items()
        for problem in backend_problems(backend_id, backend, given)
    ]
    checks += service_problems(settings, members["backends"])
    for path, why in checks:
        if path not in wrong:
            lines.append(f"{_said(by_path[path], texts, origins)} {why}")
    return settings, lines


def _nested(texts: Mapping[str, str], members: Mapping[str, list[str]]) -> dict[str, Any]:
    nested: dict[str, Any] = {group: {member_id: {} for member_id in ids} for group, ids in members.items()}
    for path, text in texts.items():
        *parents, leaf = path.split(".")
        place = nested
        if len(parents) > 1 and parents[1] not in nested.get(parents[0], (parents[1],)):
            continue
        for part in parents:
            place = place.setdefault(part, {})
        place[leaf] = text
    return nested


def _prefixes(location: tuple[int | str, ...]) -> list[str]:
    parts = [str(part) for part in location]
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _said(variable: Variable, texts: Mapping[str, str], origins: Mapping[str, str]) -> str:
    """The variable as it was given."""
    if variable.path not in texts:
        return variable.name
    name = origins[variable.path].rpartition(" ")[2]
    text = (masked_url if variable.url else masked)(texts[variable.path])
    shown = MASK if variable.secret else ascii(text if len(text) <= 100 else text[:97] + "...")
    return f"{name}={shown}"


def _wrong(variable: Variable, texts: Mapping[str, str], origins: Mapping[str, str], why: str) -> str:
    state = "is not allowed" if variable.path in texts else "is missing"
    reason = f" ({why})" if why else ""
    return (
        f"{_said(variable, texts, origins)} {state}{reason}. "
        f"Allowed: {variable.allowed}. Example: {variable.name}={variable.example}"
    )


def _unknown(name: str, known: Mapping[str, Variable]) -> str:
    """A name that is no setting, with the one that was probably meant; its value may be a secret and is not shown."""
    candidates = [*known, *OTHER_NAMES, *OTHER_VARIABLES]
    middle = re.fullmatch(rf"{PREFIX}BACKENDS?_+([A-Z0-9_]+)", name.upper())
    if middle and not name.startswith(_BACKENDS):
        for backend_name in (middle[1].split("__")[0].strip("_"), middle[1].split("_")[0]):
            if is_id(backend_id := backend_name.lower().replace("_", "-")):
                candidates += variables({"backends": (backend_id,)})
    rests = [candidate.removeprefix(PREFIX) for candidate in candidates]
    close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), rests, n=1, cutoff=0.7)
    if close:
        return f"{name} is not a setting; did you mean {PREFIX}{close[0]}?"
    return f"{name} is not a setting; `expresslane config --reference` lists all of them."


def _warnings(settings: Settings, simulated_only: bool) -> tuple[str, ...]:
    warnings = []
    if simulated_only:
        warnings.append(
            "No backend is configured: the embedded simulated one runs, its answers are made up and marked SIMULATED. "
            f"Set {_BACKENDS}<ID>__KIND and {_BACKENDS}<ID>__URL to use a real one."
        )
    warnings += exposure_warnings(settings)
    if settings.policy == "sjf" or "sjf" in settings.policies.values():
        name = "POLICY" if settings.policy == "sjf" else "POLICIES"
        warnings.append(
            f"{PREFIX}{name}: sjf lets a long prompt wait for as long as shorter ones come; sjf-aged and hrrn do not."
        )
    weighted = any(tenant.weight is not None for tenant in settings.tenants.values())
    if settings.fairness == "none" and weighted:
        warnings.append(f"{PREFIX}FAIRNESS=none: the weights of tenants change nothing.")
    if settings.class_min_shares.get("interactive", 0.0) > 0.0:
        warnings.append(
            f"{PREFIX}CLASS_MIN_SHARES: the share of interactive changes nothing: no class goes before it. "
            "A share is what a lower class keeps."
        )
    warnings += engine_warnings(settings)
    return tuple(warnings)
