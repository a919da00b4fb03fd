"""Going over to a run that there is: one that waits for the person, with and without a process that runs it."""

import json
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.cli.attach import follow
from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.commands import Applied, Command, Reply, TakeUpRun
from palyra_trio.core.errors import NoDaemon
from palyra_trio.core.identity import Principal, RequestContext, RunId, SessionId
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Correction, RunFinished
from tests.processes import Shell, write_call

ANSWERED = {"text": "so be it"}
ASKED = "or a reason why not: "


@contextmanager
def serving(shell: Shell) -> Generator["subprocess.Popen[str]"]:
    with shell.process("serve", "--port", "0") as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("ready ")
        yield daemon
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0


def detached(shell: Shell, *turns: dict[str, Any]) -> str:
    """Leave a run to the daemon, and return its id once it waits."""
    run_id = shell.run("run", "--detach", "--model", shell.script(*turns, ANSWERED), "go").stdout.strip()
    shell.until_waiting(run_id)
    return run_id


def both(*paths: str) -> dict[str, Any]:
    return {"calls": [call for path in paths for call in write_call(path, "x")["calls"]]}


def test_the_open_questions_are_put_after_what_the_tape_holds(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, both("a", "b"))
        with shell.terminal("run", "--attach", run_id) as terminal:
            before = terminal.expect("question 1 of 2")
            assert "it was asked for by name" in before
            terminal.expect(ASKED)
            terminal.type("y\n")
            terminal.expect("question 2 of 2")
            terminal.expect(ASKED)
            terminal.type("not b\n")
            terminal.expect("so be it")
            assert terminal.ends() == 0
    assert (shell.folder / "a").exists()
    assert not (shell.folder / "b").exists()


def test_a_question_is_put_even_where_its_row_was_seen_already(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a", "x"))
        last = str(len(shell.tape(run_id)))
        with shell.terminal("run", "--attach", run_id, "--after", last) as terminal:
            assert "it was asked for by name" not in terminal.expect(ASKED)
            terminal.type("y\n")
            assert terminal.ends() == 0


def test_leaving_leaves_the_run_waiting_and_the_next_terminal_goes_on(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a", "x"))
        with shell.terminal("run", "--attach", run_id) as terminal:
            terminal.expect(ASKED)
            terminal.type("\x03")
            assert terminal.ends() == 130
        assert shell.states() == [("go", "waiting")]
    # With nobody there, the run is taken up here.
    for typed, status in (("\x03", 130), ("y\n", 0)):
        with shell.terminal("run", "--attach", run_id) as terminal:
            terminal.expect(ASKED)
            terminal.type(typed)
            assert terminal.ends() == status
    assert shell.states() == [("go", "done")]
    assert (shell.folder / "a").exists()
    shell.assert_verifies()


def test_an_answer_that_came_meanwhile_is_acted_on_at_once(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a", "x"))
    (asked,) = shell.bodies("ApprovalRequested", run_id)
    assert shell.run("approvals", "deny", asked["approval_id"], "--reason", "no").returncode == 0
    attached = shell.run("run", "--attach", run_id)
    assert (attached.returncode, attached.stdout) == (0, "so be it\n")
    assert "denied  no" in attached.stderr


def test_without_a_terminal_it_is_said_what_to_do_and_the_answer_is_waited_for(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a", "x"))
        (asked,) = shell.bodies("ApprovalRequested", run_id)
        with shell.process("run", "--attach", run_id) as attached:
            assert attached.stderr is not None
            while "approvals show" not in (line := attached.stderr.readline()):
                assert line
            assert asked["approval_id"] in line
            assert shell.run("approvals", "allow", asked["approval_id"]).returncode == 0
            assert attached.communicate()[0] == "so be it\n"
            assert attached.returncode == 0


# --- when the process that runs it leaves ---


def test_a_question_outlives_the_terminal_whose_process_ran_the_run(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(write_call("a", "x"), ANSWERED), "one") as first:
        first.expect(ASKED)
        model = shell.script(write_call("b", "x"), ANSWERED)
        with shell.terminal("run", "--model", model, "two") as second:
            second.expect(ASKED)
            first.type("y\n")
            assert first.ends() == 0
            assert shell.states() == [("one", "done"), ("two", "waiting")]
            second.type("y\n")
            second.expect("so be it")
            assert second.ends() == 0
    assert shell.states() == [("one", "done"), ("two", "done")]
    shell.assert_verifies()


@attrs.define
class LeavingDoor:
    """A door to a process that leaves after the first row; whoever takes the run up tells the rest. `gone` after that."""

    rows: tuple[TapeRow, ...]
    gone: bool = False
    asked_from: list[int] = attrs.Factory(list)
    taken_up: list[Command] = attrs.Factory(list)

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        await trio.lowlevel.checkpoint()
        if self.gone:
            raise NoDaemon("nobody")
        self.taken_up.append(command)
        return Applied()

    @asynccontextmanager
    async def following(self, run_id: RunId, after_seq: int, context: RequestContext) -> AsyncGenerator["LeavingDoor"]:
        self.asked_from.append(after_seq)
        yield self

    async def next_rows(self) -> tuple[TapeRow, ...]:
        await trio.lowlevel.checkpoint()
        if len(self.asked_from) == 1 and self.rows[0].seq == 1:
            first, *rest = self.rows
            self.rows = tuple(rest)
            return (first,)
        if not self.taken_up:
            raise NoDaemon("it went away")
        return self.rows

    async def session_named(self, text: str, context: RequestContext) -> SessionId:
        raise NotImplementedError


CONTEXT = RequestContext(Principal("user:me"))
ROWS = tuple(
    TapeRow(seq, "run:R", seq, event.kind, 0, encode(event), b"")
    for seq, event in enumerate(
        (Correction("one"), Correction("two"), RunFinished(RunState.RUNNING, RunState.DONE, "")), 1
    )
)


async def test_a_follower_takes_the_run_up_that_its_process_left_and_sees_every_row_once() -> None:
    door, seen = LeavingDoor(ROWS), list[int]()
    ended = await follow(door, CONTEXT, RunId("R"), lambda row, _event: seen.append(row.seq))
    assert ended.state is RunState.DONE
    assert (seen, door.asked_from, door.taken_up) == ([1, 2, 3], [0, 1], [TakeUpRun(RunId("R"))])


async def test_where_nobody_can_take_it_up_there_is_no_daemon() -> None:
    with pytest.raises(NoDaemon, match="nobody"):
        await follow(LeavingDoor(ROWS, gone=True), CONTEXT, RunId("R"), lambda _row, _event: None)


# --- runs resume ---


def test_resuming_goes_on_as_far_as_the_answers_reach(shell: Shell) -> None:
    with serving(shell):
        run_id = detached(shell, write_call("a", "x"), write_call("b", "x"))
    waits = shell.run("runs", "resume", run_id)
    assert (waits.returncode, waits.stdout) == (0, f"run {run_id} is waiting: approval\n")
    assert "palyra-trio approvals list" in waits.stderr
    for count, word in ((1, "waiting"), (2, "done")):
        asked = shell.bodies("ApprovalRequested", run_id)
        assert len(asked) == count
        assert shell.run("approvals", "allow", asked[-1]["approval_id"]).returncode == 0
        resumed = json.loads(shell.run("runs", "resume", run_id, "--json").stdout)
        assert (resumed["run_id"], resumed["state"]) == (run_id, word)
    assert (shell.folder / "b").exists()
    again = shell.run("runs", "resume", run_id)
    assert again.returncode == 1
    assert f"run {run_id} is done" in again.stderr
    shell.assert_verifies()


# --- run --detach ---


def test_a_run_is_left_to_a_daemon_only(shell: Shell) -> None:
    alone = shell.run("run", "--detach", "go")
    assert (alone.returncode, alone.stdout) == (69, "")
    assert "palyra-trio serve" in alone.stderr
    assert not shell.journal.exists()


@pytest.mark.parametrize("option", ["--no-input", "--jsonl"])
def test_what_has_no_meaning_for_a_run_that_is_left_is_refused(shell: Shell, option: str) -> None:
    assert shell.run("run", "--detach", option, "go").returncode == 2
    assert shell.run("run", "--detach", "--attach", "last").returncode == 2


def test_a_run_that_was_left_is_named_and_follows_the_session(shell: Shell) -> None:
    with serving(shell):
        model = shell.script(ANSWERED)
        first = json.loads(shell.run("run", "--detach", "--json", "--session", "k", "--model", model, "go").stdout)
        second = json.loads(shell.run("run", "--detach", "--json", "--session", "k", "--model", model, "on").stdout)
        assert first["session_id"] == second["session_id"]
        assert shell.run("run", "--attach", second["run_id"]).stdout == "so be it\n"
    assert [body["detached"] for body in shell.bodies("Input", first["run_id"])] == [True]
