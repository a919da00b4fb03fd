"""Policies on their way from files to an engine: read, checked in a process of their own, and only then built.

A set with a fault is refused with every fault named, and whoever asked keeps the engine that is in force. Which files
belong to a set, and when one replaces another, is decided elsewhere.
"""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard import posture
from palyra_trio.guard.policy_text import Fault, PolicySource, bracket_depth

if TYPE_CHECKING:
    from palyra_trio.guard.cedar import CedarEngine

FILE_BYTES = 256 * 1024
FILES = 64
BRACKET_DEPTH = 64
SUFFIX = ".cedar"


def read_policy_files(folder: Path) -> tuple[PolicySource, ...]:
    """Return the `*.cedar` files of `folder` in order of name; none when there is no such folder.

    Raises ConfigInvalid naming each that is no regular file, is larger than FILE_BYTES, is not UTF-8 or cannot be read,
    and for a folder that cannot be read, or is a link to nothing.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
    except FileNotFoundError as error:
        if not folder.is_symlink():
            return ()
        raise refusal([Fault(str(folder), 0, f"it is a link to {os.readlink(folder)}, which is not there")]) from error
    except OSError as error:
        raise refusal([Fault(str(folder), 0, error.strerror or str(error))]) from error
    if len(names) > FILES:
        raise refusal([Fault(str(folder), 0, f"there are more than {FILES} policy files")])
    return read_named((name, folder / name) for name in names)


def read_named(paths: Iterable[tuple[str, Path]]) -> tuple[PolicySource, ...]:
    """Return the files at these paths, each under the name that comes with it. Raises what `read_policy_files` raises."""
    sources: list[PolicySource] = []
    faults: list[Fault] = []
    for name, path in paths:
        try:
            text = _read(path)
            if name == posture.FILE_NAME:
                posture.parse_postures(text)
            sources.append(PolicySource(name, text))
        except ConfigInvalid as error:
            faults.append(Fault(name, 0, str(error)))
        except (OSError, ValueError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            faults.append(Fault(name, 0, reason))
    if faults:
        raise refusal(faults)
    return tuple(sources)


def _read(path: Path) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        raw = file.read(FILE_BYTES + 1)
    if len(raw) > FILE_BYTES:
        raise ValueError(f"it is larger than {FILE_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None


async def check_policies(sources: Iterable[PolicySource]) -> tuple[Fault, ...]:
    """Return every fault of `sources`, all of them together being one set; none means that an engine can be built.

    The engine's parser runs in another process, which a cancel ends. The caller sets the deadline.
    """
    faults: list[Fault] = []
    sound: list[PolicySource] = []
    for source in sources:
        reason = _oversize(source.text)
        if reason:
            faults.append(Fault(source.name, 1, reason))
        else:
            sound.append(source)
    return (*faults, *await _check_apart(sound))


def _oversize(text: str) -> str:
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES:
        return f"it is larger than {FILE_BYTES // 1024} KiB"
    if bracket_depth(text) > BRACKET_DEPTH:
        return f"its brackets nest more than {BRACKET_DEPTH} deep"
    return ""


async def _check_apart(sources: list[PolicySource]) -> tuple[Fault, ...]:
    """Return what `policy_check` finds. `-P` keeps the working folder, which may be anybody's, out of the imports."""
    run = await trio.run_process(
        [sys.executable, "-P", "-m", "palyra_trio.guard.policy_check"],
        stdin=json.dumps([[source.name, source.text] for source in sources]).encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return _outcome(run)


def _outcome(run: "subprocess.CompletedProcess[bytes]") -> tuple[Fault, ...]:
    lines: list[Any] = [json.loads(line) for line in run.stdout.splitlines()]
    if run.returncode == 0 and lines and isinstance(lines[-1], dict):
        return tuple(Fault(*each) for each in lines[-1]["faults"])
    how = signal.Signals(-run.returncode).name if run.returncode < 0 else f"exit status {run.returncode}"
    if not lines:
        last = run.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return (Fault("the policy check", 0, f"it did not run: {' '.join([how, *last])}"),)
    name, line = lines[-1]
    return (Fault(name, line, f"the policy engine broke down over it ({how}): it is too deep or too long"),)


def build_engine(sources: Iterable[PolicySource]) -> "CedarEngine":
    """Return the engine of sources in which `check_policies` found no fault."""
    from palyra_trio.guard.cedar import CedarEngine  # loads the engine: only when something is to be judged

    return CedarEngine(sources)


async def load_engine(sources: Iterable[PolicySource]) -> "CedarEngine":
    """Return the engine of `sources`. Raises ConfigInvalid that lists every fault."""
    sources = tuple(sources)
    if faults := await check_policies(sources):
        raise refusal(faults)
    return build_engine(sources)


def refusal(faults: Iterable[Fault]) -> ConfigInvalid:
    """Return the error that names each fault on a line of its own."""
    return ConfigInvalid(
        "the policies were refused:\n" + "\n".join(map(str, faults)), remedy="palyra-trio policy check"
    )
