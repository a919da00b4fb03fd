"""Files that only their owner may see: read with every doubt about whose they are, and replaced as a whole.

A folder is made with mode 0700, a file with 0600. What belongs to somebody else, or lets anybody else in, is refused and
not repaired: it may have been read already. What the files say is not known here.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from palyra_trio.core.errors import ConfigInvalid

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LOCK = "lock"


def private_folder(folder: Path) -> Path:
    """Return `folder`, which is made if need be. Raises ConfigInvalid when others could get at what is in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(folder)
    except OSError as error:
        raise ConfigInvalid(f"{folder} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigInvalid(f"{folder} is no folder", remedy="look at who put it there, and remove it")
    _refuse_strangers(folder, status)
    return folder


def read_private(path: Path, most_bytes: int) -> bytes | None:
    """Return what a file holds, None where there is none.

    Raises ConfigInvalid for a link, for anything but a regular file, for one of another owner or that lets others in, and
    for one that is larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}", remedy="look at what it is") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigInvalid(f"{path} is no regular file", remedy="look at who put it there, and remove it")
        _refuse_strangers(path, status)
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(raw) > most_bytes:
        raise ConfigInvalid(f"{path} is larger than {most_bytes} bytes, so it is not what it should be")
    return raw


def _refuse_strangers(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise ConfigInvalid(
            f"{path} belongs to user {status.st_uid}, not to you", remedy="it is not used; look at who made it"
        )
    if status.st_mode & _OTHERS:
        raise ConfigInvalid(
            f"others may get at {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            remedy=f"chmod go-rwx {path}, and take the secrets that it protects for known",
        )


def create_private(path: Path, raw: bytes) -> None:
    """Write a new file, durably. Raises FileExistsError, and OSError; then no part of it is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _fill(descriptor, raw)
    except BaseException:
        os.unlink(path)
        raise
    _sync(path.parent)


def replace_private(path: Path, raw: bytes) -> None:
    """Put a file in the place of the one at `path`: a crash leaves the old one or the new one, whole.

    Who changes what it says, and not all of it, holds the folder (`changing`). Raises ConfigInvalid when it cannot be
    written.
    """
    try:
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            _fill(descriptor, raw)
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise
        _sync(path.parent)
    except OSError as error:
        raise ConfigInvalid(
            f"{path} cannot be written: {error.strerror}", remedy="look at the disk, and the mode of its folder"
        ) from error


@contextmanager
def changing(folder: Path) -> Generator[None, None, None]:
    """Hold a private folder, which is made if need be, against the changes of other processes, which wait for it."""
    private_folder(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(folder / _LOCK, flags, 0o600), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(descriptor: int, raw: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
