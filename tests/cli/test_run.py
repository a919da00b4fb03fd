import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from palyra_trio.journal.store import lock_state_dir
from tests.cli.conftest import Palyra
from tests.processes import Shell, read_call, write_call
from tests.providers.fake_openai import Exchange, chunk, fake_openai

ANSWERED = {"text": "so be it"}
HANGS = {"deltas": ["thinking"], "hang": True}


# --- one run ---


def test_without_a_model_the_rules_answer_and_say_so(shell: Shell) -> None:
    (shell.folder / "README.md").write_text("# Title\nbody\n")
    done = shell.run("run", "list the files here, then read README.md and show the first lines")
    assert done.returncode == 0
    assert "README.md" in done.stdout
    assert "# Title" in done.stdout
    assert "fixed rules" in done.stdout
    assert "There is no language model" in done.stderr
    run_id = done.stderr.split()[-1]
    assert done.stderr.endswith(f"tape: palyra-trio tape {run_id}\n")
    assert shell.tape(run_id)[-1]["kind"] == "RunFinished"
    shell.assert_verifies()


def test_the_prompt_may_come_from_stdin(shell: Shell) -> None:
    for arguments in (["run"], ["run", "-"]):
        done = shell.run(*arguments, stdin=b"what time is it")
        assert (done.returncode, shell.bodies("Input")[0]["text"]) == (0, "what time is it")


def test_bytes_on_stdin_that_are_not_text_are_spelled_out(shell: Shell) -> None:
    assert shell.run("run", "--model", shell.script(ANSWERED), stdin=b"a\xff\x00\x1b").returncode == 0
    assert shell.bodies("Input")[0]["text"] == "a\\xff\0\x1b"


@pytest.mark.parametrize("stdin", [b"", b" \n\t "])
def test_an_empty_prompt_is_a_fault_of_usage(shell: Shell, stdin: bytes) -> None:
    done = shell.run("run", stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the prompt is empty" in done.stderr


@pytest.mark.slow
def test_a_huge_prompt_is_taken_whole(shell: Shell) -> None:
    text = b"0123456789abcdef" * 2**17
    assert shell.run("run", "--model", shell.script(ANSWERED), stdin=text).returncode == 0
    assert shell.bodies("Input")[0]["text"] == text.decode()


def test_json_is_one_object_on_stdout_and_the_rest_is_on_stderr(shell: Shell) -> None:
    done = shell.run("run", "--json", "--model", shell.script(ANSWERED), "go")
    said = json.loads(done.stdout)
    assert said["answer"] == "so be it"
    assert (said["state"], said["exit_status"], said["provider"]) == ("done", 0, "scripted")
    assert said["last_seq"] == len(shell.tape(said["run_id"]))
    assert "model scripted/" in done.stderr


def test_jsonl_is_the_tape_row_by_row(shell: Shell) -> None:
    done = shell.run("run", "--jsonl", "--model", shell.script(read_call("none"), ANSWERED), "go")
    assert done.returncode == 0
    assert done.stdout == shell.run("tape", "last", "--jsonl").stdout
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["seq"] for row in rows] == [*range(1, len(rows) + 1)]
    assert (rows[0]["kind"], rows[-1]["kind"]) == ("Input", "RunFinished")


def test_files_can_be_attached(shell: Shell) -> None:
    (shell.folder / "a.txt").write_bytes(b"what it says")
    done = shell.run("run", "--file", "a.txt", "--file", "a.txt", "--model", shell.script(ANSWERED), "look")
    assert done.returncode == 0
    one, two = shell.bodies("Input")[0]["attachments"]
    assert one == two
    assert (one["name"], one["media_type"], one["size_bytes"]) == ("a.txt", "text/plain", 12)


def test_a_file_that_cannot_be_attached_is_named(shell: Shell) -> None:
    done = shell.run("run", "--file", "none.txt", "look")
    assert done.returncode == 2
    assert "none.txt cannot be attached: No such file" in done.stderr


@pytest.mark.slow
def test_a_file_without_end_is_too_large_to_be_attached(shell: Shell) -> None:
    done = shell.run("run", "--file", "/dev/zero", "look", environ={"PALYRA_ATTACHMENTS__MAX_BYTES": "1000"})
    assert done.returncode == 2
    assert "at most 1000" in done.stderr


def test_yes_to_allows_a_tool_without_asking(shell: Shell) -> None:
    model = shell.script(write_call("a.txt", "x"), ANSWERED)
    assert shell.run("run", "--yes-to", "files.write", "--model", model, "go").returncode == 0
    assert (shell.folder / "a.txt").read_text() == "x"


# --- how it ends ---


@pytest.mark.parametrize(
    ("turn", "status", "said"),
    [
        ({"error": {"kind": "overloaded", "message": "no room"}}, 6, "no room"),
        ({"text": " "}, 1, "final_answer_contract"),
        (write_call("a.txt", "x"), 4, "allow it with --yes-to files.write"),
    ],
    ids=["provider", "contract", "approval"],
)
def test_the_exit_status_says_how_the_run_ended(shell: Shell, turn: dict[str, Any], status: int, said: str) -> None:
    done = shell.run("run", "--model", shell.script(turn, loop=True), "go")
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr or said in str(shell.bodies("RunFinished"))


def test_a_limit_has_a_status_of_its_own(shell: Shell) -> None:
    done = shell.run(
        "run", "--model", shell.script(read_call("x"), loop=True), "go", environ={"PALYRA_LIMITS__TURNS": "2"}
    )
    assert done.returncode == 5
    assert "limit reached: 2 turns" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--after", "3", "x"], 2),
        (["--attach", "last", "x"], 2),
        (["--attach", "last", "--after", "-1"], 2),
        (["--session", "a", "--continue", "x"], 2),
        (["--wrong", "x"], 2),
        (["--run-id", "not-an-id", "what time is it"], 2),
        (["--attach", "last"], 1),
        (["--continue", "x"], 1),
        (["--workspace", "none", "x"], 3),
        (["--model", "anthropic/claude", "x"], 78),
        (["--model", "scripted/none.json", "x"], 78),
        (["--agent", "nobody", "x"], 1),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_a_line_or_two(palyra: Palyra, arguments: list[str], status: int) -> None:
    result = palyra("run", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert "rror: " in result.stderr
    assert "fault of palyra-trio" not in result.stderr


def test_two_forms_at_once_are_a_fault_of_usage(shell: Shell) -> None:
    done = shell.run("run", "--json", "--jsonl", "x")
    assert (done.returncode, json.loads(done.stderr)["error"]["code"]) == (2, "usage")


def test_a_key_for_a_provider_that_is_not_supported_is_said_plainly(shell: Shell) -> None:
    done = shell.run("run", "list the files here", environ={"ANTHROPIC_API_KEY": "k"})
    assert done.returncode == 78
    assert "anthropic is not supported yet" in done.stderr


def test_wrong_configuration_is_told_whole(shell: Shell) -> None:
    done = shell.run("run", "x", environ={"PALYRA_LIMITS__TURNS": "many", "PALYRA_NO_SUCH": "1"})
    assert done.returncode == 78
    assert "PALYRA_LIMITS__TURNS" in done.stderr
    assert "PALYRA_NO_SUCH" in done.stderr


# --- sessions ---


def says(text: str) -> Any:
    async def handle(exchange: Exchange) -> None:
        await exchange.events(chunk({"content": text}), chunk({}, "stop"))

    return handle


@pytest.mark.parametrize("again", [["--continue"], ["--session", "notes"]], ids=" ".join)
async def test_a_session_goes_on_with_what_was_said(shell: Shell, again: list[str]) -> None:
    async with fake_openai(says("I will remember."), says("It is blue.")) as server:
        ask = partial(shell.run, "run", "--model", "openai/gpt-test", environ={"OPENAI_BASE_URL": server.base_url})
        first = await trio.to_thread.run_sync(partial(ask, "--session", "notes", "my color is blue"))
        second = await trio.to_thread.run_sync(partial(ask, *again, "which color?"))
    assert (first.returncode, second.returncode, second.stdout) == (0, 0, "It is blue.\n")
    told = [(each["role"], each["content"]) for each in server.asked[1].json["messages"]]
    assert told[1:] == [
        ("user", "my color is blue"),
        ("assistant", "I will remember."),
        ("user", "which color?"),
    ]


def test_a_run_id_that_is_used_again_shows_the_run_that_there_is(shell: Shell) -> None:
    run_id = "01HZZZZZZZ0000000000000077"
    ask = ["run", "--run-id", run_id, "--model", shell.script(ANSWERED)]
    first, second = shell.run(*ask, "go"), shell.run(*ask, "go")
    assert (first.returncode, first.stdout) == (second.returncode, second.stdout) == (0, "so be it\n")
    assert len(shell.runs()) == 1
    other = shell.run(*ask, "something else")
    assert other.returncode == 1
    assert "another payload" in other.stderr


def test_attaching_shows_the_rows_after_one(shell: Shell) -> None:
    assert shell.run("run", "--model", shell.script(ANSWERED), "go").returncode == 0
    assert shell.run("run", "--attach", "last").stdout == "so be it\n"
    after = shell.run("run", "--attach", "last", "--after", "3", "--jsonl")
    assert after.stdout == shell.run("tape", "last", "--after", "3", "--jsonl").stdout
    assert json.loads(after.stdout.splitlines()[0])["seq"] == 4
    assert shell.run("run", "--attach", "last", "--after", "999").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["followup", "interrupt", "reject"])
def test_a_session_that_is_not_busy_takes_a_run_in_every_mode(shell: Shell, mode: str) -> None:
    done = shell.run("run", "--when-busy", mode, "--model", shell.script(ANSWERED), "--session", "s", "go")
    assert (done.returncode, done.stdout) == (0, "so be it\n")


# --- workspaces ---


def test_no_folder_that_holds_more_than_a_project_is_a_workspace_unless_it_is_named(shell: Shell) -> None:
    (shell.root / "link").symlink_to(shell.home)
    for folder in (Path("/"), shell.home, shell.root, shell.root / "link"):
        done = shell.run("run", "what time is it", cwd=folder)
        assert done.returncode == 3, folder
        assert "name it with --workspace" in done.stderr
    done = shell.run("run", "--workspace", str(shell.home), "what time is it", cwd=shell.home)
    assert done.returncode == 0


@pytest.mark.slow
def test_a_home_behind_a_link_is_still_the_home(shell: Shell) -> None:
    (shell.root / "link").symlink_to(shell.home)
    assert (
        shell.run("run", "what time is it", cwd=shell.home, environ={"HOME": str(shell.root / "link")}).returncode == 3
    )


@pytest.mark.slow
def test_the_state_directory_is_found_in_the_workspace_however_it_is_named(shell: Shell) -> None:
    (shell.folder / "sub").mkdir()
    done = shell.run("run", "what time is it", environ={"PALYRA_STATE_DIR": "sub/../state"})
    assert done.returncode == 3
    assert "contains the state directory" in done.stderr


def test_a_file_name_that_is_not_utf_8_harms_nothing(shell: Shell) -> None:
    Path(os.fsdecode(os.fsencode(shell.folder) + b"/caf\xe9.txt")).write_text("black\n")
    done = shell.run("run", "list the files here")
    assert (done.returncode, "caf\\xe9.txt" in done.stdout) == (0, True)
    done = shell.run("run", "--model", shell.script(read_call("caf\\xe9.txt"), ANSWERED), "go")
    assert done.returncode == 0
    assert "black" in shell.bodies("ToolFinished")[0]["text"]


@pytest.mark.slow
def test_neither_does_a_workspace_or_an_attachment_of_such_a_name(shell: Shell) -> None:
    folder = Path(os.fsdecode(os.fsencode(shell.folder) + b"/caf\xe9"))
    folder.mkdir()
    (folder / os.fsdecode(b"\xe9.txt")).write_text("black\n")
    done = shell.run("run", "--file", os.fsdecode(b"\xe9.txt"), "list the files here", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "\\xe9.txt" in done.stdout
    assert shell.bodies("Input")[0]["attachments"][0]["name"] == "\\xe9.txt"
    shell.assert_verifies()


# --- signals ---


def test_ctrl_c_cancels_the_run_and_records_it(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(HANGS), "go") as terminal:
        terminal.expect("thinking")
        terminal.type("\x03")
        terminal.expect("cancelling")
        terminal.expect("tape: palyra-trio tape")
        assert terminal.ends() == 130
    end = shell.tape()[-1]
    assert (end["kind"], end["body"]["state"]) == ("RunFinished", "cancelled")
    assert shell.bodies("CancelRequested")[0]["reason"] == "Ctrl-C"


def test_ctrl_c_withdraws_a_question(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(write_call("a.txt", "x")), "go") as terminal:
        terminal.expect("or a reason why not: ")
        terminal.type("\x03")
        assert terminal.ends() == 130
    assert shell.bodies("ApprovalDecided")[0]["outcome"] == "withdrawn"
    assert not (shell.folder / "a.txt").exists()


def test_sigterm_leaves_the_run_to_be_resumed(shell: Shell) -> None:
    ask = ["run", "--run-id", "01HZZZZZZZ0000000000000077", "--model", shell.script(HANGS), "go"]
    with shell.terminal(*ask, environ={"PALYRA_DAEMON__DRAIN_S": "0"}) as terminal:
        terminal.expect("thinking")
        terminal.signal(signal.SIGTERM)
        assert terminal.ends() == 143
    assert shell.states() == [("go", "interrupted")]
    assert shell.bodies("RunInterrupted")
    shell.assert_verifies()
    # Nobody goes on with it here, so attaching does not wait for ever.
    for arguments in (ask, ["run", "--attach", "last"]):
        again = shell.run(*arguments)
        assert again.returncode == 75
        assert "is interrupted" in again.stderr


@pytest.mark.slow
def test_sigterm_lets_a_run_end_that_is_about_to(shell: Shell) -> None:
    slow = {"deltas": ["think", "ing", " done"], "delta_pause_s": 0.3}
    with shell.terminal("run", "--model", shell.script(slow), "go") as terminal:
        terminal.expect("think")
        terminal.signal(signal.SIGTERM)
        assert terminal.ends() == 143
    assert shell.tape()[-1]["body"]["state"] == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_drain(shell: Shell, number: signal.Signals) -> None:
    with shell.terminal(
        "run", "--model", shell.script(HANGS), "go", environ={"PALYRA_DAEMON__DRAIN_S": "100"}
    ) as terminal:
        terminal.expect("thinking")
        terminal.signal(signal.SIGTERM)
        terminal.expect("shutting down")
        terminal.signal(number)
        assert terminal.ends() == 128 + number
    shell.assert_verifies()
    assert shell.states() == [("go", "interrupted")]


def test_a_second_process_is_served_by_the_first_with_a_model_of_its_own(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(HANGS), "go") as terminal:
        terminal.expect("thinking")
        second = shell.run("run", "what time is it")
        assert second.returncode == 0, second.stderr
        assert "model offline/rules" in second.stderr
        with shell.process("run", "--attach", shell.runs()[0].run_id) as attached:
            assert attached.stderr is not None
            assert "model scripted/" in attached.stderr.readline()
            terminal.type("\x03")
            assert terminal.ends() == 130
            assert attached.wait() == 130
    shell.assert_verifies()
    assert shell.states() == [("go", "cancelled"), ("what time is it", "done")]


@pytest.mark.slow
def test_a_process_that_holds_the_journal_and_serves_nobody_is_named(shell: Shell) -> None:
    lock = lock_state_dir(shell.state_dir)
    try:
        done = shell.run("run", "what time is it")
    finally:
        os.close(lock)
    assert done.returncode == 75
    assert f"in use by process {os.getpid()}" in done.stderr


# --- where it is told ---


def test_a_reader_that_has_seen_enough_is_no_error(shell: Shell) -> None:
    model = shell.script({"repeat": {"text": "line\n", "times": 20_000}})
    done = shell.sh(f"$P run --model {model} --jsonl go | head -1")
    assert (done.returncode, done.stderr.count("rror")) == (0, 0)
    assert json.loads(done.stdout)["seq"] == 1
    shell.assert_verifies()


SLOWLY = [pytest.param(closed, marks=pytest.mark.slow) for closed in ("<&-", ">&-", "2>&-")]


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", *SLOWLY])
def test_a_stream_that_the_caller_closed_is_done_without(shell: Shell, closed: str) -> None:
    done = shell.sh(f'$P run "what time is it" {closed}')
    assert done.returncode == 0, done.stderr
    assert ("It is" in done.stdout or "T" in done.stdout) == (">&- " not in f"{closed} ".replace("2>&-", ""))
    shell.assert_verifies()


@pytest.mark.slow
def test_a_disk_that_takes_no_output_is_the_error_that_it_is(shell: Shell) -> None:
    done = shell.sh('$P run "what time is it" >/dev/full')
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "fault of palyra-trio" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "environ",
    [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONWARNINGS": "error"}, {"TERM": "weird"}],
    ids=lambda environ: " ".join(environ),
)
def test_surroundings_that_are_odd_do_not_matter(shell: Shell, environ: dict[str, str]) -> None:
    done = shell.run("run", "--model", shell.script({"text": "na\xefve \u201c\U0001f600\u201d"}), "go", environ=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("na")


@pytest.mark.slow
def test_color_is_for_terminals_that_want_it(shell: Shell) -> None:
    for environ, colored in (({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)):
        with shell.terminal(
            "run", "--model", shell.script(ANSWERED), "go", environ={"NO_COLOR": "", **environ}
        ) as terminal:
            assert terminal.ends() == 0
        assert ("\x1b[" in terminal.shown) is colored, environ


@pytest.mark.slow
def test_a_narrow_terminal_loses_nothing(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(ANSWERED), "go", columns=5) as terminal:
        terminal.expect("so be it")
        assert terminal.ends() == 0
