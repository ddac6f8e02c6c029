"""Settings of tenants, keys, TLS and listeners: what goes together, what is told of it, and what is never shown."""

from __future__ import annotations

import pytest
from expresslane.auth.keys import new_key
from expresslane.config import describe, load, reference
from expresslane.errors import ConfigError

KEY, RECORD = new_key()
OTHER, OTHER_RECORD = new_key()
BACKEND = {"BACKENDS__A__KIND": "openai", "BACKENDS__A__URL": "http://h:1"}
TLS = {"TLS__CERT_FILE": "c.pem", "TLS__KEY_FILE": "k.pem"}


@pytest.fixture(autouse=True)
def _memory_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told must not depend on the machine that tests run on."""
    monkeypatch.setattr("expresslane.memory.usable_bytes", lambda: 2**60)


def environment(**variables: str) -> dict[str, str]:
    """Variables with their prefix."""
    return {f"EXPRESSLANE_{name}": value for name, value in (BACKEND | variables).items()}


def mistakes(**variables: str) -> str:
    """What is wrong with these."""
    with pytest.raises(ConfigError) as raised:
        load(environment(**variables))
    return str(raised.value)


def warnings(**variables: str) -> list[str]:
    """What an operator is told of these."""
    return list(load(environment(**variables)).warnings)


def test_tenants_come_from_their_variables() -> None:
    """Each tenant's settings stand under its name; two keys at a time, so that one can be replaced without a gap."""
    records = f"{RECORD}, {OTHER_RECORD}"
    configuration = load(
        environment(
            TENANTS__BIG_CO__KEYS=records,
            TENANTS__BIG_CO__MODELS="small, qwen-*",
            TENANTS__OPS__ADMIN="true",
            TENANTS__OPS__MAX_OPEN_CALLS="5",
        )
    )
    tenants = configuration.settings.tenants
    assert list(tenants) == ["big-co", "ops"]
    assert tenants["big-co"].models == ("small", "qwen-*")
    assert (tenants["ops"].admin, tenants["ops"].max_open_calls, tenants["ops"].keys) == (True, 5, None)
    assert configuration.settings.authenticated
    rows = {row.name: row.value for row in describe(configuration)}
    assert rows["EXPRESSLANE_TENANTS__BIG_CO__MODELS"] == "small,qwen-*"
    assert rows["EXPRESSLANE_TENANTS__BIG_CO__KEYS"] == "********"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"TENANTS__A__KEYS": KEY}, "entry 1 is a key itself"),
        ({"TENANTS__A__KEYS": f"{RECORD},x"}, "entry 2 is not sha256:ID:HEX"),
        ({"TENANTS__A__MODELS": "a,,b"}, "an entry is empty"),
        ({"TENANTS__A__MAX_OPEN_CALLS": "-1"}, "a whole number from 0"),
        ({"TENANTS__A__KEYS": str(RECORD), "TENANTS__B__KEYS": str(RECORD)}, "which is the tenant a's"),
        ({"TENANTS__A__CERTIFICATES": "x"}, "needs EXPRESSLANE_TLS__CLIENT_CA_FILE as well"),
        ({"TLS__CERT_FILE": "c"}, "EXPRESSLANE_TLS__CERT_FILE='c' needs EXPRESSLANE_TLS__KEY_FILE as well"),
        ({"TLS__KEY_FILE": "k"}, "needs EXPRESSLANE_TLS__CERT_FILE as well"),
        ({"TLS__CLIENT_CA_FILE": "ca"}, "needs EXPRESSLANE_TLS__CERT_FILE as well"),
        ({"ADMIN_LISTEN": "nowhere"}, "it does not end in :port"),
        ({"ADMIN_LISTEN": "127.0.0.1:50051"}, "is the address of the other server too"),
        ({"CONTENT_URLS": "all"}, "one of data, any"),
        (
            TLS | {"TLS__CLIENT_CA_FILE": "ca", "TENANTS__A__CERTIFICATES": "x", "TENANTS__B__CERTIFICATES": "y,x"},
            "has 'x', which is the tenant a's",
        ),
    ],
)
def test_what_does_not_go_together_is_told_by_name(variables: dict[str, str], says: str) -> None:
    """P39: a mistake names its variable; a key that stands where its hash belongs is not shown."""
    told = mistakes(**variables)
    assert says in told
    assert KEY not in told
    assert RECORD.sha256.hex() not in told


def test_loopback_needs_no_warning() -> None:
    """What only this machine can reach may be open and in clear text."""
    assert warnings(LISTEN="127.0.0.1:1", ADMIN_LISTEN="[::1]:2") == []
    assert warnings(LISTEN="localhost:1") == []


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "10.0.0.7:50051", "gpu.example:50051"])
def test_who_listens_to_others_is_told_what_is_missing(address: str) -> None:
    """Without keys everybody can use it, without TLS everybody can read it; with both there is nothing to tell."""
    open_to_all = warnings(LISTEN=address)
    assert len(open_to_all) == 2
    assert "nobody has to show a key" in open_to_all[0]
    assert "in clear text" in open_to_all[1]
    assert all(line.startswith(f"EXPRESSLANE_LISTEN={address}") for line in open_to_all)
    keys = {"TENANTS__OPS__KEYS": str(RECORD), "TENANTS__OPS__ADMIN": "true"}
    assert len(warnings(LISTEN=address, **keys)) == 1
    assert len(warnings(LISTEN=address, **TLS)) == 1
    assert warnings(LISTEN=address, **keys, **TLS) == []
    assert warnings(LISTEN=address, TLS__CLIENT_CA_FILE="ca", **TLS) == []


def test_keys_without_an_administrator_are_told() -> None:
    """Nobody could use Admin: that is safe, and probably not what was meant."""
    (line,) = warnings(TENANTS__ACME__KEYS=str(RECORD))
    assert "No tenant may use the Admin service" in line
    assert any(f"set {row.name}=true" in line for row in reference()), "not as the reference calls it"


@pytest.mark.parametrize(
    ("listen", "limit", "sessions", "told"),
    [
        ("0.0.0.0", 2**36, 1_000, 1),
        ("0.0.0.0", 2**36, 16, 0),
        ("0.0.0.0", 2**30, 1_000, 0),
        ("0.0.0.0", 0, 1_000, 0),
        ("127.0.0.1", 2**36, 1_000, 0),
    ],
)
def test_more_sessions_than_memory(
    monkeypatch: pytest.MonkeyPatch, listen: str, limit: int, sessions: int, told: int
) -> None:
    """An operator whom others can reach is told when the messages of all sessions would not fit in memory."""
    monkeypatch.setattr("expresslane.memory.usable_bytes", lambda: 2 * 2**30)
    given = {"LISTEN": f"{listen}:1", "MAX_OPEN_SESSIONS": str(sessions), "SESSIONS_LIMIT_BYTES": str(limit)}
    lines = [line for line in warnings(**given) if "Sessions" in line]
    assert len(lines) == told
    assert all("62 GiB" in line and "2 GiB" in line for line in lines)


def test_no_message_could_be_read() -> None:
    """A bound of arriving bytes below one message is a mistake, told by name."""
    told = mistakes(ARRIVING_LIMIT_BYTES="4096", SESSIONS_LIMIT_BYTES="4096", MAX_MESSAGE_BYTES="8192")
    assert "EXPRESSLANE_ARRIVING_LIMIT_BYTES" in told
    assert "EXPRESSLANE_SESSIONS_LIMIT_BYTES" in told
    assert "max_message_bytes (8192)" in told
