"""What a configuration may say, how its faults are told, which layer holds, and what an unaccepted file may do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.config import Config, Credentials
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.layers import (
    KEYS,
    Layer,
    environment_layers,
    faults,
    merge,
    narrow,
)
from tests.core.test_config_values import GOOD, fault_of


def test_without_layers_the_defaults_hold() -> None:
    config, origins = merge([])

    assert config == Config()
    assert origins == dict.fromkeys(KEYS, "default")


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


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key.startswith(("notify.", "sandbox.", "http.", "quic.", "otel."))]
)
def test_what_is_the_users_own_is_a_fault_in_a_projects_file_accepted_or_not(key: str) -> None:
    section, _, name = key.partition(".")
    values = {section: {name: GOOD[section][name]}}

    assert faults(Layer("p", values, of_project=True)) == [
        f"p: {section}: only your own configuration may say this, no project's"
    ]
    with pytest.raises(ConfigInvalid):
        merge([Layer("user", {}), Layer("p", values, of_project=True)])


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


def test_credentials_do_not_print() -> None:
    assert "hunter2" not in repr(Credentials(openai_api_key="hunter2", anthropic_api_key="hunter2"))


@pytest.mark.parametrize(("section", "key", "value"), [("model", "api_key", "env:HOME"), ("log", "file", "/tmp/log")])
def test_no_project_says_which_key_is_used_or_where_is_logged_to(section: str, key: str, value: str) -> None:
    (fault,) = faults(Layer("palyra.toml", {section: {key: value}}, of_project=True))
    assert fault == f"palyra.toml: {section}.{key}: only your own configuration may say this, no project's"
