"""What the runtime may use: one bundle, built by the daemon and handed down. It decides nothing itself."""

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from palyra_trio.core.config import Config, LatencyConfig
from palyra_trio.core.identity import mint_ulid
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.reader_pool import ReaderPool
from palyra_trio.journal.writer import Journal
from palyra_trio.providers.choose import Choice
from palyra_trio.runtime.counters import Counters
from palyra_trio.runtime.jobs import Jobs
from palyra_trio.runtime.latency import Latencies
from palyra_trio.runtime.recent_log import RecentLog
from palyra_trio.runtime.secrets import Secrets
from palyra_trio.tools.registry import Registry
from palyra_trio.tools.sandbox import Sandbox
from palyra_trio.tools.workspace import Workspace

T = TypeVar("T")

DISK_THREADS = 16  # each folder on a disk that does not answer holds one


@attrs.define(on_setattr=attrs.setters.frozen)
class RuntimeState:
    """The services of one process. Only the configuration is ever replaced, by a reload; a run keeps what it began with.

    `config` is the process's own; `config_in` returns what holds for a run in a workspace, whose project may narrow it
    (or widen it, once the user has accepted that), and raises ConfigInvalid.

    `policies` decide on tool calls; the user's are the files of `policies_dir`, which need not exist. `sandbox` is what
    programs run in, `jobs` are the long ones of sessions. `boot_id` names this process on the tape. `choose` turns
    `provider/model` (or nothing) and a base URL (or nothing) into a provider, and raises ConfigInvalid or ProviderError;
    `servers` are the providers that may be asked which models they have. `open_workspace` takes a folder as
    `core.text.name_to_text` spells it. `state_dir` is where the journal lies, and `free_bytes` the space left there. `random`
    returns that many random bytes; `jitter` a number from 0 to 1. `now_s` is Unix time. `environ` is the environment of the
    process, for the programs that it starts on the user's behalf. `counters` and `latencies` are what it says of itself in
    numbers, `recent_log` in words. `origins` says of each key of `config` where its value comes from.
    """

    config: Config = attrs.field(on_setattr=attrs.setters.NO_OP)
    config_in: Callable[[str], Config] = attrs.field(on_setattr=attrs.setters.NO_OP)
    boot_id: str
    journal: Journal
    readers: ReaderPool
    tools: Registry
    choose: Callable[[str, str], Awaitable[Choice]]
    redactor: Redactor
    secrets: Secrets
    policies: PolicySet
    sandbox: Sandbox
    jobs: Jobs
    open_workspace: Callable[[str], Workspace]
    state_dir: Path
    policies_dir: Path
    free_bytes: Callable[[], int]
    random: Callable[[int], bytes]
    jitter: Callable[[], float]
    now_s: Callable[[], float] = time.time
    servers: tuple[str, ...] = ()
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    counters: Counters = attrs.field(factory=Counters)
    latencies: Latencies = attrs.field(factory=lambda: Latencies(LatencyConfig()))
    recent_log: RecentLog = attrs.field(factory=RecentLog)
    origins: Mapping[str, str] = attrs.field(factory=dict, on_setattr=attrs.setters.NO_OP)
    _disk: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(DISK_THREADS), init=False)

    async def look(self, at: Callable[[], T]) -> T:
        """Return `at()`, computed in a thread: a disk that does not answer holds up who asks, not the process.

        `at` only reads, and keeps nothing open: a cancel leaves it to end by itself.
        """
        return await trio.to_thread.run_sync(at, abandon_on_cancel=True, limiter=self._disk)

    async def enter(self, folder: str) -> Workspace:
        """Return the folder, opened in a thread. A cancel waits until that was answered, so that nothing stays open."""
        return await trio.to_thread.run_sync(self.open_workspace, folder, limiter=self._disk)

    def new_id(self) -> str:
        return mint_ulid(int(self.now_s() * 1000), self.random(10))
