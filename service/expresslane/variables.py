"""The environment variables of the service, each with its setting, default, allowed values and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from expresslane.masking import MASK, masked
from expresslane.settings import Settings

__all__ = [
    "MASK",
    "OTHER_NAMES",
    "OTHER_VARIABLES",
    "PREFIX",
    "Variable",
    "environment_name",
    "is_foreign",
    "masked",
    "show",
    "variables",
]

PREFIX = "EXPRESSLANE_"

OTHER_NAMES = {f"{PREFIX}REQUEST_TIMEOUT": f"{PREFIX}QUEUE_TIMEOUT_S"}
"""Second names of settings."""

OTHER_VARIABLES = {
    f"{PREFIX}ADDRESS": "The server that the command line and the clients talk to; the service ignores it.",
    f"{PREFIX}API_KEY": "The API key that the command line sends; the service ignores it.",
    f"{PREFIX}CLIENT_TLS": "Whether the command line uses TLS (true or false); the service ignores it.",
    f"{PREFIX}CLIENT_CA_FILE": "Authorities that the command line trusts; the service ignores it.",
    f"{PREFIX}CLIENT_CERT_FILE": "The command line's own certificate; the service ignores it.",
    f"{PREFIX}CLIENT_KEY_FILE": "The private key of that certificate; the service ignores it.",
    f"{PREFIX}CLIENT_SERVER_NAME": "The name that the server's certificate must be for; the service ignores it.",
    f"{PREFIX}READY_FILE": "A file that `expresslane serve` writes its bound address to once it is ready.",
    f"{PREFIX}CACHE_DIR": "Where the test tools keep what is slow to build; the service ignores it.",
}
"""Variables with our prefix that are not the service's."""

# Kubernetes writes these for a Service named expresslane or expresslane-something into every pod of the namespace.
_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(rf"{PREFIX}(?:[A-Z0-9_]+_)?PORT")


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as the environment names it. `path` is dotted; `secret`: its value is never shown."""

    path: str
    name: str
    default: str
    allowed: str
    example: str
    meaning: str
    secret: bool


def variables(backend_ids: Iterable[str], tenant_ids: Iterable[str] = ()) -> dict[str, Variable]:
    """All variables by name, those of a backend or tenant once for each id."""
    schema = Settings.model_json_schema()
    ids = {"backends": tuple(backend_ids), "tenants": tuple(tenant_ids)}
    return {variable.name: variable for variable in _walk(schema, schema["$defs"], "", ids)}


def is_foreign(name: str, value: str) -> bool:
    """Whether a variable with our prefix is another program's: a client's, a tool's, or a Kubernetes service link."""
    if name in OTHER_VARIABLES or _SERVICE_LINK.fullmatch(name):
        return True
    return _SERVICE_PORT.fullmatch(name) is not None and value.startswith(("tcp://", "udp://", "sctp://"))


def show(value: Any) -> str:
    """A setting's value as its variable would hold it, secrets masked; empty for one that is not set."""
    match value:
        case None:
            text = ""
        case bool():
            text = str(value).lower()
        case float():
            text = f"{value:.12g}"
        case SecretStr():
            text = MASK
        case Mapping():
            text = ",".join(f"{left}={right}" for left, right in value.items())
        case tuple() | list():
            text = ",".join(map(_entry, value))
        case _:
            text = masked(str(value))
    return text


def _entry(item: str | tuple[str, str]) -> str:
    """A name, or a pair as `a=b`, with `a` alone for `a=a`."""
    if isinstance(item, str):
        return item
    left, right = item
    return left if left == right else f"{left}={right}"


def environment_name(path: str) -> str:
    """The variable of a dotted path."""
    return PREFIX + path.replace(".", "__").replace("-", "_").upper()


def value_at(settings: BaseModel, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = settings
    for part in path.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value


def _walk(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str, ids: Mapping[str, tuple[str, ...]]
) -> Iterator[Variable]:
    for name, described in schema["properties"].items():
        branches = described.get("anyOf", ())
        prop = {**described, **next((branch for branch in branches if branch.get("type") != "null"), {})}
        path = f"{prefix}{name}"
        if path in ids:
            member = definitions[prop["additionalProperties"]["$ref"].rpartition("/")[2]]
            for member_id in ids[path]:
                yield from _walk(member, definitions, f"{path}.{member_id}.", ids)
        elif "$ref" in prop:
            yield from _walk(definitions[prop["$ref"].rpartition("/")[2]], definitions, f"{path}.", ids)
        else:
            yield _variable(path, prop)


def _variable(path: str, prop: Mapping[str, Any]) -> Variable:
    default = show(prop.get("default"))
    return Variable(
        path=path,
        name=environment_name(path),
        default=default,
        allowed=_allowed(prop),
        example=prop.get("example") or default or _example(prop),
        meaning=" ".join(prop["description"].split()),
        secret=prop.get("format") == "password",
    )


def _allowed(prop: Mapping[str, Any]) -> str:
    if "allowed" in prop:
        return str(prop["allowed"])
    if "enum" in prop:
        return "one of " + ", ".join(prop["enum"])
    if prop["type"] == "boolean":
        return "true or false"
    if prop["type"] not in {"integer", "number"}:
        return "text"
    kind = "a whole number" if prop["type"] == "integer" else "a number"
    bounds = [
        f"{word} {prop[key]}"
        for key, word in (("exclusiveMinimum", "above"), ("minimum", "from"), ("maximum", "to"))
        if key in prop
    ]
    return " ".join((kind, *bounds))


def _example(prop: Mapping[str, Any]) -> str:
    if "enum" in prop:
        return str(prop["enum"][0])
    return {"boolean": "true", "integer": "8", "number": "1.5"}.get(prop["type"], "small")
