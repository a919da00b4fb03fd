"""What tests of the runtime share: a real store, feed and gateway around fake providers and tools, and what a tape must be."""

import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from palyra_trio.core.agents import Limits
from palyra_trio.core.approvals import Approval
from palyra_trio.core.codec import KIND_NAMES, TapeRow
from palyra_trio.core.commands import Accepted, Applied, StartRun
from palyra_trio.core.config import (
    ApprovalConfig,
    Config,
    DaemonConfig,
    JournalConfig,
    LatencyConfig,
    ModelConfig,
    SessionConfig,
)
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.identity import Principal, RequestContext, RunId
from palyra_trio.core.messages import FinishReason, ModelDelta, ModelReply, ModelRequest, ToolCall
from palyra_trio.core.policy import Action, PathResource, PolicyRules
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.session import SessionRef
from palyra_trio.core.tape import Input, RunFinished, TapeEvent, run_stream
from palyra_trio.core.text import text_to_name
from palyra_trio.core.view import RunView, fold_rows
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.guard.redactor import Redactor
from palyra_trio.guard.vault_keeper import VaultKeeper
from palyra_trio.guard.vault_store import VaultStore
from palyra_trio.journal.check import check_file
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from palyra_trio.journal.writer import open_journal
from palyra_trio.providers.base import Provider
from palyra_trio.providers.choose import Choice
from palyra_trio.providers.script import parse_script
from palyra_trio.providers.scripted import ScriptedProvider
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.gateway import Gateway, open_gateway
from palyra_trio.runtime.jobs import open_jobs
from palyra_trio.runtime.secrets import Secrets
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.registry import Plan, Registry, Tool, ToolContext, ToolResult, ToolSpec
from palyra_trio.tools.sandbox import NO_SANDBOX, Sandbox
from palyra_trio.tools.workspace import Workspace

E = TypeVar("E", bound=TapeEvent)

ME = RequestContext(Principal("user:me"), device="laptop", channel="test", local=True)
OTHER = RequestContext(Principal("user:other"), device="laptop", channel="test", local=True)

PATIENT = LatencyConfig(journal_write_ms=60_000, gate_ms=60_000, first_event_ms=60_000)
"""Tests run on machines of any speed: a slow one breaches nothing and refuses nobody, but where that is what is tested."""
CONFIG = Config(
    model=ModelConfig(attempts=3),
    limits=Limits(turns=6, tool_calls=8, active_s=60, tool_s=10),
    session=SessionConfig(mailbox=4),
    approval=ApprovalConfig(expires_s=100),
    journal=JournalConfig(min_free_bytes=1),
    daemon=DaemonConfig(drain_s=0),
    latency=PATIENT,
)
SECRET = "sk-proj-" + "abcdEFGH0123" * 3

# --- models ---

Step = str | ModelReply | BaseException | Callable[[], Awaitable[object]]
"""A delta, the reply, an error to raise, or something to wait for."""


class FakeProvider:
    """Plays one list of steps a request, the last list again and again, and keeps the requests."""

    name = "fake"

    def __init__(self, *turns: Sequence[Step]) -> None:
        self.requests: list[ModelRequest] = []
        self.open_streams = 0
        self._turns = turns

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelDelta | ModelReply]]:
        return aclosing(self._play(request))

    async def _play(self, request: ModelRequest) -> AsyncGenerator[ModelDelta | ModelReply, None]:
        turn = self._turns[min(len(self.requests), len(self._turns) - 1)]
        self.requests.append(request)
        self.open_streams += 1
        try:
            await trio.lowlevel.checkpoint()
            for step in turn:
                if isinstance(step, str):
                    yield ModelDelta(step)
                elif isinstance(step, ModelReply):
                    yield step
                elif isinstance(step, BaseException):
                    raise step
                else:
                    await step()
        finally:
            self.open_streams -= 1


def says(text: str, *calls: ToolCall, finish: FinishReason = "stop") -> list[Step]:
    """A turn that streams `text` as one delta and proposes `calls`."""
    deltas: list[Step] = [text] if text else []
    return [*deltas, ModelReply(text, calls, "tool_calls" if calls else finish)]


def scripted(*turns: dict[str, Any], loop: bool = False) -> ScriptedProvider:
    return ScriptedProvider(parse_script(json.dumps({"turns": turns, "loop": loop}).encode(), "the test's script"))


# --- tools ---


@attrs.frozen
class FakeArguments:
    value: str = ""
    secret: str = ""


Run = Callable[[FakeArguments], Awaitable[str | ToolResult]]


def fake_tool(
    name: str,
    run: Run,
    *,
    read_only: bool = True,
    capability: Action | None = None,
    plan: Callable[[FakeArguments], Plan] = lambda _: Plan(),
) -> Tool:
    """A tool `name` that takes any `value` and does what `run` says."""

    async def planned(arguments: FakeArguments, _context: ToolContext) -> Plan:
        await trio.lowlevel.checkpoint()
        planned = plan(arguments)
        if read_only or planned.resources:
            return planned
        return attrs.evolve(planned, resources=(PathResource(f"fake/{arguments.value}"),))

    async def ran(arguments: FakeArguments, _context: ToolContext, _plan: Plan) -> ToolResult:
        result = await run(arguments)
        return result if isinstance(result, ToolResult) else ToolResult(result)

    spec = ToolSpec(
        name,
        f"The fake {name}.",
        FakeArguments,
        capability or ("run.local" if read_only else "fs.write"),
        "low",
        read_only,
        idempotent=read_only,
    )
    return Tool(spec, planned, ran)


async def echo(arguments: FakeArguments) -> str:
    await trio.lowlevel.checkpoint()
    return arguments.value


# --- tapes ---


@attrs.frozen
class Tape:
    """The rows of a run, and the ways to look at them."""

    rows: tuple[TapeRow, ...]

    @property
    def events(self) -> list[TapeEvent]:
        return [event for row in self.rows if (event := row.event()) is not None]

    @property
    def kinds(self) -> list[str]:
        return [KIND_NAMES[row.kind] for row in self.rows]

    @property
    def view(self) -> RunView:
        return fold_rows(RunView(), self.rows)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        (event,) = self.of(kind)
        return event

    @property
    def end(self) -> tuple[RunState, str]:
        finished = self.one(RunFinished)
        return finished.state, finished.reason


def assert_whole(rows: Iterable[TapeRow]) -> Tape:
    """Check what holds of every tape: dense seq from 1, Input first and once, nothing after RunFinished, and it folds."""
    tape = Tape(tuple(rows))
    assert [row.seq for row in tape.rows] == [*range(1, len(tape.rows) + 1)]
    assert tape.kinds.index("Input") == 0
    assert len(tape.of(Input)) == 1
    assert "RunFinished" not in tape.kinds[:-1]
    assert tape.view.terminal == (tape.kinds[-1] == "RunFinished")
    return tape


def assert_journal(state_dir: Path, left: frozenset[RunState] = frozenset()) -> dict[str, Tape]:
    """Check a closed journal: its chain, every run's tape, and that each run has ended or is in one of `left`.

    Returns the tapes by run id, in the order of their acceptance.
    """
    path = state_dir / FILE_NAME
    assert check_file(path).faults == ()
    tapes = {}
    with closing(Reader(path)) as reader:
        for run_id, state in reversed([(run.run_id, run.state) for run in reader._runs("TRUE", (), -1)]):
            tape = assert_whole(reader.tape(run_stream(run_id)))
            assert tape.view.state is state
            assert state in TERMINAL | left, f"run {run_id} was left {state}"
            tapes[str(run_id)] = tape
    return tapes


# --- the runtime ---


@attrs.define
class Runtime:
    """A gateway, what it stands on, and short ways to use it. `provider` answers runs that name no model."""

    gateway: Gateway
    state: RuntimeState
    state_dir: Path
    workspace: Path
    models: dict[str, Provider]

    def command(self, text: str = "hello", provider: Provider | None = None, **fields: Any) -> StartRun:
        """Return a StartRun in the workspace. With `provider`, the run is answered by that one."""
        if provider is not None:
            fields["model"] = f"model-{id(provider)}"
            self.models[fields["model"]] = provider
        return StartRun(text, **{"workspace": str(self.workspace)} | fields)

    async def start(
        self, text: str = "hello", provider: Provider | None = None, context: RequestContext = ME, **fields: Any
    ) -> Accepted:
        reply = await self.gateway.submit(self.command(text, provider, **fields), context)
        assert isinstance(reply, Accepted)
        return reply

    async def run(
        self, text: str = "hello", provider: Provider | None = None, context: RequestContext = ME, **fields: Any
    ) -> Tape:
        """Start a run and follow it to its end."""
        return await self.ended((await self.start(text, provider, context, **fields)).run_id, context)

    async def ended(self, run_id: RunId, context: RequestContext = ME) -> Tape:
        follower = await self.gateway.follow(run_id, 0, context)
        rows: list[TapeRow] = []
        while page := await follower.next_rows():
            rows += page
        return assert_whole(rows)

    async def asked(self, run_id: RunId) -> list[Approval]:
        """Return the approvals that a run waits for, newest first."""
        waiting = await self.gateway.ask(lambda reader: reader.approvals.listed(ME.principal, pending=True))
        return [each for each in waiting if each.run_id == run_id]

    async def until(self, run_id: RunId, kind: type[E], count: int = 1, context: RequestContext = ME) -> E:
        """Wait until the tape holds `count` events of `kind`, and return the last of them."""
        follower = await self.gateway.follow(run_id, 0, context)
        while rows := await follower.next_rows():
            for row in rows:
                if isinstance(event := row.event(), kind):
                    count -= 1
                    if not count:
                        return event
        raise AssertionError(f"the run ended without {kind.__name__}")

    async def do(self, command: Any, context: RequestContext = ME) -> None:
        assert isinstance(await self.gateway.submit(command, context), Applied)


@asynccontextmanager
async def open_fake_runtime(
    folder: Path,
    provider: Provider | None = None,
    *,
    tools: Sequence[Tool] = (),
    config: Config = CONFIG,
    store: SqliteStore | None = None,
    feed: Feed | None = None,
    left: Iterable[RunState] = (),
    checked: bool = True,
    free_bytes: Callable[[], int] = lambda: 1 << 40,
    jitter: Callable[[], float] = lambda: 0.0,
    random: Callable[[int], bytes] = os.urandom,
    now_s: Callable[[], float] = time.time,
    boot_id: str = "boot-1",
    recovers: bool = True,
    choose: Callable[[str, str], Awaitable[Choice]] | None = None,
    environ: Mapping[str, str] | None = None,
    policies: PolicySet | None = None,
    sandbox: Sandbox = NO_SANDBOX,
    vault: VaultStore | None = None,
    counters: Counters | None = None,
) -> AsyncGenerator[Runtime, None]:
    """Run a gateway over a real journal in `folder`, and check the whole journal when it is closed."""
    state_dir, workspace = folder / "state", folder / "work"
    workspace.mkdir(exist_ok=True)
    models: dict[str, Provider] = {"": provider or FakeProvider(says("all done"))}

    async def fake_choice(model: str, base_url: str) -> Choice:
        await trio.lowlevel.checkpoint()
        if model not in models:
            raise ConfigInvalid(f"the test has no model {model}")
        return Choice(models[model], model.partition("/")[2] or "model", "the test says so")

    store, redactor = store or SqliteStore(state_dir), Redactor()
    async with (
        open_journal(store, feed or Feed(), config.journal.queue_bytes, lambda: int(now_s() * 1000)) as journal,
        ReaderPool(state_dir / FILE_NAME) as readers,
        open_jobs(journal, readers, redactor, now_s, random) as jobs,
    ):
        state = RuntimeState(
            config=config,
            config_in=lambda _workspace: config,
            boot_id=boot_id,
            journal=journal,
            readers=readers,
            tools=Registry((*builtin_tools(sandbox), *tools)),
            choose=choose or fake_choice,
            servers=("openai", "ollama"),
            redactor=redactor,
            secrets=Secrets(VaultKeeper(vault, redactor) if vault else None, {}),
            sandbox=sandbox,
            jobs=jobs,
            policies=policies or PolicySet(),
            open_workspace=lambda folder: Workspace.open(os.fsdecode(text_to_name(folder))),
            state_dir=state_dir,
            policies_dir=folder / "policies",
            free_bytes=free_bytes,
            random=random,
            jitter=jitter,
            now_s=now_s,
            environ=environ or {},
            counters=counters or Counters(),
        )
        async with open_gateway(state, recovers=recovers) as gateway:
            yield Runtime(gateway, state, state_dir, workspace, models)
    if checked:
        assert_journal(state_dir, frozenset(left))


def allowing(*tools: str) -> Config:
    """CONFIG with these tools allowed without asking."""
    return attrs.evolve(CONFIG, policy=PolicyRules(allow=tools))


def limited(**limits: int) -> Config:
    return attrs.evolve(CONFIG, limits=attrs.evolve(CONFIG.limits, **limits))


def in_session(accepted: Accepted) -> SessionRef:
    return SessionRef(session_id=accepted.session_id)
