"""What a configuration may say, how its faults are told, which layer holds, and what an unaccepted file may do."""

import json
from typing import Any

import attrs
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.config import Config, Credentials
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.layers import (
    KEYS,
    TOOL_PATTERNS_MAX,
    Layer,
    environment_layers,
    faults,
    merge,
    narrow,
    schema,
    value_of,
)

GOOD: dict[str, Any] = {
    "model": {
        "name": "openai/some/model",
        "base_url": "http://127.0.0.1:8080/v1",
        "idle_s": 30,
        "attempts": 1,
        "api_key": "vault:OPENAI",
    },
    "limits": {"turns": 5, "tool_calls": 10, "active_s": 60, "tool_s": 20},
    "session": {"when_busy": "reject", "mailbox": 2},
    "policy": {"preset": "strict", "allow": ["files.*"], "ask": ["clock.now"], "deny": ["*"]},
    "approval": {"expires_s": 60},
    "notify": {
        "command": ["notify-send", "it waits, see", ""],
        "webhook_url": "https://hooks.example/T/1?x=y",
        "webhook_secret_env": "HOOK_KEY",
    },
    "sandbox": {
        "read_only": ["/opt/tools"],
        "path": ["/opt/tools/bin"],
        "user": "palyra-tools",
        "bare": True,
        "pids": 64,
        "memory_mib": 512,
        "output_mib": 1,
    },
    "journal": {"queue_bytes": 1024, "min_free_bytes": 0},
    "daemon": {"drain_s": 0},
    "context": {"budget_bytes": 1000},
    "attachments": {"max_count": 1, "max_bytes": 10},
    "workspaces": {"roots": {"user:alice": ["/srv/alice", "/srv/shared"], "team:ops": []}},
    "grpc": {"host": "::1", "port": 0, "tls_certificate_file": "a.pem", "tls_key_file": "b.pem"},
    "rates": {"admin_per_s": 3, "reads_per_s": 12},
    "log": {"level": "debug", "format": "text"},
}


def fault_of(section: str, key: str, value: Any) -> str:
    (fault,) = faults(Layer("f.toml", {section: {key: value}}))
    return fault


def test_without_layers_the_defaults_hold() -> None:
    config, origins = merge([])

    assert config == Config()
    assert origins == dict.fromkeys(KEYS, "default")


def test_every_key_can_be_set_and_is_held_as_it_was_written() -> None:
    config, origins = merge([Layer("f.toml", GOOD)])

    assert {section: set(body) for section, body in GOOD.items()} == {
        section.name: {key.name for key in attrs.fields(type(getattr(config, section.name)))}
        for section in attrs.fields(Config)
    }
    for section, body in GOOD.items():
        for key, value in body.items():
            assert json.loads(json.dumps(value_of(config, f"{section}.{key}"))) == value
    assert set(origins.values()) == {"f.toml"}


def test_all_faults_of_all_layers_are_told_at_once_with_their_places() -> None:
    layers = [
        Layer("a.toml", {"modle": {}, "limits": {"turn": 3, "turns": "8080"}}),
        Layer("b.toml", {"session": {"when_busy": "followups"}, "policy": 5}),
        Layer("PALYRA_LIMITS__TURNS", {"limits": {"turns": 0}}),
    ]
    with pytest.raises(ConfigInvalid) as caught:
        merge(layers)

    assert str(caught.value).splitlines() == [
        "6 faults in the configuration:",
        "  a.toml: modle: there is no such section; did you mean model?",
        "  a.toml: limits.turn: there is no such key; did you mean turns?",
        "  a.toml: limits.turns: expected a whole number, not '8080'",
        "  b.toml: session.when_busy: expected one of followup, interrupt, reject, not 'followups'; did you mean followup?",
        "  b.toml: policy: expected a table, not 5",
        "  PALYRA_LIMITS__TURNS: limits.turns: expected 1 or more, not 0",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limits.turns", "80"),
        ("limits.turns", True),
        ("limits.turns", 1.0),
        ("limits.turns", -1),
        ("limits.turns", 2**60),
        ("daemon.drain_s", -1),
        ("model.name", 3),
        ("model.name", "gpt"),
        ("model.name", "openai/"),
        ("model.base_url", "127.0.0.1:80"),
        ("model.base_url", "file:///etc/passwd"),
        ("model.base_url", "http://h:99999"),
        ("model.base_url", "http://[::1"),
        ("session.when_busy", ["reject"]),
        ("policy.allow", "files.read"),
        ("policy.allow", [3]),
        ("policy.allow", [""]),
        ("policy.allow", ["*.read"]),
        ("policy.deny", ["files.read"] * (TOOL_PATTERNS_MAX + 1)),
        ("policy.deny", {"files": True}),
        ("notify.command", "notify-send it waits"),
        ("sandbox.read_only", ["tools"]),
        ("sandbox.path", ["~/bin"]),
        ("sandbox.bare", 1),
        ("sandbox.pids", 0),
        ("notify.command", ["notify-send", 3]),
        ("notify.command", [""]),
        ("notify.command", ["./planted.sh"]),
        ("notify.command", ["bin/planted"]),
        ("notify.command", ["notify-send", "a\0b"]),
        ("notify.webhook_url", "hooks.example"),
        ("notify.webhook_url", "http://hooks.example/"),
        ("notify.webhook_url", "http://127.0.0.1.hooks.example/"),
        ("notify.webhook_url", "https://me:hunter2@hooks.example/"),
        ("notify.webhook_secret_env", "HOOK KEY"),
        ("workspaces.roots", ["/srv"]),
        ("workspaces.roots", {"alice": ["/srv"]}),
        ("workspaces.roots", {"user:alice": "/srv"}),
        ("workspaces.roots", {"user:alice": ["srv/alice"]}),
        ("workspaces.roots", {"user:alice": ["/srv\0"]}),
        ("workspaces.roots", {"user:alice": [7]}),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_and_never_coerced(key: str, value: Any) -> None:
    section, _, name = key.partition(".")

    assert fault_of(section, name, value).startswith(f"f.toml: {key}: ")


def test_a_key_in_a_file_is_refused_with_the_remedy_and_its_value_is_not_repeated() -> None:
    fault = fault_of("model", "openai_key", "hunter2")

    assert "OPENAI_API_KEY" in fault
    assert "environment" in fault
    assert "hunter2" not in fault
    assert "hunter2" not in fault_of("model", "base_url", "https://me:hunter2@host/v1")


def test_a_key_that_would_deceive_a_terminal_is_spelled_out() -> None:
    assert fault_of("limits", "a\nb\u202e", 1).startswith("f.toml: limits.'a\\nb\\u202e': there is no such key")


def test_the_later_layer_wins_key_by_key_and_is_named_as_the_origin() -> None:
    config, origins = merge(
        [
            Layer("user", {"limits": {"turns": 1, "tool_calls": 1}, "policy": {"deny": ["a", "b"]}}),
            Layer("project", {"limits": {"turns": 2}}),
            Layer("flag", {"policy": {"deny": []}}),
        ]
    )

    assert (config.limits.turns, config.limits.tool_calls, config.policy.deny) == (2, 1, ())
    assert (origins["limits.turns"], origins["limits.tool_calls"], origins["policy.deny"]) == (
        "project",
        "user",
        "flag",
    )
    assert origins["limits.tool_s"] == "default"


def test_variables_become_layers_named_after_themselves() -> None:
    layers, unknown = environment_layers(
        {
            "PALYRA_MODEL": "openai/short",
            "PALYRA_LIMITS__TURNS": "7",
            "PALYRA_POLICY__DENY": "files.write, files.edit",
            "PALYRA_SESSION__MAILBOX": "",
            "PALYRA_STATE_DIR": "/x",
            "PATH": "/bin",
        }
    )
    config, origins = merge(layers)

    assert unknown == []
    assert (config.model.name, config.limits.turns) == ("openai/short", 7)
    assert config.policy.deny == ("files.write", "files.edit")
    assert origins["limits.turns"] == "PALYRA_LIMITS__TURNS"
    assert origins["session.mailbox"] == "default"


def test_the_long_name_of_a_variable_beats_its_short_cut() -> None:
    layers, _ = environment_layers({"PALYRA_MODEL__NAME": "openai/long", "PALYRA_MODEL": "openai/short"})

    assert merge(layers)[0].model.name == "openai/long"


@pytest.mark.parametrize("text", ["8 0", "0x10", "-1", "1_000", "eight", "١٢"])
def test_a_number_in_a_variable_is_decimal_digits(text: str) -> None:
    layers, _ = environment_layers({"PALYRA_LIMITS__TURNS": text})

    with pytest.raises(ConfigInvalid, match=r"PALYRA_LIMITS__TURNS: limits\.turns: expected a whole number"):
        merge(layers)


def test_an_unknown_variable_is_a_fault_with_its_name() -> None:
    _, unknown = environment_layers({"PALYRA_LIMIT__TURNS": "1", "PALYRA_STATEDIR": "/x"})

    assert unknown == [
        "PALYRA_LIMIT__TURNS: there is no such variable; did you mean PALYRA_LIMITS__TURNS?",
        "PALYRA_STATEDIR: there is no such variable; did you mean PALYRA_STATE_DIR?",
    ]


def test_an_unaccepted_file_lowers_limits_and_adds_to_ask_and_deny() -> None:
    base, _ = merge([Layer("user", {"policy": {"ask": ["files.read"], "deny": ["net.*"]}})])
    project = Layer("p", {
        "limits": {"turns": 3, "tool_calls": 9999},
        "approval": {"expires_s": 30},
        "attachments": {"max_count": 1},
        "policy": {"ask": ["files.read", "clock.now"], "deny": ["files.write"]},
    })  # fmt: skip

    kept, left_out = narrow(base, project)

    assert kept == Layer("p", {
        "limits": {"turns": 3},
        "approval": {"expires_s": 30},
        "attachments": {"max_count": 1},
        "policy": {"ask": ["files.read", "clock.now"], "deny": ["net.*", "files.write"]},
    })  # fmt: skip
    assert left_out == ("limits.tool_calls", "policy.deny")


@pytest.mark.parametrize(
    "key",
    [
        *("model.name", "model.base_url", "policy.allow", "journal.queue_bytes", "daemon.drain_s", "session.when_busy"),
        "workspaces.roots",
    ],
)
def test_an_unaccepted_file_never_sets_what_could_redirect_or_widen(key: str) -> None:
    section, _, name = key.partition(".")

    kept, left_out = narrow(Config(), Layer("p", {section: {name: GOOD[section][name]}}))

    assert kept.values == {}
    assert left_out == (key,)


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith(("notify.", "sandbox."))])
def test_what_is_the_users_own_is_a_fault_in_a_projects_file_accepted_or_not(key: str) -> None:
    section, _, name = key.partition(".")
    values = {section: {name: GOOD[section][name]}}

    assert faults(Layer("p", values, of_project=True)) == [
        f"p: {section}: only your own configuration may say this, no project's"
    ]
    with pytest.raises(ConfigInvalid):
        merge([Layer("user", {}), Layer("p", values, of_project=True)])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost/x", "http://[::1]:1/", "https://a.example"])
def test_a_webhook_is_reached_over_tls_or_on_this_machine(url: str) -> None:
    assert faults(Layer("f", {"notify": {"webhook_url": url}})) == []


def test_a_secret_where_the_name_of_its_variable_belongs_is_not_repeated() -> None:
    assert "hunter-2" not in fault_of("notify", "webhook_secret_env", "hunter-2")


small = st.integers(1, 1000)
tools = st.lists(st.sampled_from(["files.read", "files.*", "clock.now"]), unique=True)
layer_values = st.fixed_dictionaries(
    {},
    optional={
        "model": st.fixed_dictionaries({}, optional={"name": st.just("a/b"), "idle_s": small, "attempts": small}),
        "limits": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(["turns", "tool_calls", "active_s", "tool_s"], small)
        ),
        "policy": st.fixed_dictionaries({}, optional=dict.fromkeys(["allow", "ask", "deny"], tools)),
        "approval": st.fixed_dictionaries({}, optional={"expires_s": small}),
        "attachments": st.fixed_dictionaries({}, optional=dict.fromkeys(["max_count", "max_bytes"], small)),
    },
)


@given(layer_values, layer_values)
def test_whatever_an_unaccepted_file_says_nothing_gets_wider(user: dict[str, Any], project: dict[str, Any]) -> None:
    base, _ = merge([Layer("user", user)])
    narrowed, _ = merge([Layer("user", user), narrow(base, Layer("project", project))[0]])

    assert narrowed.limits == base.limits.narrowed(narrowed.limits)
    assert narrowed.policy.allow == base.policy.allow
    assert set(narrowed.policy.ask) >= set(base.policy.ask)
    assert set(narrowed.policy.deny) >= set(base.policy.deny)
    assert narrowed.approval.expires_s <= base.approval.expires_s
    assert narrowed.attachments.max_bytes <= base.attachments.max_bytes
    for section in ("model", "session", "journal", "daemon", "context"):
        assert getattr(narrowed, section) == getattr(base, section)


def test_the_schema_accepts_what_is_right_and_refuses_what_is_wrong() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())

    assert validator.is_valid(GOOD)
    assert validator.is_valid({})
    all_wrong: tuple[dict[str, Any], ...] = (
        {"modle": {}},
        {"limits": {"turn": 1}},
        {"limits": {"turns": 0}},
        {"limits": {"turns": "1"}},
        {"session": {"when_busy": "x"}},
        {"policy": {"allow": ["*a"]}},
        {"policy": {"deny": ["a"] * (TOOL_PATTERNS_MAX + 1)}},
        {"workspaces": {"roots": {"user:alice": ["srv"]}}},
        {"workspaces": {"roots": {"alice": ["/srv"]}}},
    )
    for wrong in all_wrong:
        assert not validator.is_valid(wrong)
        assert faults(Layer("f", wrong))


def test_credentials_do_not_print() -> None:
    assert "hunter2" not in repr(Credentials(openai_api_key="hunter2", anthropic_api_key="hunter2"))


@pytest.mark.parametrize("value", ["sk-ant-hunter2hunter2", "hunter2", "env:hunter-2"])
def test_a_key_in_the_place_of_a_reference_is_refused_and_not_shown(value: str) -> None:
    fault = fault_of("model", "api_key", value)
    assert "vault:NAME" in fault
    assert "hunter" not in fault


def test_no_project_says_which_key_is_used() -> None:
    (fault,) = faults(Layer("palyra.toml", {"model": {"api_key": "env:HOME"}}, of_project=True))
    assert fault == "palyra.toml: model.api_key: only your own configuration may say this, no project's"
