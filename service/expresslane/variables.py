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
    "GROUPS",
    "MASK",
    "OTHER_NAMES",
    "OTHER_VARIABLES",
    "PREFIX",
    "Variable",
    "environment_name",
    "group_members",
    "is_foreign",
    "is_id",
    "masked",
    "member_of",
    "show",
    "variables",
]

PREFIX = "EXPRESSLANE_"
GROUPS = ("backends", "tenants")
"""Settings that exist once for each member of a group, under its id."""

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
    f"{PREFIX}TENANT": "The tenant that the command line calls as; the service ignores it.",
    f"{PREFIX}READY_FILE": "A file that `expresslane serve` writes its bound address to once it is ready.",
    f"{PREFIX}CACHE_DIR": "Where the test tools keep what is slow to build; the service ignores it.",
}
"""Variables with our prefix that are not the service's."""

# Kubernetes writes these for a Service named expresslane or expresslane-something into every pod of the namespace.
_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(rf"{PREFIX}(?:[A-Z0-9_]+_)?PORT")
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as the environment names it.

    `path` is dotted; of a `secret` the value is never shown, of a `url` no credentials are.
    """

    path: str
    name: str
    default: str
    allowed: str
    example: str
    meaning: str
    secret: bool
    url: bool


def variables(members: Mapping[str, Iterable[str]]) -> dict[str, Variable]:
    """All variables by name, those of a group once for each member; `members`: ids by group (`backends`, `tenants`)."""
    schema = Settings.model_json_schema()
    return {variable.name: variable for variable in _walk(schema, schema["$defs"], "", members)}


def group_members(names: Iterable[str]) -> dict[str, list[str]]:
    """For each group the ids that the names of variables speak of, sorted."""
    members: dict[str, set[str]] = {group: set() for group in GROUPS}
    for name in names:
        for group in GROUPS:
            if member_id := member_of(group, name):
                members[group].add(member_id)
    return {group: sorted(ids) for group, ids in members.items()}


def member_of(group: str, name: str) -> str:
    """The id of the backend or tenant that a variable is about, or empty."""
    prefix = environment_name(group) + "__"
    if not name.startswith(prefix):
        return ""
    member_id = name.removeprefix(prefix).partition("__")[0].lower().replace("_", "-")
    return member_id if is_id(member_id) else ""


def is_id(text: str) -> bool:
    """Whether a backend or tenant can be named so: 1 to 63 of a-z, 0-9 and -, no dash at either end."""
    return _ID.fullmatch(text) is not None


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
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str, members: Mapping[str, Iterable[str]]
) -> Iterator[Variable]:
    for name, described in schema["properties"].items():
        branches = described.get("anyOf", ())
        prop = {**described, **next((branch for branch in branches if branch.get("type") != "null"), {})}
        path = f"{prefix}{name}"
        if path in GROUPS:
            member = definitions[prop["additionalProperties"]["$ref"].rpartition("/")[2]]
            for member_id in members.get(path, ()):
                yield from _walk(member, definitions, f"{path}.{member_id}.", members)
        elif "$ref" in prop:
            yield from _walk(definitions[prop["$ref"].rpartition("/")[2]], definitions, f"{path}.", members)
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
        url=prop.get("format") == "uri",
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
