"""API keys: random, shown once, kept as hashes.

A key is `xlane_ID_SECRET`. ID (8 characters) is public: it stands in logs and in the configuration. SECRET holds 256
random bits, so one SHA-256 over the whole key is enough: a slow hash (bcrypt, Argon2) protects secrets that can be
guessed, which these cannot, and would cost each call 100 ms of CPU, a gift to whoever wants to overload the service.
People do not choose keys, therefore: `expresslane keys new` makes them.

A record is `sha256:ID:HEX` or `sha256:ID:HEX:EXPIRY`, the expiry in ISO 8601, in UTC unless it says another zone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

__all__ = ["KeyRecord", "digest", "key_id", "new_key", "parse_record", "parse_records"]

ID_CHARS = "abcdefghijklmnopqrstuvwxyz234567"
ID_LENGTH = 8
SECRET_BYTES = 32

_KEY = re.compile(r"xlane_([a-z2-7]{8})_[A-Za-z0-9_-]{43}")
_RECORD = re.compile(r"sha256:([a-z2-7]{8}):([0-9a-f]{64})(?::(\S+))?")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as it is kept. `expires`: from then on it is refused; None: never."""

    id: str
    sha256: bytes = field(repr=False)
    expires: datetime | None = None

    def __str__(self) -> str:
        expiry = f":{self.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if self.expires else ""
        return f"sha256:{self.id}:{self.sha256.hex()}{expiry}"

    def matches(self, sha256: bytes) -> bool:
        """Whether this is the record of the key with that digest, in a time that does not tell how much of it fits."""
        return hmac.compare_digest(self.sha256, sha256)


def new_key(expires: datetime | None = None) -> tuple[str, KeyRecord]:
    """A new key, and what is kept of it."""
    made = "".join(secrets.choice(ID_CHARS) for _ in range(ID_LENGTH))
    key = f"xlane_{made}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return key, KeyRecord(made, digest(key), expires)


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


def key_id(key: str) -> str | None:
    """The public part of a key, or None where it does not have a key's form."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def parse_records(text: str) -> tuple[KeyRecord, ...]:
    """Comma-separated records. Raises ValueError, which quotes nothing of them."""
    return tuple(parse_record(part, number) for number, part in enumerate(text.split(","), 1))


def parse_record(text: str, number: int = 1) -> KeyRecord:
    """One record. Raises ValueError, which quotes nothing of it."""
    text = text.strip()
    if key_id(text):
        raise ValueError(f"entry {number} is a key itself; only its hash belongs here")
    match = _RECORD.fullmatch(text)
    if match is None:
        raise ValueError(f"entry {number} is not sha256:ID:HEX or sha256:ID:HEX:EXPIRY")
    try:
        expires = datetime.fromisoformat(match[3]) if match[3] else None
    except ValueError:
        raise ValueError(f"entry {number} does not end in a date such as 2027-01-31") from None
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return KeyRecord(match[1], bytes.fromhex(match[2]), expires)
