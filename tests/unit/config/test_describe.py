"""What `expresslane config` prints: effective values, origins, the reference (T08)."""

from __future__ import annotations

from expresslane.config import describe, load, reference

ENVIRONMENT = {
    "EXPRESSLANE_BACKENDS__GPU__KIND": "openai",
    "EXPRESSLANE_BACKENDS__GPU__URL": "https://me:hunter2@api.example.com/v1?api_key=hunter2&v=3",
    "EXPRESSLANE_BACKENDS__GPU__API_KEY": "hunter2",
    "EXPRESSLANE_BACKENDS__GPU__MODELS": "small,big=org/big",
    "EXPRESSLANE_BACKENDS__GPU__CONCURRENCY": "true",
    "EXPRESSLANE_QUEUE_TIMEOUT_S": "10m",
}


def test_values_are_shown_with_their_origin() -> None:
    """T08: each row has the effective value in the variable's own form, and where it came from."""
    rows = {row.name: row for row in describe(load(ENVIRONMENT))}
    timeout = rows["EXPRESSLANE_QUEUE_TIMEOUT_S"]
    assert (timeout.value, timeout.origin) == ("600", "environment variable EXPRESSLANE_QUEUE_TIMEOUT_S")
    assert (rows["EXPRESSLANE_POLICY"].value, rows["EXPRESSLANE_POLICY"].origin) == ("hrrn", "default")
    assert rows["EXPRESSLANE_BACKENDS__GPU__MODELS"].value == "small,big=org/big"
    assert rows["EXPRESSLANE_BACKENDS__GPU__CONCURRENCY"].value == "true"
    assert rows["EXPRESSLANE_BACKENDS__GPU__CAP"].value == ""


def test_the_class_by_length_is_shown_with_its_origin() -> None:
    """A24, T08: off by default; the unit is in the name."""
    name = "EXPRESSLANE_BATCH_CLASS_FROM_CHARS"
    shown = [{row.name: row for row in describe(load(given))}[name] for given in ({}, {name: "100"})]
    assert [(row.value, row.origin) for row in shown] == [("0", "default"), ("100", f"environment variable {name}")]


def test_secrets_are_masked() -> None:
    """Neither a key nor the credentials inside a URL are shown."""
    rows = describe(load(ENVIRONMENT))
    assert "hunter2" not in repr(rows)
    values = {row.name: row.value for row in rows}
    assert values["EXPRESSLANE_BACKENDS__GPU__API_KEY"] == "********"
    assert values["EXPRESSLANE_BACKENDS__GPU__URL"] == "https://********@api.example.com/v1?api_key=********&v=3"


def test_what_is_shown_can_be_set_again() -> None:
    """T08: feeding the shown values back, secrets aside, gives the same settings (a round trip)."""
    environment = {**ENVIRONMENT, "EXPRESSLANE_BACKENDS__GPU__URL": "https://api.example.com/v1"}
    del environment["EXPRESSLANE_BACKENDS__GPU__API_KEY"]
    configuration = load(environment)
    again = load({row.name: row.value for row in describe(configuration)})
    assert again.settings == configuration.settings


def test_the_reference_explains_every_setting() -> None:
    """Every setting, those of backends and simulated engines too, has a variable, a meaning and what is allowed."""
    rows = {row.name: row for row in reference()}
    for name in ("POLICY", "BACKENDS__<ID>__URL", "BACKENDS__<ID>__SIMULATED__STEP_S", "ADDRESS"):
        assert f"EXPRESSLANE_{name}" in rows
    assert all(row.meaning for row in rows.values())
    assert all(row.allowed for row in rows.values() if row.origin == "default")
    assert rows["EXPRESSLANE_QUEUE_TIMEOUT_S"].value == "300"
