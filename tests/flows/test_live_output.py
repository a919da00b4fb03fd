"""A person watches a program that takes its time."""

import tempfile
from pathlib import Path

import pytest

from palyra_trio.tools import bubblewrap
from tests.processes import Shell

SLOW = """
import os, time
print("\\x1b[2Jbegun", flush=True)
end = time.monotonic() + 20
while not os.listdir("signals") and time.monotonic() < end: time.sleep(0.01)
print("ended")
"""


def test_what_a_program_writes_is_seen_before_it_ends() -> None:
    if bubblewrap.find() is None:
        pytest.skip("unavailable: there is no bubblewrap to run the program in")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shell = Shell.below(root)
        for each in (root, shell.folder):
            each.chmod(0o755)
        config = shell.home / ".config" / "palyra-trio" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text('[sandbox]\nuser = "nobody"\n')
        shell.folder.joinpath("slow.py").write_text(SLOW)
        shell.folder.joinpath("signals").mkdir()
        call = {"tool": "process.run", "arguments": {"argv": ["python3", "slow.py"]}}
        with shell.terminal("run", "--model", shell.script({"calls": [call]}, {"text": "It ran."}), "run it") as seen:
            seen.expect("[y")
            seen.type("y\n")
            seen.expect(r"  | \u001b[2Jbegun")
            assert "ok" not in seen.shown.rpartition("begun")[2]
            shell.folder.joinpath("signals", "go on").touch()
            seen.expect("  | ended")
            seen.expect("It ran.")
            assert seen.ends() == 0
