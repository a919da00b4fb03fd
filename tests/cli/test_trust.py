"""`trust`, from a folder's file to the list of accepted ones; and `config`, which shows the difference."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from palyra_trio.cli.config import config
from palyra_trio.cli.trust import trust
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound, PolicyError

WIDENING = '[policy]\nallow = ["files.write"]\n# \u009b2Jgone \u202e\n[limits]\nturns = 3\n'


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [
        name for name in os.environ if name.startswith(("PALYRA_", "XDG_", "OPENAI_", "ANTHROPIC_", "OLLAMA_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def project(workspace: Path) -> Path:
    path = workspace / "palyra.toml"
    path.write_text(WIDENING)
    path.chmod(0o644)
    return path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(trust, arguments, catch_exceptions=False)


def shown() -> dict[str, dict[str, object]]:
    values: dict[str, dict[str, object]] = json.loads(CliRunner().invoke(config, ["show", "--json"]).stdout)["values"]
    return values


def test_trusting_shows_the_file_and_what_it_would_widen_and_then_holds(project: Path) -> None:
    assert shown()["policy.allow"] == {"value": [], "origin": "default"}

    result = invoke("--yes")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"trusted {project} ")
    assert 'policy.allow = ["files.write"] (now [])' in result.stderr
    assert "limits.turns =" not in result.stderr
    assert "# \\u009b2Jgone \\u202e\n" in result.stderr
    assert shown()["policy.allow"] == {"value": ["files.write"], "origin": str(project)}


def test_without_a_terminal_nothing_is_accepted_unless_told_to(project: Path) -> None:
    with pytest.raises(InvalidArgument, match="--yes"):
        invoke(str(project.parent))

    assert invoke("--list").stdout == ""


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_at_a_terminal_the_person_is_asked(project: Path, answer: bytes, status: int) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "from palyra_trio.cli.trust import trust; trust()"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        os.close(theirs)
        assert child.stderr is not None
        asked = b""
        while b"Trust this file" not in asked:
            assert select.select([child.stderr], [], [], 20)[0], "it did not ask"
            asked += os.read(child.stderr.fileno(), 4096) or pytest.fail("it ended without asking")
        os.write(ours, answer)
        stdout, _ = child.communicate(timeout=20)
        os.close(ours)

    assert child.returncode == status
    assert bool(stdout) == (status == 0)
    assert bool(invoke("--list").stdout) == (status == 0)


def test_the_list_says_how_each_file_is_now_and_removal_takes_it_out(project: Path) -> None:
    invoke("--yes")
    assert invoke("--list").stdout.split()[1:] == ["current", str(project)]

    project.write_text("")
    assert invoke("--list").stdout.split()[1:] == ["changed", str(project)]

    project.unlink()
    assert invoke("--list").stdout.split()[1:] == ["missing", str(project)]

    assert invoke("--remove", str(project.parent)).stdout == f"trusted no longer: {project}\n"
    assert invoke("--list").stdout == ""
    with pytest.raises(NotFound):
        invoke("--remove", str(project.parent))


def test_a_link_a_missing_and_a_faulty_file_are_refused(project: Path, tmp_path: Path) -> None:
    project.rename(tmp_path / "other.toml")
    with pytest.raises(NotFound):
        invoke("--yes")

    project.symlink_to(tmp_path / "other.toml")
    with pytest.raises(PolicyError, match="symbolic link"):
        invoke("--yes")

    project.unlink()
    project.write_text("[limits]\nturn = 1")
    with pytest.raises(ConfigInvalid, match="did you mean turns"):
        invoke("--yes")

    assert invoke("--list").stdout == ""


def test_options_that_contradict_each_other_are_a_usage_error(workspace: Path) -> None:
    for arguments in (["--list", "--remove"], ["--list", "."], ["--yes", "--remove"]):
        assert invoke(*arguments).exit_code == 2


def test_config_show_names_values_and_origins_and_hides_keys(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    result = CliRunner().invoke(config, ["show"])

    assert f"limits.turns = 3  # {project}\n" in result.stdout
    assert 'model.name = ""  # default\n' in result.stdout
    assert "OPENAI_API_KEY: set\n" in result.stdout
    assert "ANTHROPIC_API_KEY: not set\n" in result.stdout
    assert "hunter2" not in result.output
    assert f"warning: {project}: ignored policy.allow: the file is not trusted" in result.stderr


def test_config_check_names_the_files_or_raises_with_every_fault(project: Path) -> None:
    assert CliRunner().invoke(config, ["check"]).stdout == f"the configuration is right: {project}\n"

    project.write_text("[limits]\nturn = 1\ntool_s = 'x'")
    with pytest.raises(ConfigInvalid, match="2 faults"):
        CliRunner().invoke(config, ["check"], catch_exceptions=False)


def test_config_schema_prints_a_schema_that_fits_the_file(workspace: Path) -> None:
    schema = json.loads(CliRunner().invoke(config, ["schema"]).stdout)

    assert jsonschema.Draft202012Validator(schema).is_valid({"limits": {"turns": 3}})


def test_the_commands_load_neither_trio_nor_the_core_before_they_run() -> None:
    code = (
        "import sys, palyra_trio.cli.config, palyra_trio.cli.trust;"
        "heavy = {'trio', 'cattrs', 'msgspec', 'attrs', 'rich'} & set(sys.modules);"
        "import palyra_trio.cli.settings;"
        "sys.exit(f'{heavy}' if heavy or 'trio' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
