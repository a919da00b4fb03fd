"""A question of the agent's to the person, from the program that waits for the answer to the model that gets it."""

import json
import os
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from palyra_trio.cli.door import open_remote_door
from palyra_trio.cli.remote import RemoteGateway
from palyra_trio.core.commands import Accepted, Applied, DecideApproval, StartRun
from palyra_trio.core.errors import AlreadyDecided, InvalidArgument
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.core.view import RunView, fold
from tests.processes import PATIENCE_S, Shell

ASKS = {"calls": [{"tool": "ask_user", "arguments": {"question": "Which colour?", "choices": ["red", "blue"]}}]}
DONE = {"text": "so be it"}


@contextmanager
def serving(shell: Shell, environ: Mapping[str, str] | None = None) -> Generator[None]:
    with shell.process("serve", "--port", "0", environ=environ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("ready ")
        yield
        daemon.terminate()
        assert daemon.wait() == 0


class Client:
    """Another surface of the same person, over the Unix socket."""

    def __init__(self, shell: Shell, door: RemoteGateway, context: RequestContext) -> None:
        self._shell, self._door, self._context = shell, door, context

    async def start(self, **fields: Any) -> str:
        command = StartRun("choose", workspace=str(self._shell.folder), model=self._shell.script(ASKS, DONE), **fields)
        accepted = await self._door.submit(command, self._context)
        assert isinstance(accepted, Accepted)
        return accepted.run_id

    async def decide(self, asked: ApprovalRequested, granted: bool, reason: str) -> None:
        decision = DecideApproval(asked.approval_id, granted, reason)
        assert isinstance(await self._door.submit(decision, self._context), Applied)

    async def asked(self, run: str) -> ApprovalRequested:
        """Wait until the run waits for an answer, and return the question."""
        view = await self._until(run, lambda view: view.state is RunState.WAITING)
        assert view.reason == "input"
        asked = view.calls[view.batch[-1]].asked
        assert asked is not None
        assert asked.question
        return asked

    async def ended(self, run: str) -> RunView:
        return await self._until(run, lambda view: view.terminal)

    async def _until(self, run: str, there: Callable[[RunView], bool]) -> RunView:
        view = RunView()
        async with self._door.following(RunId(run), 0, self._context) as rows:
            while not there(view):
                page = await rows.next_rows()
                assert page, f"the run ended: {view.finished}"
                for row in page:
                    if not there(view) and (event := row.event()) is not None:
                        fold(view, event)
        return view


def told(view: RunView) -> str:
    """Return what the model was told of its question."""
    (answer,) = (message.text for message in view.messages if message.role == "tool")
    return answer


def client(shell: Shell, flow: Callable[[Client], Awaitable[None]]) -> None:
    """Let `flow` talk to the process that holds the state directory."""

    async def talk() -> None:
        with trio.fail_after(PATIENCE_S):
            async with open_remote_door(shell.state_dir) as (door, context):
                await flow(Client(shell, door, context))

    trio.run(talk)


def test_the_run_waits_for_input_and_a_choice_can_be_named_by_its_number(shell: Shell) -> None:
    async def flow(me: Client) -> None:
        run = await me.start()
        asked = await me.asked(run)
        assert asked.prompt == "the agent asks:\n  | Which colour?\n  | 1. red\n  | 2. blue"
        listed = json.loads(shell.run("runs", "list", "--json").stdout)["runs"]
        assert [(each["state"], each["reason"]) for each in listed] == [("waiting", "input")]
        await me.decide(asked, True, "2")
        view = await me.ended(run)
        assert (told(view), view.state) == ("blue", RunState.DONE)
        with pytest.raises(AlreadyDecided):
            await me.decide(asked, True, "1")

    with serving(shell):
        client(shell, flow)
    (decided,) = shell.bodies("ApprovalDecided")
    assert (decided["outcome"], decided["reason"]) == ("granted", "2")
    shell.assert_verifies()


@pytest.mark.parametrize(
    ("granted", "answer", "expected"),
    [
        (True, "  green, please ", "green, please"),
        (False, "it is not mine to say", "Refused (denied): it is not mine to say"),
        (False, "", "Refused (denied): no reason was given"),
    ],
)
def test_the_model_is_told_an_answer_in_words_and_why_there_is_none(
    shell: Shell, granted: bool, answer: str, expected: str
) -> None:
    async def flow(me: Client) -> None:
        run = await me.start()
        await me.decide(await me.asked(run), granted, answer)
        view = await me.ended(run)
        assert (told(view), view.state) == (expected, RunState.DONE)

    with serving(shell):
        client(shell, flow)


def test_an_answer_that_says_nothing_is_refused_and_the_question_stays_open(shell: Shell) -> None:
    async def flow(me: Client) -> None:
        run = await me.start()
        asked = await me.asked(run)
        with pytest.raises(InvalidArgument):
            await me.decide(asked, True, " ")
        await me.decide(asked, True, "1")
        assert told(await me.ended(run)) == "red"

    with serving(shell):
        client(shell, flow)


def test_a_question_expires_unless_its_run_is_detached_which_survives_the_daemon(shell: Shell) -> None:
    detached = ""

    async def flow(me: Client) -> None:
        nonlocal detached
        detached = await me.start(detached=True)
        assert (await me.asked(detached)).expires_at_ms == 0
        attended = await me.start()
        assert (await me.asked(attended)).expires_at_ms > 0
        view = await me.ended(attended)
        assert (told(view), view.state) == ("Refused (expired): nobody answered in time", RunState.DONE)

    async def later(me: Client) -> None:
        await me.decide(await me.asked(detached), True, "1")
        view = await me.ended(detached)
        assert (told(view), view.state) == ("red", RunState.DONE)

    with serving(shell, {"PALYRA_APPROVAL__EXPIRES_S": "1"}):
        client(shell, flow)
    assert shell.states()[0] == ("choose", "waiting")
    with serving(shell):
        client(shell, later)
    shell.assert_verifies()


def test_a_run_that_nobody_attends_ends_at_its_question(shell: Shell) -> None:
    done = shell.run("run", "--no-input", "--model", shell.script(ASKS, DONE), "choose")
    assert (done.returncode, done.stdout) == (4, "")
    assert shell.bodies("RunFinished")[0]["reason"] == "approval_expired"
    assert not shell.bodies("ToolStarted")


def test_another_surface_answers_for_who_sits_at_the_terminal(shell: Shell) -> None:
    with shell.terminal("run", "--model", shell.script(ASKS, DONE), "choose") as terminal:
        terminal.expect("Which colour?")

        async def flow(me: Client) -> None:
            run = shell.runs()[0].run_id
            await me.decide(await me.asked(run), True, "2")

        client(shell, flow)
        terminal.expect("so be it")
        assert terminal.ends() == 0
    assert [each["text"] for each in shell.bodies("ToolFinished")] == ["blue"]


def test_a_person_elsewhere_is_notified_by_the_command_of_their_own_configuration(shell: Shell) -> None:
    shell.configure(f"""[notify]\ncommand = ["sh", "-c", 'cat > "$0"', "{shell.root}/told"]\n""")
    os.mkfifo(shell.root / "told")

    async def flow(me: Client) -> None:
        run = await me.start(detached=True)
        notified = json.loads(await trio.to_thread.run_sync((shell.root / "told").read_text, abandon_on_cancel=True))
        (waiting,) = notified["waiting"]
        assert (notified["run_id"], waiting["what"]) == (run, "question")
        await me.decide(await me.asked(run), True, "1")
        await me.ended(run)

    with serving(shell):
        client(shell, flow)
