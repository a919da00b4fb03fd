"""What a new user meets: one request, one question with its diff, and a tape that tells the story in words."""

from tests.processes import Shell

ASKED = "or a reason why not: "


def test_the_first_request_asks_once_shows_the_diff_and_writes(shell: Shell) -> None:
    with shell.terminal("run", "create hello.py") as terminal:
        shown = terminal.expect(ASKED)
        assert "+++ b/hello.py\n" in shown
        assert '+print("Hello, world!")\n' in shown
        terminal.type("y\n")
        terminal.expect("Wrote hello.py")
        assert terminal.ends() == 0
    assert terminal.shown.count(ASKED) == 1
    assert (shell.folder / "hello.py").read_text() == 'print("Hello, world!")\n'
    shell.assert_verifies()


def test_a_no_reaches_the_model_and_the_tape_tells_why_in_words(shell: Shell) -> None:
    with shell.terminal("run", "create hello.py") as terminal:
        terminal.expect(ASKED)
        terminal.type("I keep no Python here\n")
        terminal.expect("I could not write hello.py. Refused (denied): I keep no Python here")
        assert terminal.ends() == 0
    assert not (shell.folder / "hello.py").exists()
    told = iter(shell.run("tape", "last").stdout.splitlines())
    for words in (
        ": create hello.py",
        'files.write {"path": "hello.py"',
        "ask (write-in-workspace): it changes a file, so a person decides",
        "files.write asks: it changes a file, so a person decides",
        "running -> waiting (approval)",
        "denied by user:",
        "waiting -> running",
        "I could not write hello.py",
        "done (final_answer)",
    ):
        assert any(words in line for line in told), words  # in this order
    assert "(I keep no Python here)" in shell.run("tape", "last").stdout
