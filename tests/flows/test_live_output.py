"""A person watches a program that takes its time."""

from tests.processes import shell_for_programs

SLOW = """
import os, time
print("\\x1b[2Jbegun", flush=True)
end = time.monotonic() + 20
while not os.listdir("signals") and time.monotonic() < end: time.sleep(0.01)
print("ended")
"""


def test_what_a_program_writes_is_seen_before_it_ends() -> None:
    with shell_for_programs() as shell:
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
