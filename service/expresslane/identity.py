"""Whose call the running one is: the tenant that authentication found, or what the call's metadata says."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from expresslane.errors import FieldViolation, Reason, RefusedError
from expresslane.variables import is_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextvars import Token

    Metadata = Iterable[tuple[str, str | bytes]]

__all__ = ["DEFAULT_TENANT", "TENANT_METADATA", "authenticated_as", "claimed_tenant", "forget", "tenant_of"]

TENANT_METADATA = "x-expresslane-tenant"
"""Metadata that names the tenant. Believed only while nothing authenticates the call."""

DEFAULT_TENANT = "default"
"""Whose calls those are that name no tenant."""

_authenticated: ContextVar[str | None] = ContextVar("expresslane_tenant", default=None)


def authenticated_as(tenant: str) -> Token[str | None]:
    """The running call is this tenant's, whatever its metadata says. Give the token to `forget` when it ends."""
    return _authenticated.set(tenant)


def forget(token: Token[str | None]) -> None:
    """Undo `authenticated_as`."""
    _authenticated.reset(token)


def tenant_of(context: Any) -> str:
    """The tenant of the running call. Raises RefusedError (INVALID_FIELD) where its metadata makes no sense."""
    if (tenant := _authenticated.get()) is not None:
        return tenant
    return claimed_tenant(context.invocation_metadata() or ())


def claimed_tenant(metadata: Metadata) -> str:
    """The tenant that a call says it is from. Raises RefusedError (INVALID_FIELD) for what no tenant is called."""
    tenant = next(_named(metadata), DEFAULT_TENANT)
    if not is_id(tenant):
        rule = "1 to 63 of a-z, 0-9 and -, no dash at either end"
        violation = FieldViolation(f"metadata.{TENANT_METADATA}", rule)
        message = f"metadata {TENANT_METADATA}: {tenant[:70]!r} is no tenant's name: {rule}"
        raise RefusedError(Reason.INVALID_FIELD, message, violations=[violation])
    return tenant


def _named(metadata: Metadata) -> Iterator[str]:
    for key, value in metadata:
        if key == TENANT_METADATA:
            yield value if isinstance(value, str) else value.decode("ascii", "replace")
