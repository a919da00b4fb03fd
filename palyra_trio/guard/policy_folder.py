"""The folder of the user's policies while one of its files is replaced: nobody else changes it, and a crash leaves it whole.

What goes into a file is decided elsewhere; so is when a daemon reads the folder again.
"""

import fcntl
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.policy_files import read_policy_files
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.posture import FILE_NAME, Posture, parse_postures
from palyra_trio.guard.private_file import replace_private

Files = tuple[PolicySource, ...]


async def change_file(
    folder: Path, make: Callable[[Files], PolicySource], check: Callable[[Files], Awaitable[None]]
) -> Files:
    """Put what `make` returns, given all files of the folder, in the place of the file of that name; return all files.

    `check` is given them as they will be; what it raises leaves the folder as it was. Raises ConfigInvalid for files that
    cannot be read, and for a folder that cannot be written. If cancelled, the old file stands there or the new one.
    """
    try:
        async with _changing(folder):
            files = await trio.to_thread.run_sync(read_policy_files, folder)
            new = make(files)
            files = with_file(files, new)
            await check(files)
            await trio.to_thread.run_sync(replace_private, folder / new.name, new.text.encode())
            return files
    except OSError as error:
        raise ConfigInvalid(
            f"{folder} cannot be written: {error.strerror or error}", remedy="look at who owns it, and its mode"
        ) from error


def with_file(files: Iterable[PolicySource], new: PolicySource) -> Files:
    """Return `files`, in order of name, with `new` in the place of the one that has its name."""
    return tuple(sorted((*(each for each in files if each.name != new.name), new), key=lambda each: each.name))


def postures_of(files: Iterable[PolicySource]) -> tuple[Posture, ...]:
    """Return the postures of the managed file among `files`. Raises ConfigInvalid when it was changed by hand."""
    return next((parse_postures(each.text) for each in files if each.name == FILE_NAME), ())


@asynccontextmanager
async def _changing(folder: Path) -> AsyncGenerator[None, None]:
    """Hold the folder, which is made if need be, against the changes of other tasks and processes."""
    descriptor = await trio.to_thread.run_sync(_hold, folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _hold(folder: Path) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
