"""A process in which persons decide, and what must hold of its journal whatever they do at the same moment.

`World` does one thing at a time or several at once, and keeps what it heard. `audit` reads the journal from its first row
as a small model of approvals: what was asked, decided, granted, used up and taken back, and what was started by it.
"""

import math
import os
import random
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.approvals import Approval, ApprovalState
from palyra_trio.core.codec import decode
from palyra_trio.core.commands import Accepted, ArchiveSession, CancelRun, DecideApproval, RevokeGrant, StartRun
from palyra_trio.core.errors import AlreadyDecided, Busy, InvalidArgument, NotFound, PalyraError, StateConflict
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.core.session_events import SessionArchived
from palyra_trio.core.system_events import GrantRevoked, PolicyLoaded
from palyra_trio.core.tape import (
    RUN_STREAM,
    ApprovalDecided,
    ApprovalRequested,
    Input,
    PolicyDecision,
    RunFinished,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME, Batchable, Outcome, SqliteStore
from palyra_trio.runtime import runs
from palyra_trio.runtime.policies import _swap
from tests.fakes import CONFIG, ME, FakeArguments, FakeProvider, Runtime, fake_tool, open_fake_runtime, says

BEGAN_S = 1_000_000.0
STEPS = 300  # a run's life takes about as many turns of the loop, its commits included
SLOW_S = 0.004
LEFT = frozenset({RunState.WAITING, RunState.QUEUED})
EXPIRES_S = CONFIG.approval.expires_s
LIMITS = attrs.evolve(CONFIG.limits, active_s=10**6, tool_s=10**6)


def _set(name: str, effect: str, also: str = "") -> tuple[PolicySource, ...]:
    head = f'{effect} (principal, action == Daemon::Action::"fs.write", resource)'
    return (PolicySource(f"{name}.cedar", f'@id("{name}")\n{head}{also};\n'),)


POLICIES = {
    "asks": (),
    "denies": _set("denies", "forbid"),
    "allows": _set("allows", "permit"),
    "once": _set("once", "forbid", " when { context.common.standing }"),
}
"""The user's policies that come and go: what they say of a write."""

Op = tuple[Any, ...]
"""("start", session, kinds, when_busy, detached), ("decide", which, granted, scope), ("cancel", which), ("revoke", which),
("reload", name), ("pass", seconds) or ("archive", session). `which` counts from the newest."""


class SlowDisk(SqliteStore):
    """A store whose commits take up to SLOW_S more, so that much happens between what is asked of it and what it says."""

    def append_batch(self, tickets: Sequence[Batchable], at_ms: int) -> list[Outcome]:
        threading.Event().wait(random.choice([0, SLOW_S * random.random()]))
        return super().append_batch(tickets, at_ms)


@attrs.frozen
class Attempt:
    """A decision that somebody sent, told by its reason, and the error that came back, if one did."""

    approval_id: str
    granted: bool
    reason: str
    error: PalyraError | None


@attrs.define(eq=False)
class World:
    """A journal, the process on it that comes and goes, and what was heard from it.

    `log` holds the effects of the tool, by its argument, and the ids of the grants that are known to be revoked, in order.
    """

    folder: Path
    clock: MockClock
    runtime: Runtime = attrs.field(init=False)
    models: dict[str, Any] = attrs.Factory(dict)
    attempts: list[Attempt] = attrs.Factory(list)
    log: list[tuple[str, str]] = attrs.Factory(list)
    _starts: int = 0
    _boots: int = 0

    def now_s(self) -> float:
        return BEGAN_S + self.clock.current_time()

    @asynccontextmanager
    async def process(self) -> AsyncGenerator[None, None]:
        """Be a process for the length of the block; the journal is checked at its end.

        Time passes here in leaps, so it says nothing of how long a run or the disk takes.
        """
        self._boots += 1
        tools = [
            fake_tool("fake.write", self._write, read_only=False),
            fake_tool("fake.read", self._read),
        ]
        config = attrs.evolve(CONFIG, limits=LIMITS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "CLOSE_GRACE_S", math.inf)
            async with open_fake_runtime(
                self.folder,
                tools=tools,
                config=config,
                store=SlowDisk(self.folder / "state"),
                left=LEFT,
                now_s=self.now_s,
                boot_id=f"boot-{self._boots}",
            ) as self.runtime:
                self.runtime.models.update(self.models)
                yield

    async def _write(self, arguments: FakeArguments) -> str:
        await trio.lowlevel.checkpoint()
        self.log.append(("effect", arguments.value))
        await trio.lowlevel.checkpoint()
        return "written"

    async def _read(self, arguments: FakeArguments) -> str:
        for _ in range(len(arguments.value) * 5):
            await trio.lowlevel.checkpoint()
        return "read"

    # --- what can be done ---

    async def act(self, op: Op) -> None:
        """Do one thing. A refusal that may be is heard; any other error is raised."""
        acts: dict[str, Callable[..., Awaitable[object]]] = {
            "start": self.start,
            "decide": self._decide_one,
            "cancel": self._cancel,
            "revoke": self._revoke,
            "reload": self._reload,
            "pass": self._pass,
            "archive": self._archive,
        }
        await acts[op[0]](*op[1:])

    async def at_once(self, delayed: Collection[tuple[int, Op]]) -> None:
        """Do several things, each after so many turns of the loop."""

        async def later(turns: int, op: Op) -> None:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            await self.act(op)

        async with trio.open_nursery() as nursery:
            for turns, op in delayed:
                nursery.start_soon(later, turns, op)

    async def start(self, session: int, kinds: tuple[str, ...], when_busy: WhenBusy, detached: bool) -> Accepted | None:
        """Start a run in a session of few, whose model proposes calls: `a` and `b` write in two folders, `r` reads."""
        self._starts += 1
        calls = [
            ToolCall(
                f"{kind}{at}", "fake.read" if kind == "r" else "fake.write", {"value": f"{kind}/{self._starts}.{at}"}
            )
            for at, kind in enumerate(kinds)
        ]
        name = f"model-{self._starts}"
        self.models[name] = self.runtime.models[name] = FakeProvider(says("", *calls), says("done"))
        command = StartRun(
            "go on",
            session=SessionRef(key=f"session-{session}"),
            model=name,
            workspace=str(self.runtime.workspace),
            detached=detached,
            when_busy=when_busy,
        )
        with suppress(Busy, StateConflict):
            accepted = await self.runtime.gateway.submit(command, ME)
            assert isinstance(accepted, Accepted)
            return accepted
        return None

    async def _decide_one(self, which: int, granted: bool, scope: str) -> None:
        approvals = await self.listed(pending=which < 3)
        if approvals:
            await self.decide(approvals[which % len(approvals)].approval_id, granted, scope)

    async def decide(self, approval_id: str, granted: bool, scope: str = "once") -> Attempt:
        """Send a decision, and keep what came of it."""
        reason = f"decision {len(self.attempts)} {os.urandom(4).hex()}"
        until_ms = int((self.now_s() + EXPIRES_S / 2) * 1000)
        command: Any = DecideApproval(approval_id, granted, reason, scope if granted else "once", until_ms)  # type: ignore[arg-type]
        error: PalyraError | None = None
        try:
            await self.runtime.do(command)
        except (AlreadyDecided, NotFound, InvalidArgument) as refusal:
            error = refusal
        attempt = Attempt(approval_id, granted, reason, error)
        self.attempts.append(attempt)
        return attempt

    async def _cancel(self, which: int) -> None:
        runs = await self.runtime.gateway.ask(lambda reader: reader.runs(ME.principal, most=3))
        if runs:
            with suppress(StateConflict):
                await self.runtime.do(CancelRun(runs[which % len(runs)].run_id))

    async def _revoke(self, which: int) -> None:
        now_ms = int(self.now_s() * 1000)
        grants = await self.runtime.gateway.ask(lambda reader: reader.approvals.grants(ME.principal, now_ms))
        if grants:
            await self.revoke(grants[which % len(grants)].grant_id)

    async def revoke(self, grant_id: str) -> None:
        with suppress(StateConflict, NotFound):
            await self.runtime.do(RevokeGrant(grant_id))
            self.log.append(("revoked", grant_id))

    async def _reload(self, name: str) -> None:
        await _swap(self.runtime.state, POLICIES[name], "somebody")

    async def _pass(self, seconds: float) -> None:
        await trio.lowlevel.checkpoint()
        self.clock.jump(seconds)

    async def _archive(self, session: int) -> None:
        def find(reader: Reader) -> Any:
            return reader.session_by_key(ME.principal, f"session-{session}")

        if (found := await self.runtime.gateway.ask(find)) is not None:
            with suppress(StateConflict):
                await self.runtime.do(ArchiveSession(found.session_id))

    # --- what is seen ---

    async def listed(self, *, pending: bool) -> tuple[Approval, ...]:
        return await self.runtime.gateway.ask(lambda reader: reader.approvals.listed(ME.principal, pending=pending))

    async def settle(self) -> None:
        """Wait until nothing more happens by itself."""
        journal, sessions, quiet = self.runtime.state.journal, self.runtime.gateway.sessions, 0
        while quiet < 2:
            g = journal.feed.g
            await wait_all_tasks_blocked(0.002)
            await journal.settled()
            await sessions.idle()
            quiet = quiet + 1 if journal.feed.g == g else 0

    async def answer_all(self) -> None:
        """Refuse whatever is asked until nothing is."""
        await self.settle()
        while approvals := await self.listed(pending=True):
            for each in approvals:
                await self.decide(each.approval_id, granted=False)
            await self.settle()

    async def states(self) -> dict[str, tuple[RunState, str]]:
        """Return how each run stands."""
        runs = await self.runtime.gateway.ask(lambda reader: reader.runs(ME.principal, most=-1))
        return {run.run_id: (run.state, run.reason) for run in runs}

    def audit(self) -> None:
        audit(self.folder / "state" / FILE_NAME, self.attempts, tuple(self.log))

    async def assert_nothing_hangs(self) -> None:
        """Check, when nothing happens by itself, that each run has ended, waits for an answer, or is in line behind one."""
        await self.settle()
        asking = {each.run_id for each in await self.listed(pending=True)}
        runs = await self.runtime.gateway.ask(lambda reader: reader.runs(ME.principal, most=-1))
        held = {run.session_id for run in runs if run.state is RunState.WAITING}
        for run in runs:
            waits = run.state is RunState.WAITING and (run.run_id in asking or run.reason == "interrupted")
            in_line = run.state is RunState.QUEUED and run.session_id in held
            assert run.state in TERMINAL or waits or in_line, f"{run.run_id} is {run.state} ({run.reason})"


def turns(chance: random.Random) -> int:
    """Return after how many turns of the loop something happens: soon as often as late."""
    return int(STEPS ** chance.random())


# --- the model ---


@attrs.define
class _Model:
    """What a reader of the journal knows, row by row."""

    policy: str = "asks"
    sessions: dict[str, str] = attrs.Factory(dict)
    calls: dict[tuple[str, str], ToolCall] = attrs.Factory(dict)
    judged: dict[tuple[str, str], str] = attrs.Factory(dict)
    asked: dict[str, tuple[str, ApprovalRequested]] = attrs.Factory(dict)
    decided: dict[str, ApprovalDecided] = attrs.Factory(dict)
    over: set[str] = attrs.Factory(set)
    used: set[str] = attrs.Factory(set)
    finished: set[str] = attrs.Factory(set)
    started: dict[str, str] = attrs.Factory(dict)

    def take(self, run: str, event: object, at_ms: int) -> None:
        match event:
            case PolicyLoaded():
                (self.policy,) = [name for name, files in POLICIES.items() if PolicySet(files).hash == event.hash]
            case Input():
                self.sessions[run] = event.session_id
            case ToolProposed():
                self.calls[run, event.call.call_id] = event.call
            case PolicyDecision():
                self.judged[run, event.call_id] = event.outcome
            case ApprovalRequested():
                assert event.approval_id not in self.asked
                assert run not in self.finished
                self.asked[event.approval_id] = (run, event)
            case ApprovalDecided():
                assert self.asked[event.approval_id][0] == run
                assert event.approval_id not in self.decided, "an approval was decided twice"
                assert run not in self.finished, "a dead approval was decided"
                self.decided[event.approval_id] = event
            case GrantRevoked():
                self.over.add(event.grant_id)
            case SessionArchived():
                self.over |= {
                    name
                    for name, each in self.decided.items()
                    if each.scope == "session" and self.sessions[self.asked[name][0]] == event.session_id
                }
            case ToolStarted():
                self._start(run, event, at_ms)
            case RunFinished():
                self.finished.add(run)

    def _start(self, run: str, event: ToolStarted, at_ms: int) -> None:
        call = self.calls[run, event.call_id]
        assert self.judged.pop((run, event.call_id)) == "allow", "a start without a decision before it"
        if call.tool != "fake.write":
            return
        value = call.arguments["value"]
        assert value not in self.started
        self.started[value] = event.grant
        assert self.policy != "denies", "a start that the policies in force deny"
        if event.grant:
            self._use(run, call, event.grant, at_ms)
        else:
            assert self.policy == "allows", "a start that the policies in force ask for, under no grant"

    def _use(self, run: str, call: ToolCall, grant: str, at_ms: int) -> None:
        asker, request = self.asked[grant]
        decision = self.decided[grant]
        assert decision.outcome == "granted"
        assert grant not in self.over, "a start under a grant that was taken back"
        if decision.scope == "once":
            assert (asker, request.call_id) == (run, call.call_id)
            assert grant not in self.used, "a grant for one call was used twice"
            self.used.add(grant)
            return
        assert self.policy != "once", "a start under a standing grant that the policies in force do not heed"
        asked_about = self.calls[asker, request.call_id].arguments["value"]
        assert asked_about.partition("/")[0] == call.arguments["value"].partition("/")[0]
        if decision.scope == "session":
            assert self.sessions[asker] == self.sessions[run]
        else:
            assert at_ms < decision.until_ms


def audit(journal: Path, attempts: Collection[Attempt], log: Collection[tuple[str, str]]) -> None:
    """Check the journal, from its first row, against the model, and what was heard and done against the journal.

    `attempts` and `log` are of a moment before it is read.
    """
    model = _Model()
    with closing(Reader(journal)) as reader:
        reader._db.execute("BEGIN")  # all that is read is of one moment
        for row in reader.chain():
            assert row.body is not None
            model.take(row.stream.removeprefix(RUN_STREAM), decode(row.kind, row.body), row.at_ms)
        table = {each.approval_id: each for each in reader.approvals._approvals("TRUE", (), -1)}
    _check_table(model, table)
    _check_heard(model, attempts)
    _check_done(model, log)


def _check_table(model: _Model, table: dict[str, Approval]) -> None:
    assert table.keys() == model.asked.keys()
    for name, row in table.items():
        if name in model.decided:
            assert row.state == model.decided[name].outcome
        else:
            assert row.state in {ApprovalState.PENDING, ApprovalState.WITHDRAWN}
        assert row.state is not ApprovalState.PENDING or row.run_id not in model.finished


def _check_heard(model: _Model, attempts: Collection[Attempt]) -> None:
    recorded = {each.reason: each for each in model.decided.values()}
    for attempt in attempts:
        decision = recorded.get(attempt.reason)
        assert (decision is None) == (attempt.error is not None), f"{attempt} was told otherwise"
        if decision is not None:
            assert decision.approval_id == attempt.approval_id
            assert decision.outcome == ("granted" if attempt.granted else "denied")


def _check_done(model: _Model, log: Collection[tuple[str, str]]) -> None:
    done: set[str] = set()
    revoked: set[str] = set()
    for what, name in log:
        if what == "revoked":
            revoked.add(name)
            continue
        assert name not in done, "an effect happened twice"
        done.add(name)
        assert model.started[name] not in revoked, "an effect under a grant that was known to be revoked"
