import json
from typing import Any

import pytest

from palyra_trio.core.agents import DEFAULT_INSTRUCTIONS
from tests.cli.conftest import Home, Palyra


def agents(palyra: Palyra) -> dict[str, dict[str, Any]]:
    return {agent["name"]: agent for agent in json.loads(palyra("agents", "list", "--json").stdout)["agents"]}


def test_the_built_in_agent_is_there_from_the_start(palyra: Palyra, home: Home) -> None:
    assert palyra("agents", "list").stdout.splitlines()[1].startswith("default (default)\t(configured)\tall\t")
    assert agents(palyra)["default"]["is_default"]
    assert DEFAULT_INSTRUCTIONS in palyra("agents", "show", "default").stdout
    assert not home.state_dir.exists()


def test_an_agent_is_defined_with_what_the_options_say(palyra: Palyra, home: Home) -> None:
    (home.folder / "told.txt").write_text("Be brief.\n")
    (home.folder / "schema.json").write_text('{"type": "object"}')
    result = palyra(
        *("agents", "set", "scribe", "--model", "openai/x", "--instructions", "@told.txt", "--answer-schema"),
        *("schema.json", "--tool", "files.read", "--tool", "clock.now", "--turns", "3", "--active-s", "60"),
    )
    assert (result.exit_code, result.stdout) == (0, "defined agent scribe\n")
    scribe = agents(palyra)["scribe"]
    assert (scribe["model"], scribe["instructions"]) == ("openai/x", "Be brief.\n")
    assert scribe["tools"] == ["files.read", "clock.now"]
    assert (scribe["limits"]["turns"], scribe["limits"]["active_s"], scribe["limits"]["tool_calls"]) == (3, 60, 0)
    assert (scribe["allowed"]["turns"], scribe["allowed"]["tool_calls"]) == (3, 200)
    assert scribe["answer_schema"] == {"type": "object"}
    shown = palyra("agents", "show", "scribe").stdout
    assert "tools         files.read, clock.now\nturns         3\ntool_calls    200, as configured\n" in shown


def test_a_limit_above_the_configuration_is_taken_and_told(palyra: Palyra, home: Home) -> None:
    done = palyra("agents", "set", "busy", "--tool-calls", "400")
    assert done.stdout == "defined agent busy\n"
    assert done.stderr == "tool_calls is 200 and not 400: limits.tool_calls of the configuration says no more\n"
    assert "tool_calls    200, as configured; the agent has 400\n" in palyra("agents", "show", "busy").stdout
    configured = home.state_dir.parent / ".config" / "palyra-trio" / "config.toml"
    configured.parent.mkdir(parents=True)
    configured.write_text("[limits]\ntool_calls = 500\n")
    assert palyra("agents", "set", "busy", "--turns", "7").stderr == ""
    assert "turns         7\ntool_calls    400\n" in palyra("agents", "show", "busy").stdout
    assert "tool_calls    500, as configured\n" in palyra("agents", "show", "default").stdout


def test_setting_an_agent_again_changes_only_what_is_named(palyra: Palyra) -> None:
    palyra("agents", "set", "scribe", "--instructions", "Be brief.", "--turns", "3")
    palyra("agents", "set", "scribe", "--tool-calls", "5")
    scribe = agents(palyra)["scribe"]
    assert (scribe["instructions"], scribe["limits"]["turns"], scribe["limits"]["tool_calls"]) == ("Be brief.", 3, 5)


def test_the_built_in_agent_is_not_deleted_and_it_is_said_why(palyra: Palyra) -> None:
    palyra("agents", "set", "scribe")
    refused = palyra("agents", "delete", "default")
    assert refused.exit_code == 1
    assert "'default' comes with the program and was not changed, so there is nothing to remove" in refused.stderr


def test_the_default_agent_is_chosen_and_falls_back_when_it_is_removed(palyra: Palyra) -> None:
    palyra("agents", "set", "scribe")
    assert palyra("agents", "default", "scribe").stdout == "the default agent is now scribe\n"
    assert {name: agent["is_default"] for name, agent in agents(palyra).items()} == {"default": False, "scribe": True}
    assert json.loads(palyra("agents", "delete", "scribe", "--json").stdout) == {"agent": "scribe", "applied": True}
    assert {name: agent["is_default"] for name, agent in agents(palyra).items()} == {"default": True}


@pytest.mark.parametrize("verb", ["show", "delete", "default"])
def test_an_agent_that_there_is_not_is_refused_with_those_that_are(palyra: Palyra, home: Home, verb: str) -> None:
    result = palyra("agents", verb, "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the agents are default" in result.stderr
    assert not home.state_dir.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a b"], "letters"),
        (["scribe", "--tool", "files.reed"], "files.reed"),
        (["scribe", "--turns", "-1"], "--turns"),
        (["scribe", "--instructions", "@missing.txt"], "missing.txt"),
        (["scribe", "--answer-schema", "text.txt"], "is not JSON"),
        (["scribe", "--answer-schema", "deep.json"], "is not JSON"),
        (["scribe", "--answer-schema", "list.json"], "no JSON object"),
    ],
)
def test_an_option_that_says_nothing_useful_is_a_fault_of_usage(
    palyra: Palyra, home: Home, options: list[str], said: str
) -> None:
    (home.folder / "text.txt").write_text("{")
    (home.folder / "deep.json").write_text("[" * 100_000)
    (home.folder / "list.json").write_text("[]")
    result = palyra("agents", "set", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not home.state_dir.exists()


def test_a_schema_that_is_none_is_refused_by_the_runtime(palyra: Palyra, home: Home) -> None:
    (home.folder / "schema.json").write_text('{"type": "no such type"}')
    result = palyra("agents", "set", "scribe", "--answer-schema", "schema.json")
    assert result.exit_code == 2
    assert "not a JSON Schema" in result.stderr
    assert "scribe" not in agents(palyra)
