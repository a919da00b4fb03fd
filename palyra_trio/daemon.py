"""The composition root: the only place where services are constructed, and the order in which they start and end.

`open_runtime` gives a process the whole runtime: the journal's writer outermost, the runs inside it. `open_daemon` adds
the edges, inside the runs, so that they leave before what they use. Whoever leaves a block ends the innermost first.
"""

import gc
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

import attrs
import trio

from palyra_trio import __version__
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.config import MIB, Config, SandboxConfig
from palyra_trio.core.identity import Caller, RequestContext, Scope, mint_ulid
from palyra_trio.core.system_events import BootStarted
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.core.text import text_to_name
from palyra_trio.guard.auth import Authenticator, user_principal
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.guard.redactor import Redactor
from palyra_trio.guard.vault_keeper import VaultKeeper
from palyra_trio.guard.vault_store import VaultStore
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.journal.store import FILE_NAME, SqliteStore, entry
from palyra_trio.journal.writer import open_journal, wall_clock_ms
from palyra_trio.providers.choose import Models, ModelSettings
from palyra_trio.runtime.access import Access, keep_local_token
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.gateway import Gateway, open_gateway
from palyra_trio.runtime.jobs import open_jobs
from palyra_trio.runtime.latency import Latencies
from palyra_trio.runtime.policies import read_checked
from palyra_trio.runtime.recent_log import RecentLog
from palyra_trio.runtime.secrets import Secrets
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.runtime.trace_export import open_tracing
from palyra_trio.tools import overlay
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.job import Bounds
from palyra_trio.tools.registry import Registry
from palyra_trio.tools.sandbox import SandboxSettings, open_sandbox
from palyra_trio.tools.workspace import Workspace
from palyra_trio.transports.http_listener import Http, open_http
from palyra_trio.transports.listeners import Edges, open_edges
from palyra_trio.transports.shown_certificates import open_certificates

_log = logging.getLogger(__name__)

LAST_ROWS_S = 0.5  # that followers have, once the last runs were interrupted, to be sent what they did not see yet


@attrs.frozen
class Setup:
    """What a process says of the runtime that it opens, as the holder of `state_dir`.

    `config_in` returns the configuration of a run in a workspace; without it `config` holds everywhere. `policies_dir`
    holds the user's policies; without it they lie in `state_dir`. What `vault` holds is masked by `redactor`; without
    one, there is no vault. `origins` says where the values of `config` come from, and `recent_log` what was logged, for an
    operator who asks.
    """

    config: Config
    models: ModelSettings
    state_dir: Path
    config_in: Callable[[str], Config] | None = None
    policies_dir: Path | None = None
    vault: VaultStore | None = None
    redactor: Redactor = attrs.Factory(Redactor)
    origins: Mapping[str, str] = attrs.Factory(dict)
    recent_log: RecentLog = attrs.Factory(RecentLog)


@asynccontextmanager
async def open_runtime(setup: Setup, *, recovers: bool = False) -> AsyncGenerator[Gateway, None]:
    """Run the runtime in this process for the length of the block.

    With `recovers` it goes on with what waits since an earlier process. Leaving the block drains: live runs get
    `daemon.drain_s`, then are interrupted.

    Raises ConfigInvalid for faulty policies, and for traces without the extra `otel`, StateLocked when another process
    holds the state directory, JournalInvalid for a journal that this version cannot use, and JournalStopped when a commit
    fails.
    """
    config, state_dir, redactor, vault = setup.config, setup.state_dir, setup.redactor, setup.vault
    policies_dir = setup.policies_dir or state_dir / "policies"
    policy_files = await read_checked(policies_dir, config.policy)
    secrets = Secrets(VaultKeeper(vault, redactor) if vault is not None else None, dict(os.environ))
    await secrets.refresh()
    store = SqliteStore(state_dir)
    counters, latencies = Counters(), Latencies(config.latency)
    tracing = await open_tracing(config.otel, secrets.key, counters)
    journal_write = latencies.journal_write.observe
    feed = Feed(watch=counters.take if tracing is None else _both(counters.take, tracing.take))
    async with open_journal(store, feed, config.journal.queue_bytes, took=journal_write) as journal:
        boot_id = mint_ulid(wall_clock_ms(), os.urandom(10))
        await journal.append([entry(SYSTEM_STREAM, BootStarted(boot_id, os.getpid(), __version__))])
        await trio.to_thread.run_sync(overlay.sweep, overlay.places(state_dir))
        async with (
            aclosing(Models(setup.models, secrets.key)) as providers,
            ReaderPool(state_dir / FILE_NAME) as readers,
            open_sandbox(
                sandbox_settings(config.sandbox), Path.home(), layers_in=overlay.places(state_dir), proven=False
            ) as sandbox,
            open_jobs(journal, readers, redactor, time.time, os.urandom) as jobs,
            tracing.sending(readers, boot_id) if tracing is not None else nullcontext(),
        ):
            state = RuntimeState(
                config=config,
                config_in=setup.config_in or (lambda _workspace: config),
                boot_id=boot_id,
                journal=journal,
                readers=readers,
                tools=Registry(builtin_tools(sandbox)),
                choose=providers.choose,
                servers=setup.models.servers,
                redactor=redactor,
                secrets=secrets,
                policies=PolicySet(policy_files),
                sandbox=sandbox,
                jobs=jobs,
                open_workspace=_open_workspace,
                state_dir=state_dir,
                policies_dir=policies_dir,
                free_bytes=partial(_free_bytes, state_dir),
                random=os.urandom,
                jitter=random.random,
                environ=dict(os.environ),
                counters=counters,
                latencies=latencies,
                recent_log=setup.recent_log,
                origins=setup.origins,
            )
            async with open_gateway(state, recovers=recovers) as gateway:
                yield gateway


@attrs.frozen
class Daemon:
    """A runtime that serves: what this process's own commands use, and the edges that others come in by."""

    gateway: Gateway
    edges: Edges
    http: Http
    _local_user: RequestContext
    _nursery: trio.Nursery

    def console_link(self) -> str:
        """Return an address that signs the user of this process in with a browser, once; "" where there is no console."""
        if not self.http.addresses:
            return ""
        return self.http.invite(Caller(attrs.evolve(self._local_user, channel="console"), frozenset(Scope))).url

    def drain(self, drain_s: float) -> None:
        """Take no more work. Runs may go on for `drain_s`, and calls a little longer: who follows a run sees its last rows.

        Leaving the daemon's block waits for that.
        """
        deadline = self.gateway.drain_by(trio.current_time() + drain_s)
        self._nursery.start_soon(self._interrupt_at, deadline)
        self.edges.drain(deadline + LAST_ROWS_S)
        self.http.drain(deadline + LAST_ROWS_S)

    async def _interrupt_at(self, deadline: float) -> None:
        await trio.sleep_until(deadline)
        self.gateway.sessions.stop("the process was shut down")


@asynccontextmanager
async def open_daemon(setup: Setup, *, tcp: bool) -> AsyncGenerator[Daemon, None]:
    """Run the runtime and serve it on the state directory's Unix socket, and if `tcp` on TCP and for HTTP/3, for the length of the
    block; then with the console too.

    The user of this process may come in over the socket without a token. Raises what `open_runtime`, `open_certificates`,
    `open_edges` and `open_http` raise.
    """
    config, state_dir = setup.config, setup.state_dir
    local_user = RequestContext(user_principal(os.getuid()), local=True)
    async with open_runtime(setup, recovers=tcp) as gateway:
        if tcp:
            await keep_local_token(gateway, state_dir, local_user, wall_clock_ms())
        authenticator = Authenticator(gateway.tokens, os.getuid(), local_user.principal, time.time)
        access = Access(authenticator, gateway)
        grpc, quic, console = (config.grpc, config.quic, config.http) if tcp else (None, None, None)
        async with trio.open_nursery() as nursery:
            if tcp:
                nursery.start_soon(_prove_sandbox, gateway)
            async with (
                open_certificates(state_dir, grpc, quic, console) as certificates,
                open_http(gateway, access, console, certificates) as http,
                open_edges(gateway, access, state_dir, grpc, quic, http, certificates) as edges,
            ):
                yield Daemon(gateway, edges, http, local_user, nursery)
            nursery.cancel_scope.cancel()


async def _prove_sandbox(gateway: Gateway) -> None:
    """Find out at start what programs run in, and say so. Whoever needs to know before asks again."""
    try:
        report = await gateway.prove_sandbox()
    except OSError as error:
        _log.error("the sandbox could not be probed", exc_info=error)
    else:
        _log.info("sandbox", extra={"tier": report.tier, "report": report.lines()})


def calm_collector() -> None:
    """Let the garbage collector leave alone what this process will keep, and look for cycles less often.

    For a process that does nothing but this, once, after `open_runtime`: a run makes many small objects and hardly any
    cycles (measured: a tenth of the CPU time of a step).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def sandbox_settings(config: SandboxConfig) -> SandboxSettings:
    """Return what is configured of the sandbox as it is asked for."""
    bounds = Bounds(pids=config.pids, memory_bytes=config.memory_mib * MIB, output_bytes=config.output_mib * MIB)
    return SandboxSettings(config.read_only, config.path, config.user, config.bare, bounds)


Watch = Callable[[Collection[TapeRow]], None]


def _both(first: Watch, second: Watch) -> Watch:
    def watch(rows: Collection[TapeRow]) -> None:
        first(rows)
        second(rows)

    return watch


def _open_workspace(folder: str) -> Workspace:
    return Workspace.open(os.fsdecode(text_to_name(folder)))


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
