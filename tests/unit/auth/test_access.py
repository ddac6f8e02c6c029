"""Who callers are taken for, and what their tenants may use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.auth.access import Access, DeniedError
from expresslane.auth.caller import Caller
from expresslane.auth.keys import new_key
from expresslane.errors import ConfigError, RefusedError
from expresslane.settings import Settings
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY, RECORD = new_key()
OPS_KEY, OPS_RECORD = new_key()
TENANTS = {
    "acme": {"keys": str(RECORD), "certificates": "spiffe://x/acme"},
    "ops": {"keys": str(OPS_RECORD), "admin": True},
}


def access(**settings: Any) -> Access:
    """Access by these settings."""
    return Access(Settings.model_validate(settings))


def identify(door: Access, metadata: Mapping[str, str | bytes], *names: str) -> Caller:
    """Who sends this, with a certificate of these names."""
    context = {"x509_subject_alternative_name": [name.encode() for name in names]}
    return door.identify(metadata.items(), lambda: context)


def denied(door: Access, metadata: Mapping[str, str | bytes], *names: str) -> DeniedError:
    """How that is refused."""
    with pytest.raises(DeniedError) as raised:
        identify(door, metadata, *names)
    return raised.value


def test_while_nothing_is_configured_callers_are_believed() -> None:
    """Without keys a caller is who it says, else `default`, and may do everything."""
    door = access()
    assert not door.on
    assert identify(door, {}) == Caller("default", admin=True)
    assert identify(door, {"x-expresslane-tenant": "acme"}) == Caller("acme", admin=True)
    for wrong in ("Acme", "a b", "x" * 64):
        with pytest.raises(RefusedError, match="x-expresslane-tenant"):
            identify(door, {"x-expresslane-tenant": wrong})


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_says_who_it_is(header: str) -> None:
    """In either header; what the caller claims beside it does not count."""
    door = access(tenants=TENANTS)
    value = f"Bearer {KEY}" if header == "authorization" else KEY
    caller = identify(door, {header: value, "x-expresslane-tenant": "ops"})
    assert caller == Caller("acme", admin=False, key_id=RECORD.id)
    assert identify(door, {"authorization": f"bearer {OPS_KEY}"}).admin


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({}, "no credentials"),
        ({"x-expresslane-tenant": "acme"}, "no credentials"),
        ({"authorization": f"Basic {KEY}"}, "malformed key"),
        ({"authorization": "Bearer"}, "malformed key"),
        ({"authorization": f"Bearer {new_key()[0]}"}, "unknown key"),
        ({"x-api-key": KEY[:-1]}, "malformed key"),
        ({"x-api-key": KEY.encode()}, "malformed key"),
    ],
)
def test_what_is_not_let_in(metadata: dict[str, str | bytes], why: str) -> None:
    """UNAUTHENTICATED; the caller is not told more than that it sent no key or no valid one, the log is."""
    error = denied(access(tenants=TENANTS), metadata)
    assert (error.reason, error.why) == ("UNAUTHENTICATED", why)
    said = "no credentials" if why == "no credentials" else "the key is not valid"
    assert error.message.startswith(said)
    assert KEY not in error.message


def test_a_certificate_says_who_it_is() -> None:
    """A name in a verified certificate stands for a tenant, unless a key says otherwise; a wrong key is refused."""
    tls = {"cert_file": "c", "key_file": "k", "client_ca_file": "ca"}
    door = access(tenants=TENANTS, tls=tls)
    assert identify(door, {}, "other", "spiffe://x/acme") == Caller("acme", admin=False)
    assert identify(door, {"x-api-key": OPS_KEY}, "spiffe://x/acme").tenant == "ops"
    assert denied(door, {"x-api-key": "wrong"}, "spiffe://x/acme").why == "malformed key"
    stranger = denied(door, {}, "spiffe://x/stranger")
    assert (stranger.why, stranger.who["certificate"]) == ("certificate of no tenant", "spiffe://x/stranger")
    assert denied(door, {}).why == "no credentials"


def test_the_common_name_counts_where_there_is_no_other() -> None:
    """As for servers' names, a common name is looked at only in a certificate without alternative names."""
    door = access(tenants=TENANTS)
    both = {"x509_common_name": [b"spiffe://x/acme"], "x509_subject_alternative_name": [b"else"]}
    only = {"x509_common_name": [b"spiffe://x/acme"]}
    assert door.identify((), lambda: only).tenant == "acme"
    with pytest.raises(DeniedError):
        door.identify((), lambda: both)


def test_an_empty_file_of_keys_lets_nobody_in(tmp_path: Path) -> None:
    """A keys file closes the door also while it holds no key."""
    file = tmp_path / "keys"
    file.write_text("")
    door = access(keys_file=str(file))
    door.load()
    assert (door.on, door.keys, door.admits_nobody) == (True, 0, True)
    assert denied(door, {"x-api-key": KEY}).why == "unknown key"


def test_a_file_of_expired_keys_lets_nobody_in(tmp_path: Path) -> None:
    """What counts is who could call now, by keys of the file and of the environment; a certificate has no such end."""
    made = datetime(2026, 1, 1, tzinfo=UTC)
    now = made
    key, record = new_key(expires=made + timedelta(days=1))
    file = tmp_path / "keys"
    file.write_text(f"globex {record}\n")
    door = Access(Settings.model_validate({"keys_file": str(file)}), lambda: now)
    door.load()
    assert not door.admits_nobody
    now += timedelta(days=1)
    assert (door.keys, door.admits_nobody) == (1, True)
    assert denied(door, {"x-api-key": key}).why == "expired key"
    tenants = {"acme": {"keys": str(record)}}
    assert Access(Settings.model_validate({"tenants": tenants}), lambda: now).admits_nobody
    tenants = {"acme": {"keys": str(record), "certificates": "spiffe://x/acme"}}
    settings = {"tenants": tenants, "tls": {"cert_file": "c", "key_file": "k", "client_ca_file": "ca"}}
    assert not Access(Settings.model_validate(settings), lambda: now).admits_nobody


def test_that_nobody_can_call_is_said_once_for_each_time(tmp_path: Path) -> None:
    """When the last key goes, not again while there is none, and again after there was one."""
    file = tmp_path / "keys"
    door = access(keys_file=str(file))
    said: list[int] = []
    for text in (f"globex {RECORD}\n", "", "# still none\n", f"globex {RECORD}\n", ""):
        file.write_text(text)
        door.load()
        with capture_logs() as lines:
            door.warn_of_nobody()
            door.warn_of_nobody()
        assert all(line["event"].startswith("Nobody can call") for line in lines)
        said.append(len(lines))
    assert said == [0, 1, 0, 0, 1]


def test_keys_come_and_go_with_their_file(tmp_path: Path) -> None:
    """What is read again holds at once; keys of the environment stay; a file that cannot be used changes nothing."""
    file = tmp_path / "keys"
    new, record = new_key()
    file.write_text(f"globex {record}\n")
    door = access(keys_file=str(file), tenants=TENANTS)
    door.load()
    assert identify(door, {"x-api-key": new}).tenant == "globex"
    assert not door.admits_nobody
    file.write_text("nonsense\n")
    with pytest.raises(ConfigError, match="line 1"):
        door.load()
    assert identify(door, {"x-api-key": new}).tenant == "globex"
    file.write_text("# all gone\n")
    door.load()
    assert denied(door, {"x-api-key": new}).why == "unknown key"
    assert identify(door, {"x-api-key": KEY}).tenant == "acme"
    file.write_text(f"globex {RECORD}\n")
    with pytest.raises(ConfigError, match="of two tenants"):
        door.load()


@pytest.mark.parametrize(
    ("models", "name", "may"),
    [
        ("", "any", True),
        ("small", "small", True),
        ("small", "small-2", False),
        ("small,qwen-*", "qwen-72b", True),
        ("small,qwen-*", "llama", False),
        ("*", "any", True),
    ],
)
def test_models_of_a_tenant(models: str, name: str, may: bool) -> None:
    """Names, with a star for any rest; no list means all, and so does no entry for the tenant."""
    door = access(tenants={"acme": {"models": models} if models else {}})
    assert door.may_use("acme", name) is may
    assert door.may_use("somebody", name)


def test_a_model_may_be_used_under_any_of_its_names() -> None:
    """The list may hold an alias or the name behind it."""
    door = access(tenants={"acme": {"models": "fast"}})
    assert door.may_use("acme", "fast", "small")
    assert not door.may_use("acme", "small", "small")
