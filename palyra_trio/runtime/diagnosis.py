"""What is wrong with an installation, or will be, and the exact remedy: what `doctor` looks at, and what a daemon can of itself.

A look changes nothing. Whoever asks decides what to make of a fault.
"""

import os
import platform
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Literal

import attrs
import trio

from palyra_trio.core.config import MIB
from palyra_trio.core.errors import PalyraError
from palyra_trio.guard.policy_files import read_policy_files
from palyra_trio.guard.presets import policy_hash
from palyra_trio.journal.check import check_file
from palyra_trio.journal.reading import SQLITE, SQLITE_NEEDED, open_reader
from palyra_trio.journal.store import FILE_NAME, SCHEMA_VERSION
from palyra_trio.runtime.policies import check_set
from palyra_trio.runtime.state import RuntimeState

Health = Literal["ok", "warning", "fault"]

OLDEST_PYTHON = (3, 11)
OPAQUE_TIER = 4  # what interpreters and shells need
MODEL_S = 5.0  # that a server which is asked for its models has
VERIFY_S = 5.0  # for a look at the rows of a journal: some hundred thousand
CLOCK_SLACK_MS = 5000  # by which clocks are set back without anybody noticing


@attrs.frozen
class Check:
    """What was looked at, how it is, and what to do where it is not ok. A remedy may have several lines."""

    name: str
    health: Health
    said: str
    remedy: str = ""


def python() -> Check:
    """Look at what this process runs on."""
    said = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", "fault", said, "install Python 3.11 or newer")
    return Check("python", "ok", said)


def sqlite(version: tuple[int, ...] = SQLITE) -> Check:
    """Look at the library that the journal is kept with."""
    said = ".".join(map(str, version))
    if version < SQLITE_NEEDED:
        return Check("sqlite", "fault", said, "use a Python that is linked with SQLite 3.37 or newer")
    return Check("sqlite", "ok", said)


def state_folder(folder: Path) -> Check:
    """Look at the folder, or, where the first run is to make it, at the nearest one above that there is."""
    name, said = "state folder", str(folder)
    there = _nearest(folder)
    try:
        status = there.stat()
    except OSError as error:
        return Check(name, "fault", f"{there}: {error.strerror}", "name another folder in PALYRA_STATE_DIR")
    if not stat.S_ISDIR(status.st_mode):
        return Check(name, "fault", f"{there} is no folder", "name another folder in PALYRA_STATE_DIR")
    if there == folder and status.st_uid != os.geteuid():
        said = f"{folder} belongs to user {status.st_uid}, and you are {os.geteuid()}"
        return Check(name, "fault", said, f"chown -R {os.geteuid()} {folder}")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "fault", f"{there} cannot be written", f"chmod u+rwx {there}")
    if there != folder:
        return Check(name, "ok", f"{said}; the first run makes it")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return Check(name, "warning", f"{said}, mode {mode:04o}: others can look into it", f"chmod 700 {folder}")
    return Check(name, "ok", f"{said}, mode {mode:04o}, yours")


def disk(folder: Path, min_free_bytes: int) -> Check:
    """Look at the room where the folder is, or is to be made. Raises OSError."""
    there = os.statvfs(_nearest(folder))
    free = there.f_bavail * there.f_frsize
    said = f"{free // MIB} MiB are free, and a run needs {min_free_bytes // MIB} to be admitted"
    if free < min_free_bytes:
        remedy = f"free {(min_free_bytes - free) // MIB + 1} MiB there, or lower journal.min_free_bytes"
        return Check("disk", "fault", said, remedy)
    return Check("disk", "ok", said)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that there is."""
    return next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))


def clock(path: Path, now_ms: int) -> Check:
    """Look whether time goes on from the newest row of the journal. Deadlines and grants are told by it."""
    try:
        with closing(open_reader(path)) as reader:
            behind_ms = reader.newest_at_ms() - now_ms
    except PalyraError:
        return Check("clock", "ok", "there is no journal to compare it with")
    if behind_ms > CLOCK_SLACK_MS:
        said = f"it is {behind_ms // 1000} s behind the newest row of the journal"
        return Check(
            "clock", "fault", said, "set the clock (`timedatectl set-ntp true`); what has a deadline waits longer"
        )
    return Check("clock", "ok", "it is not behind the journal")


def rows(path: Path, seconds: float = VERIFY_S) -> Check:
    """Look whether every row and blob of the journal is what was written, as far as that can be done in some seconds."""
    until = time.monotonic() + seconds

    def tell(count: int) -> None:
        if time.monotonic() > until:
            raise _Enough(count)

    try:
        report = check_file(path, tell)
    except _Enough as enough:
        said = (
            f"the first {enough.rows} rows are what was written; there are more than can be looked at in {seconds:g} s"
        )
        return Check("rows", "ok", said, "palyra-trio journal verify looks at all of them")
    except PalyraError as error:
        return refused("rows", error)
    if report.faults:
        return Check(
            "rows", "fault", report.faults[0], "restore the journal from a backup; palyra-trio journal verify says more"
        )
    return Check(
        "rows", "ok", f"{report.rows} rows and {report.blobs} blobs are what was written", "\n".join(report.notes)
    )


class _Enough(Exception):
    """The time for a look at the rows is over."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


def journal(path: Path) -> Check:
    """Look at the journal's schema. Raises nothing: what cannot be read is a fault."""
    if not path.exists():
        return Check("journal", "ok", "there is none yet: nothing has run")
    try:
        with closing(open_reader(path)) as reader:
            version = reader.schema_version()
    except PalyraError as error:
        return refused("journal", error)
    said = f"schema version {version}"
    return Check("journal", "ok", said if version == SCHEMA_VERSION else f"{said}; the next run brings it up to date")


def sandbox_check(in_force: str, missing: Iterable[str]) -> Check:
    """Return how good it is what programs run in, by the lines of its report."""
    full = in_force.startswith(f"sandbox tier {OPAQUE_TIER}")
    return Check("sandbox", "ok" if full else "warning", in_force, "\n".join(missing))


def refused(name: str, error: PalyraError) -> Check:
    """Return the fault that an error tells of, with its remedy."""
    said, *more = error.message.splitlines()
    return Check(name, "fault", said, "\n".join((*more, error.remedy)).strip("\n"))


# --- a daemon, of itself ---


async def examine(state: RuntimeState) -> tuple[Check, ...]:
    """Look at this process and what it stands on. A server that must be asked for its models is, for MODEL_S at most."""

    def look() -> tuple[Check, ...]:
        folder, path = state.state_dir, state.state_dir / FILE_NAME
        room = disk(folder, state.config.journal.min_free_bytes)
        now_ms = int(state.now_s() * 1000)
        return python(), sqlite(), state_folder(folder), room, journal(path), clock(path, now_ms)

    in_force, *missing = state.sandbox.report.lines()
    return (
        *await state.look(look),
        await _policies(state),
        await _vault(state),
        await _model(state),
        sandbox_check(in_force, missing),
    )


async def _policies(state: RuntimeState) -> Check:
    try:
        files = await state.look(lambda: read_policy_files(state.policies_dir))
        await check_set(files, state.config.policy)
    except PalyraError as error:
        return refused("policies", error)
    said = f"preset {state.config.policy.preset}, {len(files)} of your files in {state.policies_dir}"
    if policy_hash(files) != state.policies.hash:
        return Check(
            "policies", "warning", f"{said}: they were changed, and are not in force", "palyra-trio policy reload"
        )
    return Check("policies", "ok", said)


async def _vault(state: RuntimeState) -> Check:
    await state.secrets.refresh()
    if locked := state.secrets.locked:
        return Check("vault", "warning", f"it is locked: {locked}")
    return Check("vault", "ok", "it can be opened, or there is none")


async def _model(state: RuntimeState) -> Check:
    try:
        with trio.fail_after(MODEL_S):
            choice = await state.choose(state.config.model.name, state.config.model.base_url)
    except PalyraError as error:
        return refused("model", error)
    except trio.TooSlowError:
        return Check("model", "fault", f"the server did not say within {MODEL_S:g} s which models it has")
    said = f"{choice.provider.name}/{choice.model} answers: {choice.why}"
    if choice.provider.name == "offline":
        remedy = "set OPENAI_API_KEY, OPENAI_BASE_URL or OLLAMA_HOST for a model that understands"
        return Check("model", "warning", said, remedy)
    return Check("model", "ok", said)
