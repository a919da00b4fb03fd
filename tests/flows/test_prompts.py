"""What a person reads before they decide, word for word, at a terminal. `python -m tests.flows.test_prompts` records it."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from palyra_trio import __version__
from tests.processes import Shell

GOLDEN = Path(__file__).parents[1] / "golden" / "prompts"
ENDS = ("or a reason why not: ", "your answer (Ctrl-D declines): ")

PATCH = """\
--- a/notes.txt
+++ b/notes.txt
@@ -1,3 +1,3 @@
 one
-two
+second
 three
--- /dev/null
+++ b/src/new.py
@@ -0,0 +1 @@
+x = 1
"""
HIDING = "a\x1b[8m\u202efdp.exe\u200b\u2028\U000e0041"

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "write_new": ("files.write", {"path": "src/hello.py", "text": 'print("hello")\n'}),
    "write_over": ("files.write", {"path": "notes.txt", "text": "one\nTWO\nthree\n"}),
    "write_the_same": ("files.write", {"path": "notes.txt", "text": "one\ntwo\nthree\n"}),
    "write_sensitive": ("files.write", {"path": ".env", "text": "KEY=2\n"}),
    "read_sensitive": ("files.read", {"path": ".env"}),
    "edit": ("files.edit", {"path": "notes.txt", "old": "two", "new": "2"}),
    "delete": ("files.delete", {"path": "notes.txt"}),
    "apply_patch": ("files.apply_patch", {"patch": PATCH}),
    "fetch_get": ("fetch.get", {"url": "https://93.184.216.34/a?b=c", "headers": {"accept": "text/plain"}}),
    "fetch_post": ("fetch.post", {"url": "https://93.184.216.34/hook", "body": '{"token": "abc"}\n'}),
    "ask_user": ("ask_user", {"question": "Which colour\nshall it be?", "choices": ["red", "blue"]}),
    "hidden": ("files.write", {"path": f"{HIDING}.txt", "text": f"safe{HIDING}\n\tend\rbegin\n"}),
    "a_name_of_several_lines": ("files.write", {"path": "a\n  risk       low\n.txt", "text": "x"}),
    "long": ("files.write", {"path": "long.txt", "text": "".join(f"{number:04} " for number in range(200)) + "\n"}),
}


def prompt(shell: Shell, name: str) -> str:
    """Return what is shown of one call, up to where the person types."""
    (shell.folder / "notes.txt").write_text("one\ntwo\nthree\n")
    (shell.folder / ".env").write_text("KEY=1\n")
    tool, arguments = CALLS[name]
    model = shell.script({"calls": [{"tool": tool, "arguments": arguments}]}, {"text": "so be it"})
    end = ENDS[tool == "ask_user"]
    with shell.terminal("run", "--model", model, "go") as terminal:
        terminal.expect("it was asked for by name\n")
        shown = terminal.expect(end) + end
        terminal.type("\x04")
        assert terminal.ends() == 0
    (asked,) = shell.bodies("ApprovalRequested")
    assert asked["prompt"] in shown, "the tape holds something else than was shown"
    return shown.replace(str(shell.folder), "/FOLDER").replace(__version__, "VERSION") + "\n"


@pytest.mark.parametrize("name", CALLS)
def test_a_person_reads_what_they_always_read(shell: Shell, name: str) -> None:
    assert prompt(shell, name) == (GOLDEN / f"{name}.txt").read_text("utf-8")


def test_every_recorded_prompt_is_shown() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CALLS)


def _record() -> None:
    for name in CALLS:
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.txt").write_text(prompt(Shell.below(Path(folder)), name), "utf-8")


if __name__ == "__main__":
    _record()
