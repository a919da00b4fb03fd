"""The commands about policies as a person calls them: what they print, where, and with which exit status."""

import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Home, Palyra
from tests.cli.test_serve import serving
from tests.processes import Shell

GOOD = '@id("no-patches")\n@reason("patches are not for agents")\nforbid (principal, action, resource)\nwhen { context.common.tool.name == "files.apply_patch" };\n'
BAD = '@id("a")\npermit (principal, action, resource);\n\n@id("b") @aproval("ask")\nforbid (principal, action, resource) when { resource.pth };\n'


@pytest.fixture
def policies(home: Home) -> Path:
    folder = home.state_dir.parent / ".config" / "palyra-trio" / "policies"
    folder.mkdir(parents=True)
    return folder


# --- check ---


def test_check_counts_what_it_found_no_fault_in(palyra: Palyra, policies: Path, tmp_path: Path) -> None:
    assert palyra("policy", "check").stdout == f"no fault: 0 files in {policies}, 0 policies\n"
    (policies / "mine.cedar").write_text(GOOD)
    assert palyra("policy", "check").stdout == f"no fault: 1 file in {policies}, 1 policy\n"
    file = tmp_path / "new.cedar"
    file.write_text(GOOD)
    assert palyra("policy", "check", str(file)).stdout == "no fault: 1 file, 1 policy\n"
    found = json.loads(palyra("policy", "check", "--json").stdout)
    assert (found["files"], found["policies"]) == (["mine.cedar"], 1)


def test_check_names_every_fault_with_file_and_line(palyra: Palyra, policies: Path, tmp_path: Path) -> None:
    (policies / "mine.cedar").write_text(BAD)
    (policies / "other.cedar").write_text('\n@id("a") permit (principal, action, resource);')
    for arguments in ((), ("--dir", str(policies))):
        result = palyra("policy", "check", *arguments)
        assert result.exit_code == 78
        for fault in ("mine.cedar:4: unknown annotation @aproval", "`pth`", "other.cedar:2: @id 'a' is taken by mine"):
            assert fault in result.stderr
    assert f"{policies / 'mine.cedar'}:4: " in palyra("policy", "check", str(policies / "mine.cedar")).stderr
    assert palyra("policy", "check", str(policies / "mine.cedar"), "--dir", str(policies)).exit_code == 2


# --- test ---


def cases(tmp_path: Path, *expected: str) -> str:
    path = tmp_path / "cases.toml"
    calls = ('tool = "files.write"\npath = "a"', 'tool = "files.apply_patch"\npath = "a"')
    path.write_text(
        "".join(f'[[case]]\n{call}\nexpect = "{each}"\n' for call, each in zip(calls, expected, strict=True))
    )
    return str(path)


def test_test_prints_each_case_and_ends_with_1_when_one_differs(palyra: Palyra, policies: Path, tmp_path: Path) -> None:
    (policies / "mine.cedar").write_text(GOOD)
    result = palyra("policy", "test", cases(tmp_path, "ask", "deny"))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[2] == "ok\tcase 2\tdeny\tdeny\tpatches are not for agents"
    assert result.stderr == "2 of 2 cases as expected\n"
    result = palyra("policy", "test", cases(tmp_path, "allow", "deny"))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].startswith("DIFFERS\tcase 1\tallow\task\t")
    assert result.stderr == "1 of 2 cases as expected\n"
    found = json.loads(palyra("policy", "test", cases(tmp_path, "ask", "ask"), "--json").stdout)
    assert [each["passed"] for each in found["cases"]] == [True, False]
    assert found["failed"] == 1


def test_test_can_try_another_set(palyra: Palyra, policies: Path, tmp_path: Path) -> None:
    (policies / "mine.cedar").write_text(GOOD)
    assert palyra("policy", "test", cases(tmp_path, "allow", "deny"), "--policies", "trusted-workspace").exit_code == 0
    (tmp_path / "other").mkdir()
    assert palyra("policy", "test", cases(tmp_path, "ask", "ask"), "--policies", str(tmp_path / "other")).exit_code == 0


def test_test_tells_a_faulty_file_of_cases_from_a_faulty_policy(palyra: Palyra, policies: Path, tmp_path: Path) -> None:
    result = palyra("policy", "test", cases(tmp_path, "maybe", "deny"))
    assert result.exit_code == 2
    assert "case 1: expect is 'maybe'" in result.stderr
    (policies / "mine.cedar").write_text(BAD)
    assert palyra("policy", "test", cases(tmp_path, "ask", "deny")).exit_code == 78


# --- show ---


def test_show_says_what_holds_and_prints_a_file_or_a_preset(palyra: Palyra, policies: Path, home: Home) -> None:
    (policies / "mine.cedar").write_text(GOOD)
    (home.folder / "palyra.toml").write_text('[policy]\ndeny = ["fetch.*"]\n')
    result = palyra("policy", "show")
    assert result.stdout.startswith("preset   default\ndeny     fetch.*\nhash     ")
    assert result.stdout.endswith("files    mine.cedar (1)\n")
    assert "no daemon runs here" in result.stderr
    assert palyra("policy", "show", "mine.cedar").stdout == GOOD
    assert '@id("strict-once")' in palyra("policy", "show", "strict").stdout
    assert palyra("policy", "show", "nope").exit_code == 1
    found = json.loads(palyra("policy", "show", "--json").stdout)
    assert (found["preset"], found["deny"], found["live"]) == ("default", ["fetch.*"], False)
    assert found["files"] == [{"name": "mine.cedar", "policies": 1}]


# --- import ---

RULES = {"permissions": {"allow": ["Edit(docs/**)", "Bash(npm run test:*)"], "deny": ["WebFetch"]}}


def test_imported_rules_are_shown_with_what_could_not_be_carried_over_and_written(
    palyra: Palyra, policies: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(RULES))
    refused = palyra("policy", "import-claude", str(settings))
    assert refused.exit_code == 2
    assert "pass --yes" in refused.stderr
    assert list(policies.iterdir()) == []
    result = palyra("policy", "import-claude", str(settings), "--yes")
    assert result.exit_code == 0, result.stderr
    (file,) = policies.iterdir()
    assert result.stdout == f"{file.read_text()}\n"
    assert '@id("claude:deny:WebFetch")' in result.stdout
    assert "refused: allow Bash(npm run test:*): the text of a command does not say" in result.stderr
    assert f"wrote {file}" in result.stderr
    assert palyra("policy", "check").exit_code == 0
    assert palyra("policy", "explain", "fetch.get", "--host", "example.com").stdout.splitlines()[1].startswith("deny: ")


def test_rules_that_are_none_are_refused(palyra: Palyra, policies: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text("[]")
    assert palyra("policy", "import-claude", str(settings), "--yes").exit_code == 2
    settings.write_text('{"permissions": {"allow": ["Bash(ls)"]}}')
    assert palyra("policy", "import-claude", str(settings), "--yes").exit_code == 78
    assert list(policies.iterdir()) == []


# --- a daemon ---


def test_a_daemon_does_not_start_with_a_faulty_file_and_neither_does_a_run(shell: Shell) -> None:
    folder = shell.home / ".config" / "palyra-trio" / "policies"
    folder.mkdir(parents=True)
    (folder / "mine.cedar").write_text(BAD)
    for command in (("serve", "--port", "0"), ("run", "what time is it")):
        done = shell.run(*command)
        assert (done.returncode, done.stdout) == (78, "")
        assert "mine.cedar:4: unknown annotation @aproval" in done.stderr
    assert not (shell.state_dir / "socket").exists()
    assert not shell.journal.exists()


def test_a_daemon_takes_new_policies_on_sighup_and_by_reload_and_refuses_faulty_ones(shell: Shell) -> None:
    folder = shell.home / ".config" / "palyra-trio" / "policies"
    folder.mkdir(parents=True)
    no_daemon = shell.run("policy", "reload")
    assert no_daemon.returncode == 69
    with serving(shell) as daemon:
        daemon.logged("ready")
        before = json.loads(shell.run("status", "--json").stdout)["policy_hash"]
        (folder / "mine.cedar").write_text(GOOD)
        assert "have changed since" in shell.run("policy", "show").stderr
        daemon.signal(signal.SIGHUP)
        applied = daemon.logged("policies reloaded")
        assert (applied["changed"], applied["files"]) == (True, ["mine.cedar"])
        status = json.loads(shell.run("status", "--json").stdout)
        assert status["policy_hash"] == applied["policy_hash"] != before
        assert status["policy_preset"] == "default"

        (folder / "mine.cedar").write_text(BAD)
        daemon.signal(signal.SIGHUP)
        refused = daemon.logged("policies refused")
        assert (refused["level"], refused["policy_hash"]) == ("error", applied["policy_hash"])
        assert "mine.cedar:4: unknown annotation @aproval" in refused["faults"]
        by_hand = shell.run("policy", "reload")
        assert by_hand.returncode == 78
        assert "mine.cedar:4: unknown annotation @aproval" in by_hand.stderr
        assert json.loads(shell.run("policy", "show", "--json").stdout)["hash"] == applied["policy_hash"]
        denied = shell.run("policy", "explain", "files.apply_patch", "--path", "a")
        assert "deny: patches are not for agents" in denied.stdout

        (folder / "mine.cedar").unlink()
        assert shell.run("policy", "reload").stdout.startswith("in force now: ")
        assert shell.run("policy", "reload").stdout.startswith("nothing changed: ")
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0
    shell.assert_verifies()
