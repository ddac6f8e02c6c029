"""The keyring: which tenant a presented key belongs to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from expresslane.auth.keys import KeyRecord, digest, key_id, parse_record
from expresslane.errors import ConfigError
from expresslane.variables import is_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Keyring", "RejectedKeyError", "Tenants", "read_keys_file"]

MAX_FILE_BYTES = 16 * 1024 * 1024

Tenants = dict[str, tuple[KeyRecord, ...]]
"""The records of each tenant's keys."""

_NOBODY = KeyRecord("", digest("nobody has this key"))


class RejectedKeyError(Exception):
    """A key that opens nothing. `why` is for the log: malformed, unknown or expired; `key_id` may be empty."""

    def __init__(self, why: str, key_id: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.key_id = key_id


class Keyring:
    """Finds a key by its public id and compares its hash; replaced as a whole when the keys change."""

    def __init__(self, tenants: Mapping[str, tuple[KeyRecord, ...]], now: Callable[[], datetime] | None = None) -> None:
        self._by_id = {record.id: (tenant, record) for tenant, records in tenants.items() for record in records}
        self._now = now or _utc_now

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def opens(self) -> bool:
        """Whether some key of it is valid now."""
        return any(not self._is_expired(record) for _, record in self._by_id.values())

    def tenant_of(self, key: str) -> tuple[str, str]:
        """The tenant that a key belongs to, and the key's public id. Raises RejectedKeyError.

        Whether the id is known takes no other time than whether the secret is right: one hash and one comparison.
        """
        public_id = key_id(key)
        if public_id is None:
            raise RejectedKeyError("malformed key")
        tenant, record = self._by_id.get(public_id, ("", _NOBODY))
        if not record.matches(digest(key)) or not tenant:
            raise RejectedKeyError("unknown key", public_id)
        if self._is_expired(record):
            raise RejectedKeyError("expired key", public_id)
        return tenant, public_id

    def _is_expired(self, record: KeyRecord) -> bool:
        return record.expires is not None and record.expires <= self._now()


def read_keys_file(path: str) -> Tenants:
    """The keys of a file with `TENANT ENTRY` lines; empty lines and those that begin with # do not count.

    Raises ConfigError with the line at fault, quoting nothing of it but the tenant.
    """
    try:
        raw = Path(path).read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"EXPRESSLANE_KEYS_FILE={path}: cannot be read: {_reason(error)}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"EXPRESSLANE_KEYS_FILE={path}: more than {MAX_FILE_BYTES:,} bytes")
    tenants: dict[str, list[KeyRecord]] = {}
    owners: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"EXPRESSLANE_KEYS_FILE={path}: line {number}"
        if len(words) != 2:
            raise ConfigError(f"{where} is not TENANT sha256:ID:HEX")
        tenant, entry = words
        if not is_id(tenant):
            raise ConfigError(f"{where} does not begin with a tenant: 1 to 63 of a-z, 0-9 and -")
        try:
            record = parse_record(entry)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        if owners.setdefault(record.id, tenant) != tenant:
            raise ConfigError(f"{where}: the key {record.id} is the tenant {owners[record.id]}'s already")
        tenants.setdefault(tenant, []).append(record)
    return {tenant: tuple(records) for tenant, records in tenants.items()}


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8"


def _utc_now() -> datetime:
    return datetime.now(UTC)
