"""What is asked before a command goes on the bus: what may be recorded, and what is not for everybody to name."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.commands import (
    ArchiveSession,
    BindAgent,
    CancelRun,
    CreateToken,
    DecideApproval,
    DefineAgent,
    PauseAdmission,
    RemoveAgent,
)
from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.identity import Principal, RunId, SessionId
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.checks import recordable
from tests.fakes import ME, OTHER, SECRET, FakeProvider, in_session, open_fake_runtime, says

REMOTE = attrs.evolve(ME, local=False)


@pytest.mark.parametrize("command", [CancelRun(RunId("r")), DecideApproval("a", granted=False), PauseAdmission()])
def test_what_a_person_wrote_is_redacted_and_cleaned(command: Any) -> None:
    written = attrs.evolve(command, reason=f"my key is {SECRET} \udcff")
    assert recordable(written, Redactor()) == attrs.evolve(command, reason="my key is [redacted:openai_key] \\xff")


def test_a_secret_in_the_name_or_model_of_what_is_made_is_redacted() -> None:
    token = CreateToken(f"for {SECRET}", "user:me", ("read",))
    assert recordable(token, Redactor()) == attrs.evolve(token, name="for [redacted:openai_key]")
    agent = DefineAgent(AgentSpec("a", model=SECRET))
    assert recordable(agent, Redactor()) == DefineAgent(AgentSpec("a", model="[redacted:openai_key]"))


@pytest.mark.parametrize(
    "command",
    [
        DefineAgent(AgentSpec(SECRET)),
        BindAgent(BindingPlace(Target.CHANNEL, SECRET), "default"),
        CreateToken("phone", Principal(f"user:{SECRET}"), ("read",)),
    ],
)
def test_a_name_that_is_looked_up_is_refused_with_a_secret_in_it_and_not_repeated(command: Any) -> None:
    with pytest.raises(InvalidArgument, match="holds a secret") as refused:
        recordable(command, Redactor())
    assert refused.value.remedy
    assert SECRET not in str(refused.value)


def test_what_no_tape_can_hold_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot be recorded"):
        recordable(RemoveAgent("\udcff"), Redactor())


async def test_only_the_local_user_defines_an_agent_whose_model_is_a_file_of_this_machine(tmp_path: Path) -> None:
    agent = AgentSpec("player", model="scripted/turns.json")
    async with open_fake_runtime(tmp_path) as runtime:
        runtime.models["scripted/turns.json"] = FakeProvider(says("from the file"))
        with pytest.raises(InvalidArgument, match="names a file") as refused:
            await runtime.do(DefineAgent(agent), REMOTE)
        assert refused.value.remedy
        with pytest.raises(NotFound):
            await runtime.gateway.agent("player")
        await runtime.do(DefineAgent(agent))
        await runtime.run(agent="player")
        await runtime.do(DefineAgent(attrs.evolve(agent, model="openai/scripted/x")), REMOTE)


async def test_a_session_of_anothers_is_not_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        hers = await runtime.start()
        await runtime.ended(hers.run_id)
        unknown = SessionId("01JZZZZZZZZZZZZZZZZZZZZZZZ")
        told: dict[SessionId, list[str]] = {hers.session_id: [], unknown: []}
        for session_id, refusals in told.items():
            for attempt in (
                runtime.do(ArchiveSession(session_id), OTHER),
                runtime.do(BindAgent(BindingPlace(Target.SESSION, session_id), "default"), OTHER),
                runtime.gateway.answering(session_id, OTHER),
                runtime.start(context=OTHER, session=attrs.evolve(in_session(hers), session_id=session_id)),
            ):
                with pytest.raises(NotFound) as refused:
                    await attempt
                refusals.append(str(refused.value).replace(session_id, "ID"))
        assert told[hers.session_id] == told[unknown]
