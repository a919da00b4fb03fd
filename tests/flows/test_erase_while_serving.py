"""Somebody pasted a password into a prompt, and the daemon must not be stopped for that."""

import json
from pathlib import Path

from tests.cli.test_serve import serving
from tests.processes import Shell

LEAKED = "hunter2-hunter2-hunter2"


def test_a_value_that_leaked_is_erased_by_the_daemon_that_holds_the_journal(shell: Shell) -> None:
    shell.folder.joinpath("notes").write_text(f"the password is {LEAKED}\n")
    reads = {"calls": [{"tool": "files.read", "arguments": {"path": "notes"}}]}
    model = shell.script(reads, {"text": f"It is {LEAKED}."})
    with serving(shell) as daemon:
        assert shell.run("run", "--model", model, f"is it {LEAKED}?").returncode == 0
        held = [path.name for path in shell.state_dir.rglob("*") if path.is_file() and _holds(path)]
        assert held
        done = shell.run("journal", "redact", "last/1", "text", "--stdin", "--yes", "--json", stdin=LEAKED.encode())
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["rows"] >= 5, report["left_in"]) == (True, [])
        assert not [path.name for path in shell.state_dir.rglob("*") if path.is_file() and _holds(path)]
        assert shell.run("journal", "verify").returncode == 0
        tape = shell.run("tape", "last")
        assert "(erased)" in tape.stdout
        assert "hunter2" not in tape.stdout
        assert shell.run("run", "--model", "offline/rules", "what time is it").returncode == 0
        refused = shell.run("journal", "redact", "last/99", "text", "--yes")
        assert (refused.returncode, "has no row 99" in refused.stderr) == (1, True)
        assert daemon.process.poll() is None
    shell.assert_verifies()


def _holds(path: Path) -> bool:
    return b"hunter2" in path.read_bytes()
