"""Which agent answers a run that names none: what is bound, in its order, then the default, then the built-in one."""

from pathlib import Path

import attrs
import pytest

from palyra_trio.core.agents import AS_CONFIGURED, DEFAULT_AGENT, AgentSpec, Limits
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.commands import BindAgent, DefineAgent, RemoveAgent, SetDefaultAgent, UnbindAgent
from palyra_trio.core.errors import InvalidArgument, NotFound, StateConflict
from palyra_trio.core.identity import RequestContext, SessionId
from palyra_trio.core.system_events import AgentDefined
from palyra_trio.core.tape import SYSTEM_STREAM, Input
from palyra_trio.guard.redactor import Redactor, has_marker
from palyra_trio.guard.vault import Scope
from palyra_trio.runtime.agents import recordable_agent
from tests.fakes import CONFIG, ME, OTHER, SECRET, FakeProvider, Runtime, in_session, open_fake_runtime, says
from tests.guard.test_vault_store import make_store

CHANNEL, PRINCIPAL = BindingPlace(Target.CHANNEL, ME.channel), BindingPlace(Target.PRINCIPAL, ME.principal)
ELSEWHERE = attrs.evolve(ME, channel="elsewhere")


async def define(runtime: Runtime, *names: str) -> None:
    for name in names:
        await runtime.do(DefineAgent(AgentSpec(name)))


async def answers(runtime: Runtime, session_id: str | None = None, context: RequestContext = ME) -> tuple[str, str]:
    found = await runtime.gateway.answering(SessionId(session_id) if session_id else None, context)
    return found.agent.spec.name, found.bound_to or "default"


async def test_the_session_decides_before_the_channel_and_the_channel_before_the_principal(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await define(runtime, "a", "b", "c", "d")
        accepted = await runtime.start()
        await runtime.ended(accepted.run_id)
        assert await answers(runtime, accepted.session_id) == ("default", "default")
        await runtime.do(SetDefaultAgent("d"))
        assert await answers(runtime, accepted.session_id) == ("d", "default")
        await runtime.do(BindAgent(PRINCIPAL, "c"))
        assert await answers(runtime, accepted.session_id) == ("c", "principal")
        await runtime.do(BindAgent(CHANNEL, "b"))
        assert await answers(runtime, accepted.session_id) == ("b", "channel")
        session = BindingPlace(Target.SESSION, accepted.session_id)
        await runtime.do(BindAgent(session, "a"))
        assert await answers(runtime, accepted.session_id) == ("a", "session")
        assert await answers(runtime) == ("b", "channel")
        assert await answers(runtime, context=ELSEWHERE) == ("c", "principal")
        assert await answers(runtime, context=attrs.evolve(OTHER, channel="elsewhere")) == ("d", "default")
        for place in (session, CHANNEL, PRINCIPAL):
            await runtime.do(UnbindAgent(place))
        assert await answers(runtime, accepted.session_id) == ("d", "default")


async def test_a_run_is_answered_by_the_agent_that_is_bound_unless_it_names_one(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await define(runtime, "a", "b")
        await runtime.do(BindAgent(CHANNEL, "a"))
        assert (await runtime.run()).one(Input).agent.name == "a"
        assert (await runtime.run(agent="b")).one(Input).agent.name == "b"
        accepted = await runtime.start(context=ELSEWHERE)
        assert (await runtime.ended(accepted.run_id)).one(Input).agent.name == "default"
        await runtime.do(BindAgent(BindingPlace(Target.SESSION, accepted.session_id), "b"))
        assert (await runtime.run(session=in_session(accepted))).one(Input).agent.name == "b"


async def test_another_agent_takes_the_place_of_the_one_that_was_bound(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await define(runtime, "a", "b")
        await runtime.do(BindAgent(CHANNEL, "a"))
        await runtime.do(BindAgent(CHANNEL, "b"))
        assert await answers(runtime) == ("b", "channel")
        await runtime.do(BindAgent(CHANNEL, DEFAULT_AGENT.name))
        assert await answers(runtime) == ("default", "channel")


async def test_an_agent_that_is_removed_is_bound_no_longer(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await define(runtime, "a")
        await runtime.do(BindAgent(CHANNEL, "a"))
        await runtime.do(RemoveAgent("a"))
        assert await answers(runtime) == ("default", "default")
        with pytest.raises(StateConflict, match="no agent is bound"):
            await runtime.do(UnbindAgent(CHANNEL))


async def test_the_built_in_agent_is_not_removed_and_it_is_said_why(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(StateConflict, match="'default' comes with the program and was not changed") as refused:
            await runtime.do(RemoveAgent("default"))
        assert refused.value.remedy == "make another agent the default one instead"


async def test_the_limits_that_an_agent_does_not_set_follow_the_configuration(tmp_path: Path) -> None:
    raised = attrs.evolve(CONFIG, limits=Limits(turns=70, tool_calls=400, active_s=61, tool_s=11))
    own = attrs.evolve(AS_CONFIGURED, turns=CONFIG.limits.turns + 1)
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.do(DefineAgent(AgentSpec("own", limits=own)))
        assert [agent.limits for agent in await runtime.gateway.agents()] == [CONFIG.limits, CONFIG.limits]
        runtime.gateway.reload(raised, lambda _folder: raised)
        default, found = await runtime.gateway.agents()
        assert default.limits == (await runtime.run()).one(Input).agent.limits == raised.limits
        narrowed = attrs.evolve(raised.limits, turns=own.turns)
        assert found.limits == (await runtime.run(agent="own")).one(Input).agent.limits == narrowed
        assert found.spec.limits == own


async def test_the_built_in_agent_takes_over_what_was_bound_to_a_redefined_default(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await define(runtime, "a", "default")
        await runtime.do(SetDefaultAgent("a"))
        await runtime.do(BindAgent(CHANNEL, "default"))
        await runtime.do(RemoveAgent("default"))
        assert await answers(runtime) == ("default", "channel")
        assert (await runtime.gateway.agent("default")).spec.instructions == DEFAULT_AGENT.instructions
        await runtime.do(UnbindAgent(CHANNEL))
        assert await answers(runtime) == ("a", "default")


async def test_what_cannot_be_bound_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        mine = await runtime.start()
        await runtime.ended(mine.run_id)
        session = BindingPlace(Target.SESSION, mine.session_id)
        with pytest.raises(StateConflict, match="there is no agent 'nobody'"):
            await runtime.do(BindAgent(CHANNEL, "nobody"))
        with pytest.raises(InvalidArgument):
            await runtime.do(BindAgent(BindingPlace(Target.CHANNEL, ""), "default"))
        for command in (BindAgent(session, "default"), UnbindAgent(session)):
            with pytest.raises(NotFound):
                await runtime.do(command, OTHER)
        with pytest.raises(NotFound):
            await runtime.gateway.answering(mine.session_id, OTHER)


async def test_a_name_that_is_taken_is_defined_anew_only_when_that_is_asked_for(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.do(DefineAgent(AgentSpec("a", model="x/one"), replace=False))
        with pytest.raises(StateConflict, match="there is an agent 'a' already"):
            await runtime.do(DefineAgent(AgentSpec("a", model="x/two"), replace=False))
        assert (await runtime.gateway.agent("a")).spec.model == "x/one"
        await runtime.do(DefineAgent(AgentSpec("a", model="x/two")))
        assert (await runtime.gateway.agent("a")).spec.model == "x/two"


async def test_the_built_in_agent_is_one_of_them_with_the_configured_limits_until_it_is_redefined(
    tmp_path: Path,
) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await define(runtime, "zed", "abe")
        known = await runtime.gateway.agents()
        assert [(agent.spec.name, agent.is_default) for agent in known] == [
            ("abe", False),
            ("default", True),
            ("zed", False),
        ]
        assert (known[1].spec, known[1].limits) == (DEFAULT_AGENT, CONFIG.limits)
        await runtime.do(DefineAgent(AgentSpec("default", instructions="mine")))
        assert (await runtime.gateway.agent("default")).spec.instructions == "mine"
        assert (await runtime.run()).one(Input).agent.instructions == "mine"
        with pytest.raises(NotFound, match="there is no agent 'nobody'"):
            await runtime.gateway.agent("nobody")


# --- secrets in an agent ---

KEPT = "correct horse battery"
PASTED = AgentSpec(
    "pasted",
    instructions=f"Send {SECRET} along, and {KEPT}.",
    answer_schema={"type": "object", "description": SECRET, "default": {"password": "hunter2"}},
)


async def test_a_secret_in_an_agent_is_masked_wherever_it_is_recorded_sent_or_shown(tmp_path: Path) -> None:
    store, provider = make_store(tmp_path), FakeProvider(says("{}"))
    async with open_fake_runtime(tmp_path, provider, vault=store) as runtime:
        store.change(lambda vault: vault.with_secret("K", KEPT, Scope(ME.principal), 1))  # by another process, just now
        await runtime.do(DefineAgent(PASTED))
        shown = (await runtime.gateway.agent("pasted")).spec
        rows = await runtime.gateway.ask(lambda reader: reader.page(SYSTEM_STREAM, 0))
        (recorded,) = [event.spec for row in rows if isinstance(event := row.event(), AgentDefined)]
        asked = (await runtime.run(agent="pasted")).one(Input).agent
    assert recorded == shown == attrs.evolve(asked, limits=shown.limits)
    assert has_marker(provider.requests[0].messages[0].text)
    assert (shown.answer_schema or {})["type"] == "object"
    journal = (tmp_path / "state" / "journal.sqlite3").read_bytes()
    for secret in (SECRET, KEPT, "hunter2"):
        assert secret.encode() not in journal
        assert secret not in str(provider.requests)


async def test_what_the_vault_got_after_an_agent_was_defined_is_masked_in_its_runs(tmp_path: Path) -> None:
    store, provider = make_store(tmp_path), FakeProvider(says("{}"))
    async with open_fake_runtime(tmp_path, provider, vault=store) as runtime:
        await runtime.do(DefineAgent(AgentSpec("early", instructions=f"Say {KEPT}.")))
        store.change(lambda vault: vault.with_secret("K", KEPT, Scope(ME.principal), 1))
        tape = await runtime.run(agent="early")
    assert has_marker(tape.one(Input).agent.instructions)
    assert KEPT not in str(provider.requests)


def test_an_agent_without_a_secret_is_recorded_as_it_is_and_a_masked_one_too() -> None:
    redactor = Redactor()
    assert recordable_agent(DEFAULT_AGENT, redactor) == DEFAULT_AGENT
    masked = recordable_agent(PASTED, redactor)
    assert masked != PASTED
    assert recordable_agent(masked, redactor) == masked
