"""From a shell to the journal and the runtime: whose they are, where they lie, and how a command gets at them.

Reading takes no lock and works while another process writes. Whatever writes holds the state directory for as long as
it takes, or is refused. What is read is printed elsewhere.
"""

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.settings import Settings, current_folder, find_state_dir, load_settings
from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.identity import ULID_RANDOM_BYTES, Principal, RequestContext, mint_ulid
from palyra_trio.core.run import RunState
from palyra_trio.guard.auth import user_principal
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.journal.reading import open_reader
from palyra_trio.journal.store import FILE_NAME, LOCK_NAME
from palyra_trio.providers.choose import ModelSettings

if TYPE_CHECKING:
    from palyra_trio.cli.remote_reader import RemoteReader
    from palyra_trio.daemon import Setup

DEVICE_FILE = "device"
INTERRUPTED = "interrupted"


def state_dir() -> Path:
    """Return the folder of this machine's journal. It need not exist. Raises ConfigInvalid when there is no home."""
    return find_state_dir(os.environ, current_folder())


def principal() -> Principal:
    """Return who runs this process, `user:` and the login name, by the process's user id: no variable can say otherwise."""
    return user_principal(os.getuid())


def request_context(folder: Path) -> RequestContext:
    """Return on whose behalf this command acts. The state directory must exist: it keeps the device's name."""
    return RequestContext(principal(), _device(folder / DEVICE_FILE), "cli", local=True)


def _device(path: Path) -> str:
    """Return the ULID that stands for this machine's command line, made once. Of two first uses at once, one wins."""
    if not path.exists():
        minted = mint_ulid(time.time_ns() // 1_000_000, os.urandom(ULID_RANDOM_BYTES))
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=DEVICE_FILE) as file:
            file.write(minted)
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text().strip()


# --- reading ---


def has_journal() -> bool:
    """Return whether there is a journal to ask. A list of nothing is an answer, not an error."""
    return chosen() is not None or (state_dir() / FILE_NAME).exists()


@contextmanager
def reading() -> "Generator[Reader | RemoteReader, None, None]":
    """Open the journal for reading, without a lock: this machine's, or that of the daemon named with `--daemon`.

    Raises NotFound when nothing has run yet, and JournalInvalid.
    """
    if (elsewhere := chosen()) is not None:
        from palyra_trio.cli.remote_reader import RemoteReader

        yield RemoteReader(elsewhere)
        return
    path = state_dir() / FILE_NAME
    if not path.exists():
        raise NotFound(f"there is no journal at {path}: nothing has run yet", remedy='palyra-trio run "…" starts one')
    with closing(open_reader(path)) as reader:
        yield reader


def is_held(folder: Path) -> bool:
    """Return whether a process holds the state directory, and so may be running what the journal calls running.

    Asks for a shared lock and gives it back within microseconds; a process that starts in just that moment is told
    that the directory is in use. Of a daemon elsewhere it is so: it answered.
    """
    if chosen() is not None:
        return True
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def claimed(folder: Path) -> Generator[bool, None, None]:
    """Hold the state directory, which must exist, for the length of the block; yield False where another process does.

    Unlike `lock_state_dir` it writes nothing, and follows no link. Raises OSError.
    """
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def state_word(run: RunSummary, held: bool) -> str:
    """Return the run's state, or `interrupted` for one at work whose process has gone: nobody is left to go on with it."""
    left_behind = run.state is RunState.RUNNING and not held
    parked = run.state is RunState.WAITING and run.reason == INTERRUPTED
    return INTERRUPTED if left_behind or parked else run.state.value


# --- writing ---


def read_settings(flags: Mapping[str, object] | None = None, folder: Path | None = None) -> Settings:
    """Return what is configured for a folder, or the current one, after its warnings on stderr. Raises ConfigInvalid."""
    settings = load_settings(flags or {}, os.environ, folder or current_folder())
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    return settings


def model_settings(settings: Settings) -> ModelSettings:
    """Return what the choice of a model depends on, apart from any project."""
    return ModelSettings(
        model=settings.base.model.name,
        openai_api_key=settings.credentials.openai_api_key,
        openai_base_url=settings.base.model.base_url or settings.credentials.openai_base_url,
        ollama_host=settings.credentials.ollama_host,
        anthropic_api_key=settings.credentials.anthropic_api_key,
        idle_s=settings.base.model.idle_s,
        api_key_reference=settings.base.model.api_key,
    )


def setup_of(settings: Settings) -> "Setup":
    """Return what a process of these settings opens its runtime with."""
    from palyra_trio.cli.vault_place import vault_store
    from palyra_trio.daemon import Setup

    return Setup(
        settings.base,
        model_settings(settings),
        settings.state_dir,
        settings.sources.config_in,
        settings.policies_dir,
        vault_store(),
    )


def confirm(question: str, yes: bool) -> None:
    """Ask the person at the terminal, unless `yes`; end with exit status 1 when they decline.

    Raises InvalidArgument where there is no terminal to ask at.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidArgument("there is no terminal to ask at", remedy="pass --yes")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(1)
