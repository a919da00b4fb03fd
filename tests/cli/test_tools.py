"""What is said of tools at the command line: written as policies, in force at once in a daemon, and until when."""

import json
import re
import time
from pathlib import Path

import pytest

from palyra_trio.guard.posture import Posture, parse_postures
from tests.cli.conftest import SESSION, Home, Palyra
from tests.cli.test_serve import serving
from tests.processes import Shell


@pytest.fixture
def file(home: Home) -> Path:
    return home.state_dir.parent / ".config" / "palyra-trio" / "policies" / "posture.cedar"


def row(palyra: Palyra, tool: str) -> list[str]:
    (line,) = (each for each in palyra("tools", "list").stdout.splitlines() if each.startswith(f"{tool}\t"))
    return line.split("\t")[1:]


def test_the_tools_are_listed_with_what_they_declare_and_what_is_said_of_them(palyra: Palyra, home: Home) -> None:
    assert palyra("tools", "list").stdout.startswith("TOOL\tCAPABILITY\tRISK\tREAD-ONLY\tIDEMPOTENT\tPOSTURE\n")
    assert row(palyra, "files.read") == ["fs.read", "low", "yes", "yes", "-"]
    (home.folder / "palyra.toml").write_text('[policy]\ndeny = ["files.*"]\n')
    palyra("tools", "ask", "files.*")
    palyra("tools", "disable", "files.read", "--scope", "agent", "--name", "helper")
    assert row(palyra, "files.read")[-1] == "ask; disable for agent helper; deny by the configuration"
    assert row(palyra, "files.write") == ["fs.write", "medium", "no", "no", "ask; deny by the configuration"]
    listed = {each["tool"]: each for each in json.loads(palyra("tools", "list", "--json").stdout)["tools"]}
    assert listed["files.write"]["configured"] == ["deny"]
    assert listed["files.write"]["postures"] == [
        {"tool": "files.*", "verdict": "ask", "scope": "global", "name": "", "until_s": None}
    ]


def test_a_posture_is_written_replaced_and_taken_back(palyra: Palyra, file: Path) -> None:
    result = palyra("tools", "allow", "files.write")
    assert (result.exit_code, result.stdout) == (0, "files.write: allow (from the next start on)\n")
    assert parse_postures(file.read_text()) == (Posture("files.write", "allow"),)
    palyra("tools", "disable", "files.write")
    assert parse_postures(file.read_text()) == (Posture("files.write", "disable"),)
    assert palyra("tools", "reset", "files.write").exit_code == 0
    assert parse_postures(file.read_text()) == ()
    assert palyra("tools", "reset", "files.write").exit_code == 1


def test_a_scope_is_named_or_is_where_one_stands(palyra: Palyra, home: Home, file: Path) -> None:
    home.record_run()
    for scope in (
        ("workspace",),
        ("workspace", "--name", ".."),
        ("agent", "--name", "a b"),
        ("session", "--name", "last"),
    ):
        assert palyra("tools", "ask", "files.read", "--scope", *scope).exit_code == 0
    assert {(each.scope, each.name) for each in parse_postures(file.read_text())} == {
        ("workspace", str(home.folder)),
        ("workspace", str(home.folder.parent)),
        ("agent", "a b"),
        ("session", SESSION),
    }
    for wrong in (("agent",), ("session",), ("global", "--name", "a")):
        assert palyra("tools", "ask", "files.read", "--scope", *wrong).exit_code == 2
    assert palyra("policy", "explain", "files.read", "--path", "a").stdout.splitlines()[1].startswith("ask: ")
    assert palyra("tools", "reset", "files.read", "--scope", "workspace").exit_code == 0
    assert palyra("policy", "explain", "files.read", "--path", "a").stdout.splitlines()[1].startswith("allow: ")


def test_a_posture_ends_when_it_says(palyra: Palyra, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = int(time.time())
    assert palyra("tools", "allow", "files.write", "--until", "2h").exit_code == 0
    (posture,) = parse_postures(file.read_text())
    assert posture.until_s is not None
    assert now_s + 7200 <= posture.until_s <= now_s + 7205
    assert re.fullmatch(r"allow until \d{4}-\d\d-\d\d \d\d:\d\d [+-]\d{4}", row(palyra, "files.write")[-1])
    write = ("policy", "explain", "files.write", "--path", "a", "--json")
    assert json.loads(palyra(*write).stdout)["outcome"] == "allow"
    monkeypatch.setattr("time.time", lambda: posture.until_s)
    assert json.loads(palyra(*write).stdout)["outcome"] == "ask"
    assert row(palyra, "files.write")[-1] == "-"
    assert palyra("tools", "ask", "files.read", "--until", "2127-01-31T18:00+00:00").exit_code == 0
    assert parse_postures(file.read_text()) == (Posture("files.read", "ask", until_s=4_957_092_000),)


@pytest.mark.parametrize("when", ["soon", "2001-01-01", "0h", "99999-01-01"])
def test_a_time_that_is_none_or_has_passed_is_refused(palyra: Palyra, file: Path, when: str) -> None:
    assert palyra("tools", "allow", "files.write", "--until", when).exit_code == 2
    assert not file.exists()


def test_a_name_that_no_tool_has_is_refused(palyra: Palyra, file: Path) -> None:
    for tool in ("files.writ", "nope.*"):
        result = palyra("tools", "disable", tool)
        assert result.exit_code == 1
        assert f"there is no tool '{tool}'" in result.stderr
    assert palyra("tools", "disable", "files.[ab]").exit_code == 2
    assert not file.exists()


def test_a_managed_file_that_was_changed_by_hand_stays_and_nothing_is_said(palyra: Palyra, file: Path) -> None:
    palyra("tools", "ask", "files.write")
    text = file.read_text().replace("forbid", "permit")
    file.write_text(text)
    result = palyra("tools", "allow", "files.read")
    assert result.exit_code == 78
    assert "was changed by hand" in result.stderr
    assert file.read_text() == text


def test_in_a_daemon_a_posture_holds_at_once(shell: Shell) -> None:
    calls = {"calls": [{"tool": "files.write", "arguments": {"path": "a.txt", "text": "x"}}]}
    model = shell.script(calls, {"text": "done"})

    def outcome() -> str:
        shell.run("run", "--model", model, "--no-input", "go")
        return str(shell.bodies("PolicyDecision")[0]["outcome"])

    with serving(shell) as daemon:
        assert outcome() == "ask"
        assert shell.run("tools", "allow", "files.write").stdout == "files.write: allow\n"
        assert outcome() == "allow"
        assert shell.run("tools", "disable", "files.*", "--scope", "workspace").returncode == 0
        assert outcome() == "deny"
        refused = shell.run("tools", "reset", "files.*")
        assert (refused.returncode, "nothing was said of 'files.*' (global)" in refused.stderr) == (1, True)
        assert shell.run("tools", "reset", "files.*", "--scope", "workspace").returncode == 0
        assert shell.run("tools", "reset", "files.write").returncode == 0
        assert outcome() == "ask"
        daemon.process.terminate()
        assert daemon.ends() == 0
    shell.assert_verifies()
