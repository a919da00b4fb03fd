"""The only door into the runtime: submit a command, follow a tape, ask a question. Every transport uses it.

A caller never holds a run. What it submits is checked in the caller's own task, and who asks is checked for every
verb; what it follows is the tape, from any seq, for as long as it likes.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import (
    Accepted,
    CancelRun,
    Command,
    OpenSession,
    Reply,
    SessionResolved,
    StartRun,
    StopJob,
    TakeUpRun,
    UndoRun,
)
from palyra_trio.core.config import Config
from palyra_trio.core.errors import AlreadyDecided, SessionConflict
from palyra_trio.core.identity import RequestContext, RunId, SessionId
from palyra_trio.core.run import OPEN
from palyra_trio.core.system_events import AdmissionPaused
from palyra_trio.core.tape import run_stream
from palyra_trio.core.text import clean
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.journal.writer import Journal
from palyra_trio.runtime.admission_control import AdmissionControl
from palyra_trio.runtime.agents import Answering, KnownAgent, answering, find_agent, known_agents
from palyra_trio.runtime.approvals import Approvals
from palyra_trio.runtime.bus import Bus, Submission
from palyra_trio.runtime.checks import check, check_owned, recordable
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.diagnosis import Check, examine
from palyra_trio.runtime.dispatch import Dispatch
from palyra_trio.runtime.erasing import Erased, Leak, erase_serving, place_of
from palyra_trio.runtime.expiry import Expiries
from palyra_trio.runtime.follow import Follower, find_place
from palyra_trio.runtime.intake import attach, prepare
from palyra_trio.runtime.jobs import Jobs
from palyra_trio.runtime.latency import Latencies
from palyra_trio.runtime.live_tree import LiveTree, live_tree
from palyra_trio.runtime.model_names import ModelNames
from palyra_trio.runtime.notify import notify
from palyra_trio.runtime.opening import prepare_opening
from palyra_trio.runtime.policies import Policies, put_in_force
from palyra_trio.runtime.recent_log import RecentLog
from palyra_trio.runtime.recovery import mark_interrupted
from palyra_trio.runtime.secrets import Secrets
from palyra_trio.runtime.sessions import Sessions, find_waiting
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.runtime.stopping import Stop, Stopped, stop_all
from palyra_trio.runtime.tokens import Tokens
from palyra_trio.runtime.undo import undo_run
from palyra_trio.runtime.verifying import Verifying
from palyra_trio.tools.registry import Registry
from palyra_trio.tools.sandbox_report import SandboxReport

T = TypeVar("T")

RACES = 3  # what was taken or decided meanwhile is looked up again; losing more often is no accident


@attrs.frozen
class Health:
    """How this process stands. `g` is the newest durable row that it wrote, 0 before its first.

    `policy_hash` names the user's policies in force, and `policy_preset` the set that they add to, apart from projects.
    `paused` says who lets no new runs in. `sandbox` says what programs run in.
    """

    boot_id: str
    now_ms: int
    g: int
    live_runs: int
    draining: bool
    paused: AdmissionPaused | None
    policy_preset: str
    policy_hash: str
    sandbox: SandboxReport


class Gateway:
    """The runtime as a transport sees it. Made by `open_gateway`."""

    def __init__(
        self,
        state: RuntimeState,
        admission: AdmissionControl,
        tokens: Tokens,
        expiries: Expiries,
        nursery: trio.Nursery,
    ) -> None:
        self._state = state
        self._bus = Bus()
        self._nursery = nursery
        self._admission = admission
        self.tokens = tokens
        self.sessions = Sessions(state, expiries, nursery)
        self.approvals = Approvals(state, self.sessions)
        self.policies = Policies(state)
        self.model_names = ModelNames(state, nursery)
        self._dispatch = Dispatch(state, admission, self.sessions, self.approvals, tokens)
        self.verifying = Verifying(state.state_dir / FILE_NAME, lambda: int(state.now_s() * 1000), nursery)
        self._drain_deadline: float = math.inf

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        """Carry out a command and return its reply once it is durable.

        Raises PalyraError: the refusal. If cancelled, the command may still be carried out; a run that was started
        goes on, and a repeated StartRun with the same run id attaches to it.
        """
        context = attrs.evolve(context, device=clean(context.device), channel=clean(context.channel))
        if not isinstance(command, CancelRun | StopJob):  # what stops something waits for no disk
            await self._state.secrets.refresh()
        if isinstance(command, StartRun):
            return await self._start(command, context)
        command = recordable(command, self._state.redactor)
        if isinstance(command, OpenSession):
            return await self._open(command, context)
        if isinstance(command, UndoRun):
            return await undo_run(self._state, await self.run(command.run_id, context), context)
        return await self._put_racing(lambda: check(self._state, self.sessions, command, context), command, context)

    async def _start(self, command: StartRun, context: RequestContext) -> Reply:
        if (existing := await attach(self._state, command, context)) is not None:
            await self.submit(TakeUpRun(existing.run_id), context)
            return existing
        with self._admission.entering(trio.current_time()):
            return await self._put_racing(lambda: prepare(self._state, command, context), command, context)

    async def _open(self, command: OpenSession, context: RequestContext) -> Reply:
        return await self._put_racing(lambda: prepare_opening(self._state, command, context), command, context)

    async def _put_racing(
        self, prepare: Callable[[], Awaitable[object]], command: Command, context: RequestContext
    ) -> Reply:
        """Prepare a command and put it; again when its session's key was taken, or what it cancels decided on, in between."""
        for race in range(RACES):
            prepared = await prepare()
            if isinstance(prepared, SessionResolved):
                return prepared
            try:
                return await self._put(Submission(command, context, prepared))
            except (SessionConflict, AlreadyDecided) as error:
                lost = isinstance(error, AlreadyDecided) and not isinstance(command, CancelRun)
                if lost or race == RACES - 1:
                    raise
        raise AssertionError("the last race returns or raises")

    async def _put(self, submission: Submission) -> Reply:
        await self._bus.put(submission)
        return await submission.reply()

    # --- reading ---

    async def follow(self, run_id: RunId, after_seq: int, context: RequestContext) -> Follower:
        """Return a follower of a run's tape, whose first rows are those after `after_seq` (0 for all).

        Raises NotFound, Ambiguous, OffsetAhead when the tape has no row `after_seq` yet, and OffsetPruned when the
        row after it was erased.
        """
        place = await self.ask(lambda reader: find_place(reader, run_id, after_seq, context.principal))
        run = Accepted(place.run.run_id, place.run.session_id, attached=True)
        return Follower(self._state.journal.feed, self._state.readers, run, place)

    async def follow_started(self, run: Accepted, context: RequestContext) -> Follower:
        """Return a follower of all rows of a run that the caller has just started, or attached to. Raises what `follow` does."""
        if run.attached:
            return await self.follow(run.run_id, 0, context)
        return Follower(self._state.journal.feed, self._state.readers, run)

    async def run(self, run_id: str, context: RequestContext) -> RunSummary:
        """Return a run of the caller's. `run_id` may be `last` or the beginning of an id. Raises NotFound, Ambiguous."""
        return await self.ask(lambda reader: reader.find_run(run_id, context.principal))

    async def tree(self, run_id: str, context: RequestContext) -> LiveTree:
        """Return what of a run of the caller's is under way here. Raises what `run` raises."""
        run = await self.run(run_id, context)
        return await live_tree(self._state, run, self.sessions.live(run.run_id))

    async def last_row(self, run_id: RunId, context: RequestContext) -> tuple[RunSummary, TapeRow]:
        """Return a run of the caller's as it stands, and the newest row of its tape. Raises NotFound."""

        def read(reader: Reader) -> tuple[RunSummary, TapeRow]:
            run = reader.find_run(run_id, context.principal)
            stream = run_stream(run.run_id)
            return run, reader.page(stream, reader.last_seq(stream) - 1, 1)[0]

        return await self.ask(read)

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the journal's read side. The question itself must restrict what it returns to the caller's own."""
        return await self._state.readers.ask(question)

    async def search(self, question: Callable[[Reader], T]) -> T:
        """Ask what may take seconds, after those who asked such before. As for `ask`; raises Busy when too many wait."""
        return await self._state.readers.search(question)

    async def erase(self, tape: str, seq: int, field: str, part: str, reason: str, context: RequestContext) -> Erased:
        """Erase what stands in a field of a row, or `part` of it, wherever in the journal it stands, whoever's run that is.

        Raises what `erase_serving` does.
        """
        place = await self.ask(lambda reader: place_of(reader, tape, seq, field, context))
        reason = self._state.redactor.recordable(reason)
        return await erase_serving(self._state, Leak(place, part, context.principal, reason))

    async def stop_all(self, reason: str, context: RequestContext) -> Stopped:
        """End every run and job of the caller's that has not ended, and return once that is durable."""
        found = await self.ask(lambda reader: reader.runs(context.principal, states=OPEN, most=-1))
        jobs = await self.ask(lambda reader: reader.jobs.listed(context.principal, ended=False))
        stops: list[Stop] = [
            *(CancelRun(each.run_id, reason) for each in found),
            *(StopJob(each.job_id) for each in jobs),
        ]
        return await stop_all(stops, lambda command: self.submit(command, context))

    async def agents(self) -> tuple[KnownAgent, ...]:
        """Return all agents in order of name, the built-in one among them."""
        return known_agents(await self.ask(lambda reader: reader.agents()), self._state.config.limits)

    async def agent(self, name: str) -> KnownAgent:
        """Return the agent of that name. Raises NotFound."""
        return find_agent(await self.agents(), name)

    async def answering(self, session_id: SessionId | None, context: RequestContext) -> Answering:
        """Return which agent answers the caller's next run that names none. Raises NotFound."""

        def read(reader: Reader) -> Answering:
            if session_id is not None:
                check_owned(reader, session_id, context)
            return answering(reader, self._state.config.limits, context, session_id)

        return await self.ask(read)

    async def prove_sandbox(self) -> SandboxReport:
        """Return what programs run in, once that is known. The canaries take a tenth of a second, and CANARY_S at most."""
        return await self._state.sandbox.prove()

    def health(self) -> Health:
        return Health(
            self._state.boot_id,
            int(self._state.now_s() * 1000),
            self._state.journal.feed.g,
            self.sessions.live_runs,
            self.sessions.draining,
            self._admission.paused,
            self._state.config.policy.preset,
            self._state.policies.hash,
            self._state.sandbox.report,
        )

    @property
    def jobs(self) -> Jobs:
        """The long jobs of this process. Whose one is must be asked of the journal first."""
        return self._state.jobs

    @property
    def journal(self) -> Journal:
        return self._state.journal

    @property
    def tools(self) -> Registry:
        """The tools that exist in this process."""
        return self._state.tools

    @property
    def secrets(self) -> Secrets:
        """The secrets of this installation. Whose they are must be said to it."""
        return self._state.secrets

    @property
    def redactor(self) -> Redactor:
        """What masks secrets in all that is recorded."""
        return self._state.redactor

    @property
    def counters(self) -> Counters:
        return self._state.counters

    @property
    def latencies(self) -> Latencies:
        return self._state.latencies

    @property
    def config(self) -> Config:
        """The configuration of this process as it holds now."""
        return self._state.config

    def drain_by(self, deadline: float) -> float:
        """Take no more runs. The live ones may go on until `deadline` (Trio's clock); the first one that was set holds."""
        self.sessions.close()
        self._drain_deadline = min(deadline, self._drain_deadline)
        return self._drain_deadline

    @property
    def origins(self) -> Mapping[str, str]:
        """Where the value of each key of the configuration comes from, as far as that is known."""
        return self._state.origins

    @property
    def recent_log(self) -> RecentLog:
        return self._state.recent_log

    async def examine(self) -> tuple[Check, ...]:
        """Look at this process and what it stands on, as `doctor` does."""
        return await examine(self._state)

    def reload(
        self, config: Config, config_in: Callable[[str], Config], origins: Mapping[str, str] | None = None
    ) -> None:
        """Act by another configuration from now on. Runs that were accepted keep theirs."""
        self._state.config, self._state.config_in = config, config_in
        self._state.origins = origins or {}

    async def serve(self) -> None:
        await self._bus.route(self._dispatch.route)

    def close(self) -> None:
        self._bus.close()


@asynccontextmanager
async def open_gateway(state: RuntimeState, *, recovers: bool = True) -> AsyncGenerator[Gateway, None]:
    """Run the runtime for the length of the block. Leaving it drains: live runs get `daemon.drain_s` to end.

    With `recovers` it goes on with the runs that wait for a person or in line since an earlier process; otherwise only
    with those that somebody asks it to.

    If the journal stops, the block is cancelled and JournalStopped is raised: a process that cannot record must not act.
    """
    await put_in_force(state, "boot")
    await mark_interrupted(state)
    tokens = Tokens(state, await state.readers.ask(lambda reader: reader.tokens(revoked=False, most=-1)))
    expiries = Expiries(state.now_s)
    for expires_ms, approval_id in await state.readers.ask(lambda reader: reader.approvals.expiring()):
        expiries.add(expires_ms, approval_id)
    admission = AdmissionControl(state, await state.readers.ask(lambda reader: reader.admission_paused()))
    async with trio.open_nursery() as nursery:
        gateway = Gateway(state, admission, tokens, expiries, nursery)
        await nursery.start(notify, state)
        await find_waiting(state, gateway.sessions, ours=recovers)
        nursery.start_soon(expiries.watch, gateway.approvals.expire)
        nursery.start_soon(gateway.serve)
        nursery.start_soon(state.latencies.report, state.journal)
        nursery.start_soon(_watch, state, gateway.sessions)
        try:
            yield gateway
        finally:
            gateway.close()
            with trio.CancelScope(shield=True):
                await gateway.sessions.drain(gateway.drain_by(trio.current_time() + state.config.daemon.drain_s))
            nursery.cancel_scope.cancel()


async def _watch(state: RuntimeState, sessions: Sessions) -> None:
    await state.journal.failed.wait()
    sessions.stop("the journal stopped")
    state.journal.check()
