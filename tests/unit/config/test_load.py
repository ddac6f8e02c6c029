"""What the environment becomes: settings, their origins, warnings (T08, O10)."""

from __future__ import annotations

import pytest
from expresslane.config import Configuration, load
from expresslane.errors import ConfigError

GPU = {"BACKENDS__GPU__KIND": "vllm", "BACKENDS__GPU__URL": "http://127.0.0.1:8000"}


def read(**variables: str) -> Configuration:
    """The configuration of these variables, named without their prefix."""
    return load({f"EXPRESSLANE_{name}": value for name, value in variables.items()})


def test_nothing_configured_runs_the_simulated_backend_and_says_so() -> None:
    """T08, G22: an empty environment gives one simulated backend, a flag and a warning that its answers are made up."""
    configuration = read()
    assert [backend.kind for backend in configuration.settings.backends.values()] == ["simulated"]
    assert configuration.simulated_only
    assert "SIMULATED" in configuration.warnings[0]
    assert set(configuration.origins.values()) == {"default"}


def test_a_configured_backend_replaces_the_simulated_one() -> None:
    """With a backend configured there is no simulated one and no warning of it."""
    configuration = read(**GPU, BACKENDS__GPU__ENGINE_STEP_TOKENS="2048")
    assert list(configuration.settings.backends) == ["gpu"]
    assert not configuration.simulated_only
    assert configuration.warnings == ()


def test_every_setting_has_an_origin() -> None:
    """T08: what the environment sets names its variable, everything else says default."""
    configuration = read(**GPU, POLICY="fcfs")
    assert configuration.origins["policy"] == "environment variable EXPRESSLANE_POLICY"
    assert configuration.origins["backends.gpu.kind"] == "environment variable EXPRESSLANE_BACKENDS__GPU__KIND"
    assert configuration.origins["backends.gpu.cap"] == "default"
    assert configuration.origins["listen"] == "default"


def test_backend_ids_are_lower_case_with_dashes() -> None:
    """The id in a variable's name is lower-cased, its underscores are dashes."""
    configuration = read(BACKENDS__MY_GPU_2__KIND="ollama", BACKENDS__MY_GPU_2__URL="http://h:11434")
    assert list(configuration.settings.backends) == ["my-gpu-2"]


def test_the_concurrency_switch_is_read_per_backend() -> None:
    """T08: the switch of each backend comes from its own variable; unset leaves the kind's default."""
    configuration = read(**GPU, BACKENDS__GPU__CONCURRENCY="off")
    assert configuration.settings.backends["gpu"].concurrency is False
    assert read(**GPU).settings.backends["gpu"].concurrency is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("90s", 90), ("10m", 600), ("1h", 3_600), ("500ms", 0.5), ("1.5", 1.5), (" 2 m ", 120)],
)
def test_durations_take_seconds_or_a_unit(text: str, seconds: float) -> None:
    """O10: a duration is a number of seconds or a number with ms, s, m or h."""
    assert read(QUEUE_TIMEOUT_S=text).settings.queue_timeout_s == seconds


def test_request_timeout_is_another_name_of_the_queue_timeout() -> None:
    """O10: EXPRESSLANE_REQUEST_TIMEOUT=600 sets the queue timeout, and its origin says so."""
    configuration = read(REQUEST_TIMEOUT="600")
    assert configuration.settings.queue_timeout_s == 600
    assert configuration.origins["queue_timeout_s"] == "environment variable EXPRESSLANE_REQUEST_TIMEOUT"


def test_both_names_of_the_queue_timeout_are_refused() -> None:
    """O10: setting both names is a mistake, not a race."""
    with pytest.raises(ConfigError, match=r"EXPRESSLANE_REQUEST_TIMEOUT and EXPRESSLANE_QUEUE_TIMEOUT_S are two names"):
        read(REQUEST_TIMEOUT="600", QUEUE_TIMEOUT_S="600")


def test_lists_and_maps_are_comma_separated() -> None:
    """Models, model caps and aliases are read from comma-separated entries."""
    settings = read(
        **GPU,
        BACKENDS__GPU__MODELS="small, big=org/big-70b",
        BACKENDS__GPU__MODEL_CAPS="small=8,big=2",
        BACKENDS__GPU__MAX_LOADED_MODELS="1",
        ALIASES="fast=small",
    ).settings
    assert settings.backends["gpu"].models == (("small", "small"), ("big", "org/big-70b"))
    assert settings.backends["gpu"].model_caps == {"small": 8, "big": 2}
    assert settings.backends["gpu"].max_loaded_models == 1
    assert settings.aliases == {"fast": "small"}


def test_an_empty_variable_counts_as_not_set() -> None:
    """An empty or blank value leaves the default, as compose files and charts need."""
    configuration = read(POLICY="", QUEUE_TIMEOUT_S="  ")
    assert configuration.settings.policy == "hrrn"
    assert configuration.origins["queue_timeout_s"] == "default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADDRESS", "127.0.0.1:50051"),
        ("CACHE_DIR", "/tmp/cache"),
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "50051"),
        ("SERVICE_PORT_GRPC", "50051"),
        ("PORT", "tcp://10.0.0.1:50051"),
        ("PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("REDIS_SERVICE_HOST", "10.0.0.2"),
    ],
)
def test_other_programs_variables_are_left_alone(name: str, value: str) -> None:
    """Variables of clients and tools, and the service links that Kubernetes writes, are no mistake."""
    assert read(**{name: value}).settings == read().settings


def test_variables_without_our_prefix_are_ignored() -> None:
    """Only EXPRESSLANE_ variables are read."""
    assert load({"PATH": "/bin", "POLICY": "nonsense"}).settings == load({}).settings


def test_a_policy_that_can_starve_warns() -> None:
    """The policy sjf is served as asked, with a warning that names what does not starve."""
    assert "EXPRESSLANE_POLICY: sjf lets" in read(**GPU, POLICY="sjf").warnings[0]
    assert "EXPRESSLANE_POLICIES: sjf lets" in read(**GPU, POLICIES="batch=sjf").warnings[0]


def test_policies_by_scope() -> None:
    """T04: a policy for a class, a model whose name has slashes, and a model within a class."""
    settings = read(**GPU, POLICIES="batch=ljf, model/meta-llama/Llama-3=fcfs, batch/model/small=lars").settings
    assert settings.policies == {"batch": "ljf", "model/meta-llama/Llama-3": "fcfs", "batch/model/small": "lars"}


def test_tenants_and_their_defaults() -> None:
    """O01: what a tenant does not set itself is left to the defaults; names are lower-cased like backends' ids."""
    settings = read(**GPU, TENANTS__BIG_CORP__WEIGHT="3", TENANT_DEFAULTS__MAX_CLASS="standard").settings
    assert list(settings.tenants) == ["big-corp"]
    assert (settings.tenants["big-corp"].weight, settings.tenants["big-corp"].max_class) == (3, None)
    assert (settings.tenant_defaults.weight, settings.tenant_defaults.max_class) == (1, "standard")


def test_weights_that_change_nothing_warn() -> None:
    """A weight means nothing where tenants do not share by weight."""
    assert "FAIRNESS=none" in read(**GPU, FAIRNESS="none", TENANTS__A__WEIGHT="2").warnings[0]


def test_the_configuration_cannot_be_changed() -> None:
    """Settings are frozen values: nothing below the edge can change them."""
    settings = read().settings
    with pytest.raises(ValueError, match="frozen"):
        settings.policy = "fcfs"  # type: ignore[misc]
