"""Wrong environment values: each error names its variable, what is allowed, and an example (P39)."""

from __future__ import annotations

import pytest
from expresslane.config import load
from expresslane.errors import ConfigError

VLLM = {"BACKENDS__A__KIND": "vllm", "BACKENDS__A__URL": "http://h:1"}


def mistakes(**variables: str) -> list[str]:
    """The lines of the error, without its heading."""
    with pytest.raises(ConfigError) as caught:
        load({f"EXPRESSLANE_{name}": value for name, value in variables.items()})
    return str(caught.value).splitlines()[1:]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("POLICI", "POLICIES"),
        ("TENANTS__ACME__WIEGHT", "TENANTS__ACME__WEIGHT"),
        ("QUEUE_TIMEOUT", "QUEUE_TIMEOUT_S"),
        ("REQUEST_TIMEOUT_S", "REQUEST_TIMEOUT"),
        ("policy", "POLICY"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("BACKENDS__A__URI", "BACKENDS__A__URL"),
        ("BACKENDS__A__SIMULATED__STEPS", "BACKENDS__A__SIMULATED__STEP_S"),
        ("BACKEND__B__KIND", "BACKENDS__B__KIND"),
        ("BACKENDS_B_URL", "BACKENDS__B__URL"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_one(name: str, meant: str) -> None:
    """P39: a misspelt variable is named together with the one that was meant."""
    assert f"EXPRESSLANE_{name} is not a setting; did you mean EXPRESSLANE_{meant}?" in mistakes(**VLLM, **{name: "x"})


def test_a_name_like_no_other_is_refused_with_the_way_to_the_list() -> None:
    """A name that resembles nothing points to the list of all settings."""
    assert mistakes(ZZZZ="1") == [
        "EXPRESSLANE_ZZZZ is not a setting; `expresslane config --reference` lists all of them."
    ]


def test_the_value_of_an_unknown_name_is_not_shown() -> None:
    """A misspelt API_KEY does not print the key."""
    assert "sk-12345" not in "".join(mistakes(**VLLM, BACKENDS__A__APIKEY="sk-12345"))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("LISTEN", "50051", "host:port"),
        ("LISTEN", "localhost:99999", "0 to 65535"),
        ("LISTEN", ":50051", "start with a host"),
        ("LISTEN", "::1:50051", "brackets"),
        ("POLICY", "fastest", "one of hrrn, lars, edf, sjf-aged, sjf, ljf, fcfs"),
        ("BATCH_CLASS_FROM_CHARS", "100chars", "from 0 to 2147483647. Example: EXPRESSLANE_BATCH_CLASS_FROM_CHARS=100"),
        ("BATCH_CLASS_FROM_CHARS", "-1", "a whole number from 0"),
        ("BATCH_CLASS_FROM_CHARS", "99.5", "a whole number from 0"),
        ("QUEUE_LIMIT_PROMPTS", "0", "a whole number from 1 to 10000000"),
        ("QUEUE_LIMIT_PROMPTS", "-5", "a whole number from 1"),
        ("QUEUE_LIMIT_PROMPTS", "99999999999999999999", "to 10000000"),
        ("QUEUE_LIMIT_PROMPTS", "1.5", "a whole number"),
        ("QUEUE_LIMIT_S", "-1", "0 to 24 hours"),
        ("QUEUE_LIMIT_S", "25h", "0 to 24 hours"),
        ("QUEUE_LIMIT_S", "nan", "Example: EXPRESSLANE_QUEUE_LIMIT_S=10s"),
        ("QUEUE_TIMEOUT_S", "soon", "with a unit"),
        ("QUEUE_TIMEOUT_S", "0", "more than 0"),
        ("QUEUE_TIMEOUT_S", "25h", "at most 24 hours"),
        ("QUEUE_TIMEOUT_S", "-1s", "with a unit"),
        ("QUEUE_TIMEOUT_S", "nan", "with a unit"),
        ("RETRY_ATTEMPTS", "100", "a whole number from 1 to 20"),
        ("REFLECTION", "perhaps", "true or false"),
        ("LOG_FORMAT", "xml", "one of auto, json, text"),
        ("ALIASES", "fast", "alias=model"),
        ("ALIASES", "a=x,a=y", "'a' is there twice"),
        ("ALIASES", "a=", "'a=' is not an entry"),
        ("BACKENDS__A__KIND", "openal", "one of openai, vllm, sglang, ollama, llamacpp, simulated"),
        ("BACKENDS__A__URL", "gpu:8000", "does not start with http"),
        ("BACKENDS__A__URL", "http://", "no host"),
        ("BACKENDS__A__URL", "http://h:port", "http:// or https://"),
        ("BACKENDS__A__CAP", "0", "a whole number from 1 to 100000"),
        ("BACKENDS__A__MODELS", "a,,b", "comma-separated"),
        ("BACKENDS__A__MODEL_CAPS", "small=0", "caps from 1"),
        ("BACKENDS__A__MODEL_CAPS", "small=many", "caps from 1"),
        ("BACKENDS__A__PREFILL_TOKENS_PER_S", "inf", "a number above 0"),
        ("BACKENDS__A__PREFILL_TOKENS_PER_S", "0", "a number above 0"),
        ("BACKENDS__A__CONCURRENCY", "2", "true or false"),
        ("BACKENDS__A__SIMULATED__ERROR_RATE", "2", "a number from 0 to 1"),
        ("BACKENDS__A__REQUESTS_PER_MIN", "-1", "a whole number from 0"),
        ("BACKENDS__A__TOKENS_PER_MIN", "many", "a whole number from 0"),
        ("POLICIES", "batch=fastest", "policies: hrrn, lars, edf"),
        ("POLICIES", "bulk=ljf", "'bulk' is neither a class (interactive, standard, batch) nor model/NAME"),
        ("POLICIES", "batch/model/=ljf", "names no model"),
        ("TENANTS__ACME__WEIGHT", "-2", "a whole number from 1 to 1000"),
        ("TENANTS__ACME__MAX_CLASS", "high", "one of interactive, standard, batch"),
        ("TENANT_DEFAULTS__WEIGHT", "0", "a whole number from 1 to 1000"),
        ("CLASS_MIN_SHARES", "batch=1.5", "shares from 0, below 1 in all"),
        ("CLASS_MIN_SHARES", "standard=0.6,batch=0.6", "make up 1 or more"),
        ("CLASS_MIN_SHARES", "bulk=0.1", "classes of interactive, standard, batch"),
        ("FAIRNESS", "all", "one of tenant_batch, tenant, none"),
        ("RETRY_RATIO", "-1", "a number from 0 to 1000"),
        ("TENANTS__ACME__REQUESTS_PER_MIN", "-5", "a whole number from 0"),
        ("BACKENDS__A__BREAKER_ERROR_RATIO", "2", "a number from 0 to 1"),
        ("BACKENDS__A__LONG_SLOTS", "0", "a whole number from 1"),
    ],
)
def test_a_wrong_value_names_variable_value_rule_and_example(name: str, value: str, says: str) -> None:
    """P39: each wrong value is one line with the variable, its value, what is allowed, and an example that works."""
    lines = [line for line in mistakes(**{**VLLM, name: value}) if line.startswith(f"EXPRESSLANE_{name}='{value}' ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert f"Example: EXPRESSLANE_{name}=" in lines[0]


def test_the_example_of_an_error_is_itself_right() -> None:
    """P39: what an error gives as an example is accepted."""
    wrong = {"LISTEN": "x", "POLICY": "x", "QUEUE_TIMEOUT_S": "x", "BACKENDS__A__CAP": "x", "BACKENDS__A__MODELS": ","}
    examples = dict(line.rpartition("Example: ")[2].split("=", 1) for line in mistakes(**{**VLLM, **wrong}))
    assert len(examples) == len(wrong)
    load({**{f"EXPRESSLANE_{name}": value for name, value in VLLM.items()}, **examples})


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"BACKENDS__B__URL": "http://h:2"}, "EXPRESSLANE_BACKENDS__B__KIND is missing. Allowed: one of openai"),
        ({"BACKENDS__B__KIND": "vllm"}, "EXPRESSLANE_BACKENDS__B__URL is missing: a vllm backend needs it. Example: "),
        (
            {"BACKENDS__B__KIND": "ollama"},
            (
                "EXPRESSLANE_BACKENDS__B__URL is missing: an ollama backend needs it. "
                "Example: EXPRESSLANE_BACKENDS__B__URL=http://127.0.0.1:11434"
            ),
        ),
        (
            {"WILDCARD_BACKEND": "nowhere"},
            "EXPRESSLANE_WILDCARD_BACKEND='nowhere' names no backend. Allowed: one of a.",
        ),
        (
            {"BACKENDS__A__MODELS": "small", "DEFAULT_MODEL": "large"},
            "EXPRESSLANE_DEFAULT_MODEL='large' is served by no backend. Allowed: one of small.",
        ),
        (
            {"BACKENDS__A__MODELS": "small", "ALIASES": "quick=large"},
            "EXPRESSLANE_ALIASES='quick=large' makes 'quick' an alias of 'large', which no backend serves.",
        ),
        ({"ALIASES": "x=y,y=z"}, "makes 'x' an alias of 'y', which is an alias too; name the model itself."),
        (
            {"BACKENDS__A__MODELS": "small,big", "ALIASES": "small=big"},
            "makes 'small' an alias of 'big', but it is the name of a model.",
        ),
        (
            {"BACKENDS__A__MODELS": "small", "BACKENDS__A__MODEL_CAPS": "large=2"},
            "EXPRESSLANE_BACKENDS__A__MODEL_CAPS='large=2' names 'large', which is not among the backend's models",
        ),
        (
            {"BACKENDS__A__MODELS": "small", "POLICIES": "batch/model/large=ljf"},
            "EXPRESSLANE_POLICIES='batch/model/large=ljf' names the model 'large', which no backend serves.",
        ),
        (
            {"BACKENDS__A__ENGINE_STEP_TOKENS": "2048", "BACKENDS__A__ENGINE_CHUNK_TOKENS": "4096"},
            "EXPRESSLANE_BACKENDS__A__ENGINE_CHUNK_TOKENS='4096' is more than engine_step_tokens (2048)",
        ),
        (
            {"BACKENDS__A__ENGINE_STEP_TOKENS": "2048", "BACKENDS__A__SHORT_BUDGET_TOKENS": "1000"},
            "EXPRESSLANE_BACKENDS__A__SHORT_BUDGET_TOKENS='1000' is below one chunk of the engine (2048)",
        ),
        (
            {"BACKENDS__A__SHORT_BUDGET_TOKENS": "1"},
            "SHORT_BUDGET_TOKENS='1' is below one chunk of the engine (2048 unless engine_step_tokens says otherwise)",
        ),
        (
            {"BACKENDS__A__KIND": "simulated", "BACKENDS__A__URL": "", "BACKENDS__A__SHORT_BUDGET_TOKENS": "511"},
            "EXPRESSLANE_BACKENDS__A__SHORT_BUDGET_TOKENS='511' is below one chunk of the engine (512),",
        ),
        (
            {"BACKENDS__A__BREAKER_OPEN_S": "2m"},
            "EXPRESSLANE_BACKENDS__A__BREAKER_OPEN_S='2m' is more than breaker_open_max_s (60).",
        ),
        (
            {"BACKENDS__A__RATE_LIMIT_PAUSE_S": "2m"},
            "EXPRESSLANE_BACKENDS__A__RATE_LIMIT_PAUSE_S='2m' is more than rate_limit_pause_max_s (60).",
        ),
        ({"RETRY_BASE_S": "1m"}, "EXPRESSLANE_RETRY_BASE_S='1m' is more than retry_cap_s (30)."),
        ({"RETRY_CAP_S": "100ms"}, "EXPRESSLANE_RETRY_BASE_S is more than retry_cap_s (0.1)."),
        (
            {"FAIRNESS": "none", "TENANTS__ACME__TOKENS_PER_MIN": "100"},
            "EXPRESSLANE_TENANTS__ACME__TOKENS_PER_MIN='100' needs tenants to be told apart",
        ),
        *(
            (
                {"BACKENDS__A__LANES": "false", f"BACKENDS__A__{name}": value},
                f"EXPRESSLANE_BACKENDS__A__{name}='{value}' needs the lanes, which EXPRESSLANE_BACKENDS__A__LANES",
            )
            for name, value in (("LONG_SLOTS", "3"), ("SHORT_BUDGET_TOKENS", "9000"), ("LONG_THRESHOLD_TOKENS", "9000"))
        ),
        (
            {"BACKENDS__A__SIMULATED__SEED": "7"},
            "EXPRESSLANE_BACKENDS__A__SIMULATED__SEED='7' is for backends of kind simulated; this one is vllm.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(variables: dict[str, str], says: str) -> None:
    """P39: what one value alone cannot show wrong is checked against the others, by name."""
    assert any(says in line for line in mistakes(**{**VLLM, **variables}))


def test_what_lanes_need_is_allowed_with_lanes() -> None:
    """Settings of the lanes contradict nothing where the lanes are on, or nothing is said of them."""
    for lanes in ({}, {"EXPRESSLANE_BACKENDS__A__LANES": "true"}):
        variables = {"KIND": "vllm", "URL": "http://h:1", "LONG_SLOTS": "3", "LONG_THRESHOLD_TOKENS": "9000"}
        environment = {f"EXPRESSLANE_BACKENDS__A__{name}": value for name, value in variables.items()}
        assert load({**environment, **lanes}).settings.backends["a"].long_slots == 3


def test_a_small_budget_fits_an_engine_of_small_steps() -> None:
    """A budget of one chunk is enough, whoever says what a chunk is."""
    prefix = "EXPRESSLANE_BACKENDS__A__"
    vllm = {"KIND": "vllm", "URL": "http://h:1", "ENGINE_STEP_TOKENS": "512", "SHORT_BUDGET_TOKENS": "512"}
    simulated = {"KIND": "simulated", "SIMULATED__CHUNK_TOKENS": "100", "SHORT_BUDGET_TOKENS": "100"}
    for variables in (vllm, simulated):
        settings = load({prefix + name: value for name, value in variables.items()}).settings
        assert settings.backends["a"].short_budget_tokens == int(variables["SHORT_BUDGET_TOKENS"])


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"BACKENDS__S__KIND": "simulated", "BACKENDS__S__MODELS": "gpt-4o"}, "BACKENDS__S__MODELS"),
        ({"BACKENDS__S__KIND": "simulated", "WILDCARD_BACKEND": "s"}, "WILDCARD_BACKEND"),
        ({"WILDCARD_BACKEND": "simulated"}, "WILDCARD_BACKEND"),
        ({"BACKENDS__S__KIND": "simulated", "ALIASES": "gpt-4o=simulated"}, "ALIASES"),
        ({"DEFAULT_MODEL": "gpt-4o"}, "DEFAULT_MODEL"),
    ],
)
def test_made_up_answers_are_given_under_no_real_name(variables: dict[str, str], name: str) -> None:
    """G22: no setting lets a simulated backend answer for a model that is not called simulated."""
    assert [line for line in mistakes(**variables) if line.startswith(f"EXPRESSLANE_{name}=")]


def test_all_mistakes_are_told_at_once() -> None:
    """P39: unknown names, wrong values and contradictions come in one error, one line each."""
    lines = mistakes(
        **VLLM, POLICI="x", LISTEN="x", BACKENDS__A__CAP="x", WILDCARD_BACKEND="x", BACKENDS__B__KIND="vllm"
    )
    assert [line.split("=")[0].split()[0] for line in lines] == [
        "EXPRESSLANE_POLICI",
        "EXPRESSLANE_LISTEN",
        "EXPRESSLANE_BACKENDS__A__CAP",
        "EXPRESSLANE_BACKENDS__B__URL",
        "EXPRESSLANE_WILDCARD_BACKEND",
    ]


def test_secrets_are_not_in_errors() -> None:
    """A key that cannot be sent, or a password inside a wrong URL, is masked where the mistake is told."""
    text = "".join(mistakes(**{**VLLM, "BACKENDS__A__API_KEY": "sk secret", "BACKENDS__A__URL": "ftp://me:secret@h/"}))
    assert "EXPRESSLANE_BACKENDS__A__API_KEY=********" in text
    assert "EXPRESSLANE_BACKENDS__A__URL='ftp://********@h/'" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "u:canary@h",
        "http:/u:canary@h",
        "http://u:canary/1@h",
        "http://u:canary#1@h",
        "http://[canary]@h",
        "http://u:canary\u2100@h",
        "http://h:1?x=canary#",
        "http://h:1#canary",
        "http://h :1?code=canary",
    ],
)
def test_no_way_of_writing_a_url_shows_what_is_secret_in_it(url: str) -> None:
    """Neither its own text nor the words of whoever tried to read it, which quote what they took for a port."""
    (line,) = mistakes(**{**VLLM, "BACKENDS__A__URL": url})
    assert "canary" not in line
    assert "is not allowed" in line


def test_long_and_unprintable_values_are_cut_and_escaped() -> None:
    """An error line stays one short line whatever the value holds."""
    (line,) = mistakes(POLICY="é\n" + "x" * 10_000)
    assert "\\n" in line
    assert len(line) < 400
