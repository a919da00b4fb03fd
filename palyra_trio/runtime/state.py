"""What the runtime may use: one bundle, built by the daemon and handed down. It does nothing itself."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from palyra_trio.core.config import Config
from palyra_trio.core.identity import mint_ulid
from palyra_trio.guard.redactor import Redactor
from palyra_trio.journal.queries import ReaderPool
from palyra_trio.journal.writer import Journal
from palyra_trio.providers.choose import Choice
from palyra_trio.tools.registry import Registry
from palyra_trio.tools.workspace import Workspace


@attrs.define(on_setattr=attrs.setters.frozen)
class RuntimeState:
    """The services of one process. Only the configuration is ever replaced, by a reload; a run keeps what it began with.

    `config` is the process's own; `config_in` returns what holds for a run in a workspace, whose project may narrow it
    (or widen it, once the user has accepted that), and raises ConfigInvalid.

    `boot_id` names this process on the tape. `choose` turns `provider/model` (or nothing) and a base URL (or nothing) into a provider, and
    raises ConfigInvalid or ProviderError. `open_workspace` takes a folder as `core.text.name_to_text` spells it.
    `state_dir` is where the journal lies, and `free_bytes` the space left there. `random` returns that many random
    bytes; `jitter` a number from 0 to 1. `now_s` is Unix time.
    """

    config: Config = attrs.field(on_setattr=attrs.setters.NO_OP)
    config_in: Callable[[str], Config] = attrs.field(on_setattr=attrs.setters.NO_OP)
    boot_id: str
    journal: Journal
    readers: ReaderPool
    tools: Registry
    choose: Callable[[str, str], Awaitable[Choice]]
    redactor: Redactor
    open_workspace: Callable[[str], Workspace]
    state_dir: Path
    free_bytes: Callable[[], int]
    random: Callable[[int], bytes]
    jitter: Callable[[], float]
    now_s: Callable[[], float] = time.time

    def new_id(self) -> str:
        return mint_ulid(int(self.now_s() * 1000), self.random(10))
