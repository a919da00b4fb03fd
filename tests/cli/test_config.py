import json

import pytest

from palyra_trio.core.config_values import KEYS
from palyra_trio.core.config_values import schema as schema_of
from tests.cli.conftest import Home, Palyra


def write(home: Home, text: str) -> None:
    path = home.state_dir.parent / ".config" / "palyra-trio" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_without_a_file_the_configuration_is_right(palyra: Palyra) -> None:
    result = palyra("config", "check")
    assert (result.exit_code, result.stdout) == (0, "the configuration is right: no file was found\n")


def test_a_right_file_is_named(palyra: Palyra, home: Home) -> None:
    write(home, "[limits]\nturns = 3\n")
    result = palyra("config", "check")
    assert result.exit_code == 0
    assert "config.toml" in result.stdout


def test_every_fault_is_told_at_once(palyra: Palyra, home: Home) -> None:
    write(home, '[limits]\nturns = "many"\nturnips = 2\n[grocery]\n')
    result = palyra("config", "check")
    assert (result.exit_code, result.stdout) == (78, "")
    for fault in ("3 faults", "limits.turns", "did you mean turns?", "grocery"):
        assert fault in result.stderr


def test_each_value_is_shown_with_where_it_comes_from(
    palyra: Palyra, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, "[limits]\nturns = 3\ntool_calls = 3\n")
    monkeypatch.setenv("PALYRA_LIMITS__TURNS", "5")
    values = json.loads(palyra("config", "show", "--json").stdout)["values"]
    assert set(values) == set(KEYS)
    assert values["limits.turns"] == {"value": 5, "origin": "PALYRA_LIMITS__TURNS"}
    assert (values["limits.tool_calls"]["value"], values["grpc.port"]["origin"]) == (3, "default")
    lines = palyra("config", "show").stdout.splitlines()
    assert "limits.turns = 5  # PALYRA_LIMITS__TURNS" in lines
    assert f"# state: {home.state_dir}" in lines


def test_of_a_credential_only_whether_it_is_set_is_shown(palyra: Palyra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hush")
    text, as_json = palyra("config", "show").stdout, palyra("config", "show", "--json").stdout
    assert "hush" not in text + as_json
    assert "# OPENAI_API_KEY: set" in text
    assert json.loads(as_json)["credentials"]["OPENAI_API_KEY"] is True
    assert json.loads(as_json)["credentials"]["ANTHROPIC_API_KEY"] is False


def test_the_schema_is_printed(palyra: Palyra) -> None:
    assert json.loads(palyra("config", "schema").stdout) == json.loads(json.dumps(schema_of()))
