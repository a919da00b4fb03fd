"""A program changes files: a person sees what it did, takes it back, and loses nothing when the daemon is killed."""

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from palyra_trio.tools import overlay
from tests.processes import Shell, shell_for_programs
from tests.tools.layered import for_all, tree

WORKS = """
import os
open("notes.txt", "a").write("more\\n")
os.rename("old.txt", "new.txt")
os.mkdir("empty")
os.chmod("tool", 0o755)
"""
BREAKS_OFF = """
import os, shutil, time
shutil.rmtree("src")
open("notes.txt", "w").write("half")
print("begun", flush=True)
time.sleep(60)
"""


@contextmanager
def shell_with(program: str) -> Generator[Shell]:
    with shell_for_programs() as shell:
        shell.folder.joinpath("src").mkdir()
        for name in ("notes.txt", "old.txt", "tool", "src/a.py"):
            shell.folder.joinpath(name).write_text(f"{name}\n")
        shell.folder.joinpath("program.py").write_text(program)
        for_all(shell.folder)
        yield shell


def calling(shell: Shell) -> str:
    return shell.script(
        {"calls": [{"tool": "process.run", "arguments": {"argv": ["python3", "program.py"]}}]}, {"text": "ok"}
    )


def layers_of(shell: Shell) -> list[Path]:
    return [each for place in overlay.places(shell.state_dir) if place.exists() for each in place.glob("*/upper/*")]


def test_what_a_program_did_is_shown_and_taken_back() -> None:
    with shell_with(WORKS) as shell:
        before = tree(shell.folder)
        with shell.terminal("run", "--model", calling(shell), "do it") as seen:
            asked = seen.expect("[y")
            seen.type("y\n")
            assert seen.ends() == 0
        if "NOT captured" in asked:
            pytest.skip("unavailable: there is no bubblewrap that can make a layer")
        assert "kept apart until it has ended" in asked
        shown = shell.run("runs", "diff", "last").stdout
        for line in ("+more", "-old.txt", "+old.txt", "+++ b/new.txt", "Folder empty created", "new mode 100755"):
            assert line in shown
        assert shell.run("runs", "undo", "last", "--yes").returncode == 0
        assert tree(shell.folder) == before
        assert layers_of(shell) == []


def test_a_daemon_that_is_killed_in_the_middle_leaves_the_workspace_as_it_was() -> None:
    with shell_with(BREAKS_OFF) as shell:
        before = tree(shell.folder)
        with shell.process("serve", "--port", "0") as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().startswith("ready")
            assert shell.run("run", "--detach", "--model", calling(shell), "do it").returncode == 0
            shell.until_waiting("last")
            asked = shell.bodies("ApprovalRequested")[0]
            if "NOT captured" in asked["prompt"]:
                pytest.skip("unavailable: there is no bubblewrap that can make a layer")
            with shell.process("tape", "last", "--follow", "--jsonl", "--kind", "ToolOutput") as following:
                assert shell.run("approvals", "allow", asked["approval_id"]).returncode == 0
                assert following.stdout is not None
                assert "begun" in json.loads(following.stdout.readline())["body"]["text"]
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.wait()
        assert tree(shell.folder) == before
        assert layers_of(shell) != []
        with shell.process("serve", "--port", "0") as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().startswith("ready")
            assert layers_of(shell) == []
        assert tree(shell.folder) == before
        assert shell.bodies("FilesChanged") == []
