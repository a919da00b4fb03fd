"""Whatever comes at the same moment, nothing has an effect without a grant that holds, and each approval ends once."""

import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.approvals import Approval, Grant
from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.identity import SessionId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import GrantScope, Pattern
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.session import WhenBusy
from palyra_trio.core.system_events import PolicyLoaded
from palyra_trio.core.tape import (
    SYSTEM_STREAM,
    ApprovalDecided,
    ApprovalRequested,
    PolicyDecision,
    ToolFinished,
    ToolStarted,
)
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.providers.choose import Choice
from palyra_trio.runtime.bus import Submission
from palyra_trio.runtime.checks import check
from palyra_trio.runtime.policies import _swap
from palyra_trio.runtime.runs import REVOKED, Run
from palyra_trio.tools.registry import Plan, Tool
from tests.fakes import ME, FakeArguments, FakeProvider, Runtime, Step, Tape, echo, fake_tool, open_fake_runtime, says
from tests.faults.deciding import BEGAN_S, EXPIRES_S, POLICIES, Op, World, turns

PATIENCE_S = 30.0  # far more than any step takes; only a hang comes to it

# --- around one approval, at random moments ---


def _around_one(chance: random.Random, approval_id: str) -> list[tuple[int, Callable[[World], Awaitable[object]]]]:
    """Return some of those that may meddle with an approval, and when they do."""
    scope = chance.choice(["once", "session", "time"])
    granted = chance.random() < 0.8
    first, second = chance.choices(list(POLICIES), k=2)
    actors: list[Callable[[World], Awaitable[object]]] = [
        lambda world: world.decide(approval_id, True, scope),
        lambda world: world.decide(approval_id, granted),
        lambda world: world.act(("cancel", 0)),
        lambda world: world.act(("reload", first)),
        lambda world: world.act(("reload", second)),
        lambda world: world.revoke(approval_id),
        lambda world: world.revoke(approval_id),
        lambda world: world.act(("pass", EXPIRES_S)),
    ]
    weights = [0.9, 0.7, 0.3, 0.5, 0.3, 0.5, 0.3, 0.2]
    return [(turns(chance), each) for each, weight in zip(actors, weights, strict=True) if chance.random() < weight]


async def _one(world: World, chance: random.Random) -> str:
    """Let them all at one approval, and return how its run ended."""
    kinds = tuple(chance.choice("aabr") for _ in range(chance.randint(0, 2)))
    accepted = await world.start(0, ("a", *kinds), WhenBusy.FOLLOWUP, chance.random() < 0.3)
    assert accepted is not None
    asked = await world.runtime.until(accepted.run_id, ApprovalRequested)

    async def later(after: int, act: Callable[[World], Awaitable[object]]) -> None:
        for _ in range(after):
            await trio.lowlevel.checkpoint()
        await act(world)

    async with trio.open_nursery() as nursery:
        for after, act in _around_one(chance, asked.approval_id):
            nursery.start_soon(later, after, act)
    await world.assert_nothing_hangs()
    await world.answer_all()
    state, reason = (await world.states())[accepted.run_id]
    assert state in TERMINAL
    for grant in await world.runtime.gateway.ask(lambda reader: reader.approvals.grants(ME.principal, 0)):
        await world.revoke(grant.grant_id)
    await world.act(("reload", "asks"))
    return f"{state} {reason}"


@pytest.mark.parametrize("series", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in range(1, 10))])
async def test_a_hundred_random_interleavings_around_one_approval(
    tmp_path: Path, mock_clock: MockClock, series: int
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed} of series {series}")
    chance = random.Random(seed)
    world = World(tmp_path, mock_clock)
    ends: dict[str, int] = {}
    async with world.process():
        for _ in range(100):
            end = await _one(world, chance)
            ends[end] = ends.get(end, 0) + 1
        world.audit()
    world.audit()
    assert ends.keys() == {"done final_answer", "cancelled cancelled"}


# --- anything in any order ---

_WHICH = st.integers(0, 4)
_KINDS = st.lists(st.sampled_from("aaabr"), min_size=1, max_size=4).map(tuple)
_OPS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("start"), st.integers(0, 1), _KINDS, st.sampled_from(WhenBusy), st.booleans()),
    st.tuples(st.just("decide"), _WHICH, st.booleans(), st.sampled_from(["once", "session", "time"])),
    st.tuples(st.just("decide"), st.just(0), st.just(True), st.just("once")),
    st.tuples(st.just("cancel"), _WHICH),
    st.tuples(st.just("revoke"), _WHICH),
    st.tuples(st.just("reload"), st.sampled_from(list(POLICIES))),
    st.tuples(st.just("pass"), st.sampled_from([1.0, EXPIRES_S / 2, float(EXPIRES_S)])),
    st.tuples(st.just("archive"), st.integers(0, 1)),
)
_TURNS = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 30, 100])


class ApprovalMachine(RuleBasedStateMachine):
    """Drives a world in a Trio loop of its own thread, one step after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(mkdtemp(prefix="races"))
        self._clock = MockClock()
        self._world = World(self._folder, self._clock)
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: trio.run(self._loop, clock=self._clock))
        self._thread.start()
        self._ready.result(PATIENCE_S)

    async def _loop(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._end = trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._ready.set_result(None)
            await self._end.wait()

    def _do(self, act: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Do something in the loop, and wait until it is done."""
        done: Future[None] = Future()

        async def task() -> None:
            try:
                await act(*arguments)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._token.run_sync_soon(self._nursery.start_soon, task)
        done.result(PATIENCE_S)

    @initialize()
    def boot(self) -> None:
        self._do(self._boot)

    async def _boot(self) -> None:
        booted = trio.Event()
        self._stop, self._stopped = trio.Event(), trio.Event()
        self._nursery.start_soon(self._process, booted)
        await booted.wait()

    async def _process(self, booted: trio.Event) -> None:
        async with self._world.process():
            booted.set()
            await self._stop.wait()
        self._stopped.set()

    async def _shut_down(self) -> None:
        self._stop.set()
        await self._stopped.wait()

    @rule(op=_OPS)
    def act(self, op: Op) -> None:
        self._do(self._world.act, op)

    @rule(delayed=st.lists(st.tuples(_TURNS, _OPS), min_size=2, max_size=5))
    def race(self, delayed: list[tuple[int, Op]]) -> None:
        self._do(self._world.at_once, delayed)

    @rule()
    def settle(self) -> None:
        self._do(self._world.assert_nothing_hangs)

    @rule(last=st.none() | _OPS)
    def restart(self, last: Op | None) -> None:
        if last is not None:
            self._do(self._world.act, last)
        self._do(self._shut_down)
        self._do(self._boot)

    @invariant()
    def the_journal_keeps_to_the_model(self) -> None:
        if hasattr(self._world, "runtime"):
            self._do(trio.to_thread.run_sync, self._world.audit)

    def teardown(self) -> None:
        try:
            if hasattr(self._world, "runtime"):
                self._do(self._world.answer_all)
                self._do(self._world.assert_nothing_hangs)
                self._do(self._shut_down)
                self._world.audit()
        finally:
            self._token.run_sync_soon(self._nursery.cancel_scope.cancel)
            self._thread.join(PATIENCE_S)
            rmtree(self._folder)


_HERE = settings(deadline=None, print_blob=True)
TestApprovals = ApprovalMachine.TestCase
TestApprovals.settings = settings(_HERE, max_examples=25, stateful_step_count=12)


@pytest.mark.slow
class TestManyApprovals(ApprovalMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(_HERE, max_examples=250, stateful_step_count=25)


# --- at one certain moment ---


GRANT = Grant("", ME.principal, SessionId(""), "", Pattern("", ""), "once", 0, 0, "")


def _call(name: str, tool: str = "fake.write") -> ToolCall:
    return ToolCall(name, tool, {"value": name})


def _tools(
    run: Callable[[FakeArguments], Awaitable[str]], plan: Callable[[FakeArguments], Plan] = lambda _: Plan()
) -> list[Tool]:
    return [fake_tool("fake.read", run), fake_tool("fake.write", run, read_only=False, plan=plan)]


async def _asked(runtime: Runtime, *calls: ToolCall, **fields: Any) -> tuple[Accepted, dict[str, str]]:
    """Start a run that proposes `calls`, and return it with the approvals that it asks for, by call."""
    accepted = await runtime.start(provider=FakeProvider(says("", *calls), says("done")), **fields)
    await runtime.until(accepted.run_id, ApprovalRequested)
    await wait_all_tasks_blocked(0.01)
    return accepted, {each.call_id: each.approval_id for each in await runtime.asked(accepted.run_id)}


async def _ended(runtime: Runtime, accepted: Accepted) -> Tape:
    with trio.fail_after(PATIENCE_S):
        return await runtime.ended(accepted.run_id)


async def _approval(runtime: Runtime, approval_id: str) -> Approval:
    return await runtime.gateway.ask(lambda reader: reader.approvals.any(approval_id))


async def test_a_refusal_that_comes_while_another_call_runs_is_the_end_of_that_call(tmp_path: Path) -> None:
    go = trio.Event()

    async def wait(_arguments: FakeArguments) -> str:
        await go.wait()
        return "ok"

    async with open_fake_runtime(tmp_path, tools=_tools(wait)) as runtime:
        accepted, asked = await _asked(runtime, _call("r", "fake.read"), _call("w"))
        await runtime.do(DecideApproval(asked["w"], granted=False))
        go.set()
        tape = await _ended(runtime, accepted)
    assert tape.end == (RunState.DONE, "final_answer")
    assert len(tape.of(ApprovalRequested)) == 1


async def test_a_refusal_that_comes_while_others_are_judged_again_is_the_end_of_that_call(tmp_path: Path) -> None:
    asked: dict[str, str] = {}
    approvals: list[Approval] = []

    def plan(arguments: FakeArguments) -> Plan:
        if approvals and arguments.value == "v":
            loaded = PolicyLoaded(PolicySet(POLICIES["once"]).hash, (), "test")
            runtime.state.journal.submit(
                Ticket(
                    (entry(SYSTEM_STREAM, loaded),),
                    on_commit=lambda _: runtime.state.policies.replace(POLICIES["once"]),
                )
            )
            denied = ApprovalDecided(asked["w"], "w", "denied", "test")
            runtime.gateway.approvals.decide(approvals.pop(), denied, lambda _error: None)
        return Plan()

    async with open_fake_runtime(tmp_path, tools=_tools(echo, plan)) as runtime:
        accepted, found = await _asked(runtime, _call("v"), _call("w"))
        asked |= found
        approvals.append(await _approval(runtime, asked["w"]))
        await runtime.do(DecideApproval(asked["v"], granted=True))
        tape = await _ended(runtime, accepted)
    assert tape.end == (RunState.DONE, "final_answer")
    assert [event.call_id for event in tape.of(ToolStarted)] == ["v"]
    assert len(tape.of(ApprovalRequested)) == 2


async def _hang(_arguments: object) -> str:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


async def test_a_decision_that_is_ahead_of_a_runs_ending_on_its_way_to_the_tape_stands(tmp_path: Path) -> None:
    heard: list[PalyraError | None] = []
    async with open_fake_runtime(tmp_path, tools=_tools(_hang)) as runtime:
        accepted, asked = await _asked(runtime, _call("r", "fake.read"), _call("w"))
        approval = await _approval(runtime, asked["w"])
        settled = runtime.state.journal.settled

        async def then_decide() -> None:
            await settled()
            granted = ApprovalDecided(asked["w"], "w", "granted", "test")
            runtime.gateway.approvals.decide(approval, granted, heard.append)

        runtime.state.journal.settled = then_decide  # type: ignore[method-assign]
        await runtime.do(CancelRun(accepted.run_id))
        tape = await _ended(runtime, accepted)
        runtime.state.journal.settled = settled  # type: ignore[method-assign]
    assert heard == [None]
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.one(ApprovalDecided).outcome == "granted"


async def test_a_run_that_was_found_live_and_waits_since_is_cancelled(tmp_path: Path) -> None:
    go = trio.Event()

    async def wait(_arguments: FakeArguments) -> str:
        await go.wait()
        return "ok"

    async with open_fake_runtime(tmp_path, tools=_tools(wait)) as runtime:
        accepted, _ = await _asked(runtime, _call("r", "fake.read"), _call("w"))
        command = CancelRun(accepted.run_id)
        found = await check(runtime.state, runtime.gateway.sessions, command, ME)
        assert isinstance(found, Run)
        go.set()
        await runtime.gateway.sessions.idle()
        await runtime.gateway._put(Submission(command, ME, found))
        assert (await _ended(runtime, accepted)).end == (RunState.CANCELLED, "cancelled")


async def test_a_grant_whose_time_is_over_before_its_call_starts_starts_nothing(tmp_path: Path) -> None:
    go = trio.Event()

    async def wait(_arguments: FakeArguments) -> str:
        await go.wait()
        return "ok"

    now_s = BEGAN_S
    async with open_fake_runtime(tmp_path, tools=_tools(wait), now_s=lambda: now_s) as runtime:
        accepted, asked = await _asked(runtime, _call("v"), _call("w"))
        await runtime.do(DecideApproval(asked["v"], granted=True))
        await runtime.until(accepted.run_id, ToolStarted)
        until_ms = int((now_s + 1) * 1000)
        await runtime.do(DecideApproval(asked["w"], granted=True, scope="time", until_ms=until_ms))
        now_s += 1
        go.set()
        tape = await _ended(runtime, accepted)
    assert [event.call_id for event in tape.of(ToolStarted)] == ["v"]
    assert tape.of(PolicyDecision)[-1].outcome == "deny"


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("scope", ["once", "session"])
async def test_a_grant_that_is_revoked_as_its_call_starts_has_no_effect(
    tmp_path: Path, scope: GrantScope, before: bool
) -> None:
    effects: list[str] = []
    heard: list[PalyraError | None] = []

    async def effect(arguments: FakeArguments) -> str:
        await trio.lowlevel.checkpoint()
        effects.append(arguments.value)
        return "ok"

    async with open_fake_runtime(tmp_path, tools=_tools(effect)) as runtime:
        accepted, asked = await _asked(runtime, _call("w"))
        journal = runtime.state.journal
        submit = journal.submit

        def with_revocation(ticket: Ticket) -> Ticket:
            if not any(isinstance(each.event, ToolStarted) for each in ticket.entries):
                return submit(ticket)
            journal.submit = submit  # type: ignore[method-assign]
            grant = attrs.evolve(GRANT, grant_id=asked["w"], session_id=accepted.session_id)
            if not before:
                submit(ticket)
            runtime.gateway.approvals.revoke(grant, ME.principal, heard.append)
            return submit(ticket) if before else ticket

        journal.submit = with_revocation  # type: ignore[method-assign]
        await runtime.do(DecideApproval(asked["w"], granted=True, scope=scope))
        tape = await _ended(runtime, accepted)
    assert heard == [None]
    assert effects == []
    assert [each.error for each in tape.of(ToolFinished)] == ([] if before else [REVOKED])


async def test_what_was_granted_before_a_restart_is_done_after_it_whatever_else_is_open(tmp_path: Path) -> None:
    left = {RunState.WAITING}
    async with open_fake_runtime(tmp_path, tools=_tools(echo), left=left) as runtime:
        accepted, asked = await _asked(runtime, _call("v"), _call("w"))
        runtime.gateway.sessions.close()
        await runtime.do(DecideApproval(asked["v"], granted=True))
        models = runtime.models
    async with open_fake_runtime(tmp_path, tools=_tools(echo), left=left, boot_id="boot-2") as runtime:
        runtime.models.update(models)
        with trio.fail_after(PATIENCE_S):
            assert (await runtime.until(accepted.run_id, ToolStarted)).call_id == "v"
        await runtime.gateway.sessions.idle()


async def test_a_run_that_is_being_brought_back_when_the_process_drains_waits_on(tmp_path: Path) -> None:
    coming_back = trio.Event()
    plays: Iterator[Sequence[Step]] = iter([says("", _call("w")), [trio.sleep_forever]])

    async def choose(_model: str, _base_url: str) -> Choice:
        choice = Choice(FakeProvider(next(plays)), "model", "the test says so")
        if asked:
            coming_back.set()
            await wait_all_tasks_blocked(0.01)  # the process has stopped what it found running
        return choice

    asked: dict[str, str] = {}
    async with open_fake_runtime(tmp_path, tools=_tools(echo), choose=choose, left={RunState.WAITING}) as runtime:
        _, found = await _asked(runtime, _call("w"))
        asked |= found
        await runtime.do(DecideApproval(asked["w"], granted=True))
        await coming_back.wait()
        runtime.gateway.sessions.stop("the process was shut down")
        with trio.fail_after(PATIENCE_S):
            await runtime.gateway.sessions.idle()
    assert next(plays, None) is None


async def test_a_question_that_nobody_attends_ends_the_run_also_when_the_policies_ask_since(tmp_path: Path) -> None:
    async def reload(_arguments: FakeArguments) -> str:
        await _swap(runtime.state, POLICIES["asks"], "test")
        return "ok"

    provider = FakeProvider(says("", _call("v"), _call("w")))
    async with open_fake_runtime(tmp_path, provider, tools=_tools(reload)) as runtime:
        await _swap(runtime.state, POLICIES["allows"], "test")
        tape = await runtime.run(attended=False)
    assert [event.call_id for event in tape.of(ToolStarted)] == ["v"]
    assert tape.end == (RunState.FAILED, "approval_expired")
