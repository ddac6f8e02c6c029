"""API keys: made at random, kept as hashes, read from text and files, expired in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from expresslane.auth.keyring import Keyring, RejectedKeyError, read_keys_file
from expresslane.auth.keys import KeyRecord, digest, new_key, parse_record, parse_records
from expresslane.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def ring(**tenants: tuple[KeyRecord, ...]) -> Keyring:
    """A keyring on the first of January 2027."""
    return Keyring(tenants, lambda: NOW)


def why(keyring: Keyring, key: str) -> str:
    """Why a key opens nothing."""
    with pytest.raises(RejectedKeyError) as raised:
        keyring.tenant_of(key)
    return raised.value.why


def test_a_new_key_has_256_random_bits_and_its_record_does_not_hold_them() -> None:
    """Two keys share nothing; what is kept, and its repr, is a hash."""
    (one, first), (two, second) = new_key(), new_key()
    assert one != two
    assert first.id != second.id
    assert one.startswith(f"xlane_{first.id}_")
    assert len(one) == len(f"xlane_{first.id}_") + 43
    assert one[15:] not in str(first) + repr(first)
    assert first.sha256 == digest(one)
    assert first.sha256.hex() not in repr(first)


def test_a_record_survives_its_own_text() -> None:
    """What `expresslane keys new` prints is what is read again, with an expiry and without."""
    for expires in (None, NOW + timedelta(days=90)):
        _, record = new_key(expires)
        assert parse_record(str(record)) == record


def test_an_expiry_may_be_a_date_alone() -> None:
    """A day means its beginning, in UTC."""
    _, record = new_key()
    assert parse_record(f"{record}:2027-01-31").expires == datetime(2027, 1, 31, tzinfo=UTC)


def test_every_key_of_every_tenant_opens_its_tenant() -> None:
    """Several keys of one tenant are good at the same time, so that one can be replaced without a gap."""
    (old, old_record), (new, new_record), (other, other_record) = new_key(), new_key(), new_key()
    keyring = ring(acme=(old_record, new_record), globex=(other_record,))
    assert [keyring.tenant_of(key)[0] for key in (old, new, other)] == ["acme", "acme", "globex"]
    assert keyring.tenant_of(new)[1] == new_record.id
    assert len(keyring) == 3


def test_what_opens_nothing() -> None:
    """A key of no form, a key nobody has, a known id with another secret, a key past its time."""
    key, record = new_key()
    stranger, _ = new_key()
    old, past = new_key(NOW)
    good, soon = new_key(NOW + timedelta(seconds=1))
    keyring = ring(acme=(record, past, soon))
    assert why(keyring, "sk-something") == "malformed key"
    assert why(keyring, "") == "malformed key"
    assert why(keyring, stranger) == "unknown key"
    assert why(keyring, key[:-1] + ("A" if key[-1] != "A" else "B")) == "unknown key"
    assert why(keyring, old) == "expired key"
    assert keyring.tenant_of(good)[0] == "acme"


def test_nobody_has_the_key_that_unknown_ids_are_compared_with() -> None:
    """The stand-in for an unknown id opens nothing even to whoever knows how it is made."""
    assert why(ring(), "nobody has this key") == "malformed key"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "entry 1 is not"),
        ("sha256:short:00", "entry 1 is not"),
        ("{record},md5:x", "entry 2 is not"),
        ("{record}:someday", "entry 1 does not end in a date"),
        ("{key}", "entry 1 is a key itself"),
    ],
)
def test_a_wrong_record_is_told_without_being_shown(text: str, said: str) -> None:
    """A mistake names its place; a key that was configured in place of its hash does not reach the error."""
    key, record = new_key()
    with pytest.raises(ValueError, match=said) as raised:
        parse_records(text.format(key=key, record=record))
    assert key not in str(raised.value)


def test_a_file_of_keys(tmp_path: Path) -> None:
    """One tenant and one record a line; comments and empty lines do not count."""
    (_, one), (_, two), (_, three) = new_key(), new_key(NOW), new_key()
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nacme {one}\n  acme   {two}  \nglobex {three}\n")
    assert read_keys_file(str(file)) == {"acme": (one, two), "globex": (three,)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("acme", "line 2 is not TENANT"),
        ("Acme {record}", "line 2 does not begin with a tenant"),
        ("acme {key}", "line 2: entry 1 is a key itself"),
        ("globex {record}", "is the tenant acme's already"),
    ],
)
def test_a_wrong_line_is_told_without_being_shown(tmp_path: Path, line: str, said: str) -> None:
    """The error has the file and the line's number, and no key."""
    key, record = new_key()
    file = tmp_path / "keys"
    file.write_text(f"acme {record}\n{line.format(key=key, record=record)}\n")
    with pytest.raises(ConfigError, match=said) as raised:
        read_keys_file(str(file))
    assert str(file) in str(raised.value)
    assert key not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named, with the reason."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_keys_file(str(tmp_path / "none"))
