"""What the parts of the sandbox tell each other: a program to run, its bounds, what became of it, how its tree was killed.

Plain data. How a program is started and killed is in `process_tree`, and in the module of each tier.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from palyra_trio.core.errors import PalyraError

Stream = Literal["stdout", "stderr"]
Take = Callable[[Stream, bytes], None]

MARK = "PALYRA_TRIO_JOB"  # in the environment of each process of a job, so that /proc shows whose it is
MIB, GIB = 1024**2, 1024**3


@attrs.frozen
class Bounds:
    """What a job may use. `pids` counts threads, `file_bytes` is of each file that it writes.

    `output_bytes` is of both streams together, which is held in memory until it is recorded: a job that writes more is
    killed. `memory_bytes` holds where there is a
    cgroup to hold it.
    """

    pids: int = 512
    open_files: int = 4096
    file_bytes: int = 8 * GIB
    memory_bytes: int = 4 * GIB
    output_bytes: int = 64 * MIB


@attrs.frozen
class Job:
    """A program to run: `program` is its absolute path, `argv` its whole argument vector with the name first.

    `workspace` is the folder that it may write, absolute and resolved, and `cwd` a folder in it. `env` is added to the
    little that every job has. `token` is the value of its MARK.
    """

    program: str
    argv: tuple[str, ...]
    workspace: str
    cwd: str
    token: str
    env: Mapping[str, str] = attrs.Factory(dict)
    bounds: Bounds = Bounds()

    def mark(self) -> dict[str, str]:
        return {MARK: self.token}


@attrs.frozen
class Output:
    """The file descriptors that a job writes its output to."""

    stdout: int
    stderr: int


@attrs.frozen
class Identity:
    """A process, told apart from a later one that has its number: `started` is its start in clock ticks since boot."""

    pid: int
    started: int


@attrs.frozen
class KillReceipt:
    """How a tree was killed: the processes seen in it, those alive at the end (there must be none), the time it took."""

    pids_seen: int
    survivors: int
    elapsed_ms: float


@attrs.frozen
class Outcome:
    """How a job ended. `code` is its exit code, or 128 and the number of the signal that ended it.

    `receipt` is of the kill, where the tree was killed or had left processes behind; `capped` says that it was killed
    for the size of its output.
    """

    code: int
    receipt: KillReceipt | None = None
    capped: bool = False


class SandboxFailed(PalyraError):
    """The sandbox could not be made for this call, so that nothing was run."""

    code = "sandbox_failed"
