"""What the doctor looks at in the folders that are this user's: who may look into them, what was left behind, what is missing.

A look changes nothing. A mend changes modes through descriptors, makes folders, and removes a socket that nobody answers
at, with the state folder held against daemons meanwhile. It deletes nothing that was ever written to.
"""

import os
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from glob import escape
from pathlib import Path

import attrs

from palyra_trio.cli.console import FILE_NAME as CONSOLE_PAGE
from palyra_trio.cli.door import SOCKET_NAME
from palyra_trio.cli.open import claimed, is_held
from palyra_trio.cli.profiles import AUTHORITIES
from palyra_trio.cli.profiles import FILE_NAME as PROFILES
from palyra_trio.core.config import Config
from palyra_trio.guard.private_modes import FILE_MODE, FOLDER_MODE, Exposed, PrivateFolder, exposed
from palyra_trio.journal.store import FILE_NAME, LOCK_NAME
from palyra_trio.runtime.access import TOKEN_FILE
from palyra_trio.runtime.diagnosis import Check

FIX = "palyra-trio doctor --fix"
ANSWER_S = 1.0  # that who listens at a socket has to take a connection


@attrs.frozen
class Line:
    """What a mend did, or, when not `done`, what it left, and why."""

    said: str
    done: bool = True


# --- the state folder itself ---


def mend_state_folder(folder: Path) -> Iterator[Line]:
    """Make it where there is none, and let nobody else look into it."""
    if not os.path.lexists(folder):
        yield _made(folder)
    else:
        yield from map(_line, exposed(PrivateFolder(str(folder), files=()), close=True))


# --- what only its owner should see ---


def private_places(
    state_dir: Path, config_dir: Path, runtime_dir: Path | None, log_file: str
) -> tuple[PrivateFolder, ...]:
    """Return where this user's keys, tokens, certificates and records lie."""
    own = (f"{escape(FILE_NAME)}*", LOCK_NAME, TOKEN_FILE, CONSOLE_PAGE, "device", "trusted.json")
    places = [
        PrivateFolder(str(state_dir), own, (PrivateFolder("tls"), PrivateFolder("vault")), shared=True),
        PrivateFolder(str(config_dir), (PROFILES,), (PrivateFolder("keys"), PrivateFolder(AUTHORITIES)), shared=True),
    ]
    if runtime_dir is not None:
        places.append(PrivateFolder(str(runtime_dir), (), (PrivateFolder("palyra-trio"),), shared=True))
    if log_file:
        places.append(PrivateFolder(str(Path(log_file).parent), (escape(Path(log_file).name),), shared=True))
    return tuple(places)


def private_files(places: Iterable[PrivateFolder]) -> Check:
    found = [each for place in places for each in exposed(place)]
    if not found:
        return Check("private files", "ok", "only you can get at your keys, tokens, certificates and records")
    said = "; ".join(f"{each.path}: {each.left or f'mode {each.mode:04o}'}" for each in found)
    remedy = FIX if not all(each.left for each in found) else "look at who put them there"
    return Check("private files", "fault", said, remedy)


def mend_private_files(places: Iterable[PrivateFolder]) -> Iterator[Line]:
    for place in places:
        yield from map(_line, exposed(place, close=True))


def _line(found: Exposed) -> Line:
    if found.left:
        return Line(f"{found.path}: {found.left}", done=False)
    known = "; take for known what it held" if found.wanted == FILE_MODE else ""
    return Line(f"{found.path}: mode {found.mode:04o} is now {found.wanted:04o}{known}")


def given_keys(config: Config) -> Check:
    """Look at the keys that the configuration names: not ours to change, and other programs may need them."""
    keys = {config.grpc.tls_key_file, config.http.tls_key_file} - {""}
    open_to_all = sorted(key for key in keys if os.path.exists(key) and os.stat(key).st_mode & stat.S_IRWXO)
    if not open_to_all:
        return Check("given keys", "ok", "the configuration names no key that everybody can read")
    remedy = "\n".join(f"chmod o-rwx {key}" for key in open_to_all)
    return Check("given keys", "fault", f"everybody can get at {', '.join(open_to_all)}", remedy)


def leave_given_keys() -> Iterator[Line]:
    """Say why nothing is done about them."""
    yield Line("other programs may need them as they are", done=False)


# --- the lock and the socket ---


def holder(folder: Path) -> Check:
    """Say who holds the folder. The lock is the kernel's, and ends with its process: a file that is left means nothing."""
    path = folder / LOCK_NAME
    try:
        if not is_held(folder):
            return Check("lock", "ok", "no process holds the state folder")
        named = path.read_text().strip()
    except OSError as error:
        return Check("lock", "fault", f"{path}: {error.strerror}", f"chown {os.geteuid()} {path}")
    if named.isdecimal() and not Path("/proc", named).exists():
        said = f"process {named} held the state folder and is gone, and what it started still holds it"
        return Check("lock", "warning", said, f"`fuser {path}` names it; end it, and the lock is free")
    return Check("lock", "ok", f"process {named} holds the state folder")


def socket_left(folder: Path, answers: bool) -> Check:
    """Look at what lies where a daemon listens. `answers` says that the process which holds the folder did, when asked."""
    path, name = folder / SOCKET_NAME, "socket"
    held = is_held(folder)
    if held and answers:
        return Check(name, "ok", f"who holds the state folder answers at {path}")
    if held:
        said = f"who holds the state folder does not answer at {path}"
        return Check(name, "warning", said, "it may be starting or ending; look again, and else end it")
    why = _not_stale(path)
    if why is None:
        return Check(name, "ok", "nobody serves, and none was left")
    if why:
        return Check(name, "fault", f"{path}: {why}", "look at who put it there")
    return Check(name, "warning", f"{path} was left behind: nobody answers at it", FIX)


def mend_socket(folder: Path) -> Iterator[Line]:
    path = folder / SOCKET_NAME
    with claimed(folder) as free:
        if not free:
            yield Line(f"{path}: a process holds the state folder, and it is that one's", done=False)
        elif why := _not_stale(path):
            yield Line(f"{path}: {why}", done=False)
        elif why is not None:
            path.unlink()
            yield Line(f"{path}: removed")


def _not_stale(path: Path) -> str | None:
    """Return why what lies there is no socket that a process of ours left, "" when it is one, None when nothing is there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(status.st_mode):
        return "it is no socket"
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as asking:
        asking.settimeout(ANSWER_S)
        try:
            asking.connect(os.fspath(path))
        except ConnectionRefusedError:
            return ""
        except OSError as error:
            return str(error.strerror or error)
    return "somebody answers who does not hold the state folder"


# --- folders that the configuration names ---


def folders(config: Config) -> Check:
    missing = [(key, folder) for key, folder in _named(config).items() if not folder.is_dir()]
    if not missing:
        return Check("folders", "ok", "those that the configuration names are there")
    said = "; ".join(f"{key}: there is no folder {folder}" for key, folder in missing)
    return Check("folders", "fault", said, FIX)


def mend_folders(config: Config) -> Iterator[Line]:
    for folder in dict.fromkeys(_named(config).values()):
        if not folder.is_dir():
            yield _made(folder)


def _named(config: Config) -> Mapping[str, Path]:
    """Return the folders that `serve` needs and does not make, by the key that names one."""
    named = {"log.file": Path(config.log.file).parent} if config.log.file else {}
    if config.quic.enabled and config.quic.qlog_dir:
        named["quic.qlog_dir"] = Path(config.quic.qlog_dir).absolute()
    if config.quic.enabled and config.quic.key_log_file:
        named["quic.key_log_file"] = Path(config.quic.key_log_file).absolute().parent
    return named


def _made(folder: Path) -> Line:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True)
    except OSError as error:
        return Line(f"{folder}: it cannot be made: {error.strerror}", done=False)
    return Line(f"{folder}: made")


def log_file(config: Config) -> Check:
    """Look whether `serve` could log where it is to."""
    path = config.log.file
    if not path:
        return Check("log", "ok", "it goes to stderr")
    if not os.access(path if os.path.lexists(path) else Path(path).parent, os.W_OK):
        return Check("log", "fault", f"log.file {path} cannot be written", "name a file in a folder that you can write")
    return Check("log", "ok", f"it goes to {path}; what bounds its size is logrotate")
