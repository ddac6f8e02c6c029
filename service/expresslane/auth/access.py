"""Access: who a call is from, by its key or its certificate, and what the caller's tenant may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from expresslane.auth.caller import Caller
from expresslane.auth.keyring import Keyring, RejectedKeyError, Tenants, read_keys_file
from expresslane.auth.keys import parse_records
from expresslane.errors import ConfigError, Reason, RefusedError
from expresslane.identity import claimed_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from expresslane.settings import Settings

__all__ = ["Access", "DeniedError"]

log = structlog.get_logger(__name__)

_KEY_HEADERS = ("authorization", "x-api-key")
_NO_KEY = "no credentials: send the metadata `authorization: Bearer KEY`"
_NO_TENANTS = "the certificate's name is no tenant's, and there is no key: send `authorization: Bearer KEY`"
_BAD_KEY = "the key is not valid"


class DeniedError(RefusedError):
    """A call that is not let in. `why` is for the log only: it says more than the caller may know."""

    def __init__(
        self, reason: Reason, message: str, why: str, key_id: str = "", tenant: str = "", *, certificate: str = ""
    ) -> None:
        super().__init__(reason, message)
        self.why = why
        self.who = {"key": key_id, "tenant": tenant} | ({"certificate": certificate} if certificate else {})


class Access:
    """Says who callers are. While nothing is configured it believes what they say and lets everybody do everything."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] | None = None) -> None:
        self._settings = settings
        self._now = now
        self._tenants = settings.tenants
        self._of_certificate = {
            name: tenant for tenant, configured in settings.tenants.items() for name in configured.certificates
        }
        self._configured: Tenants = {
            tenant: parse_records(configured.keys.get_secret_value())
            for tenant, configured in settings.tenants.items()
            if configured.keys is not None
        }
        self._keyring = Keyring(self._configured, now)
        self.on = settings.authenticated
        self._warned = False

    def load(self) -> None:
        """Read the keys file again, if there is one; blocking. Raises ConfigError, and the keys stay as they were."""
        if not self._settings.keys_file:
            return
        listed = read_keys_file(self._settings.keys_file)
        owners = {record.id: tenant for tenant, records in self._configured.items() for record in records}
        for tenant, records in listed.items():
            for record in records:
                if owners.get(record.id, tenant) != tenant:
                    raise ConfigError(
                        f"EXPRESSLANE_KEYS_FILE={self._settings.keys_file}: the key {record.id} is of two tenants"
                    )
        merged = {
            tenant: (*self._configured.get(tenant, ()), *listed.get(tenant, ()))
            for tenant in {**self._configured, **listed}
        }
        self._keyring = Keyring(merged, self._now)

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return len(self._keyring)

    @property
    def admits_nobody(self) -> bool:
        """Whether credentials are asked for that nobody has: no key that is valid now, and no tenant's certificate."""
        return self.on and not self._keyring.opens and not self._of_certificate

    def warn_of_nobody(self) -> None:
        """Say in the log that nobody can call, if that is so: once, until it is so anew."""
        warns = self.admits_nobody
        if warns and not self._warned:
            log.warning("Nobody can call: keys are asked for and none is valid. `expresslane keys new` makes one.")
        self._warned = warns

    def identify(
        self, metadata: Iterable[tuple[str, str | bytes]], certificate: Callable[[], Mapping[str, Iterable[bytes]]]
    ) -> Caller:
        """Who sends this metadata over a connection with that certificate (gRPC's authentication context).

        A key counts before a certificate, and a wrong one is refused whatever the certificate says. Raises
        RefusedError.
        """
        if not self.on:
            return Caller(claimed_tenant(metadata))
        key = _presented(dict(metadata))
        if key is not None:
            try:
                tenant, public_id = self._keyring.tenant_of(key)
            except RejectedKeyError as rejected:
                raise DeniedError(Reason.UNAUTHENTICATED, _BAD_KEY, rejected.why, rejected.key_id) from None
            return Caller(tenant, self._is_admin(tenant), public_id)
        if self._of_certificate:
            names = _names(certificate())
            for name in names:
                if (owner := self._of_certificate.get(name)) is not None:
                    return Caller(owner, self._is_admin(owner))
            if names:
                shown = ", ".join(names)[:200]
                raise DeniedError(Reason.UNAUTHENTICATED, _NO_TENANTS, "certificate of no tenant", certificate=shown)
        raise DeniedError(Reason.UNAUTHENTICATED, _NO_KEY, "no credentials")

    def may_use(self, tenant: str, *names: str) -> bool:
        """Whether a tenant may use a model that goes by any of these names."""
        configured = self._tenants.get(tenant)
        if configured is None or not configured.models:
            return True
        return any(_fits(name, pattern) for name in names for pattern in configured.models)

    def _is_admin(self, tenant: str) -> bool:
        configured = self._tenants.get(tenant)
        return configured is not None and configured.admin


def _presented(metadata: Mapping[str, str | bytes]) -> str | None:
    """The key that a caller sends, empty for one in a form we do not know; None where it sends none."""
    for header in _KEY_HEADERS:
        value = metadata.get(header)
        if value is None:
            continue
        if not isinstance(value, str):
            return ""
        if header == "x-api-key":
            return value.strip()
        scheme, _, key = value.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""
    return None


def _names(context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The names in a verified client certificate: the alternative ones, or the common name where there are none."""
    names = [*context.get("x509_subject_alternative_name", ())] or [*context.get("x509_common_name", ())]
    return [name.decode(errors="replace") for name in names]


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
