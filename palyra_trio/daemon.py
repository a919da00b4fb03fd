"""The composition root: the only place where services are constructed, and the order in which they start and end.

`open_runtime` gives a process the whole runtime: the journal's writer outermost, the runs inside it. Whoever leaves
the block drains the runs first and closes the journal last.
"""

import gc
import os
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

from palyra_trio import __version__
from palyra_trio.core.config import Config
from palyra_trio.core.identity import mint_ulid
from palyra_trio.core.tape import SYSTEM_STREAM, BootStarted
from palyra_trio.core.text import text_to_name
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.queries import ReaderPool
from palyra_trio.journal.store import FILE_NAME, SqliteStore, entry
from palyra_trio.journal.writer import open_journal, wall_clock_ms
from palyra_trio.providers.choose import Models, ModelSettings
from palyra_trio.runtime.gateway import Gateway, open_gateway
from palyra_trio.runtime.state import RuntimeState
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.registry import Registry
from palyra_trio.tools.workspace import Workspace


@asynccontextmanager
async def open_runtime(config: Config, models: ModelSettings, state_dir: Path) -> AsyncGenerator[Gateway, None]:
    """Run the runtime in this process for the length of the block, as the holder of `state_dir`.

    Raises StateLocked when another process holds it, JournalInvalid for a journal that this version cannot use, and
    JournalStopped when a commit fails. Leaving the block drains: live runs get `daemon.drain_s`, then are interrupted.
    """
    store = SqliteStore(state_dir)
    async with open_journal(store, Feed(), config.journal.queue_bytes) as journal:
        boot_id = mint_ulid(wall_clock_ms(), os.urandom(10))
        await journal.append([entry(SYSTEM_STREAM, BootStarted(boot_id, os.getpid(), __version__))])
        async with aclosing(Models(models)) as providers, ReaderPool(state_dir / FILE_NAME) as readers:
            state = RuntimeState(
                config=config,
                boot_id=boot_id,
                journal=journal,
                readers=readers,
                tools=Registry(builtin_tools()),
                choose=providers.choose,
                redactor=Redactor(),
                open_workspace=_open_workspace,
                state_dir=state_dir,
                free_bytes=partial(_free_bytes, state_dir),
                random=os.urandom,
                jitter=random.random,
            )
            async with open_gateway(state) as gateway:
                yield gateway


def calm_collector() -> None:
    """Let the garbage collector leave alone what this process will keep, and look for cycles less often.

    For a process that does nothing but this, once, after `open_runtime`: a run makes many small objects and hardly any
    cycles (measured: a tenth of the CPU time of a step).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _open_workspace(folder: str) -> Workspace:
    return Workspace.open(os.fsdecode(text_to_name(folder)))


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
