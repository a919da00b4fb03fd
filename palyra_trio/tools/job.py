"""What the parts of the sandbox tell each other: a program to run, its bounds, what became of it, how its tree was killed.

Plain data. How a program is started and killed is in `process_tree`, and in the module of each tier.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from palyra_trio.core.errors import PalyraError
from palyra_trio.tools.overlay import Layer

Stream = Literal["stdout", "stderr"]
Take = Callable[[Stream, bytes], None]

MARK = "PALYRA_TRIO_JOB"  # in the environment of each process of a job, so that /proc shows whose it is
MIB, GIB = 1024**2, 1024**3


@attrs.frozen
class Bounds:
    """What a job may use. `pids` counts threads, `file_bytes` is of each file that it writes.

    `output_bytes` is of both streams together: a job that writes more is killed. `memory_bytes` holds where there is a
    cgroup to hold it.
    """

    pids: int = 512
    open_files: int = 4096
    file_bytes: int = 8 * GIB
    memory_bytes: int = 4 * GIB
    output_bytes: int = GIB


@attrs.frozen
class Door:
    """The way out of a job: `opened` gets a socket that listens on `port` in the job's own network, before it begins."""

    port: int
    opened: Callable[[socket.socket], None]


@attrs.frozen
class HostUse:
    """What a job had to do with a host: its connections, or its attempts at them, and the bytes that went there and came back.

    An empty `host` is any other.
    """

    host: str
    port: int
    allowed: bool
    connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@attrs.frozen
class Job:
    """A program to run: `program` is its absolute path, `argv` its whole argument vector with the name first.

    `workspace` is the folder that it may write, absolute and resolved, and `cwd` a folder in it. `env` is added to the
    little that every job has, and may hold secrets. `token` is the value of its MARK. With a `layer` it writes there instead,
    and with a `door` it is heard by the daemon, both at tier 4.
    """

    program: str
    argv: tuple[str, ...]
    workspace: str
    cwd: str
    token: str
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    bounds: Bounds = Bounds()
    layer: Layer | None = None
    door: Door | None = None

    def mark(self) -> dict[str, str]:
        return {MARK: self.token}


@attrs.frozen
class Standard:
    """The file descriptors that a job reads its input from and writes its output to."""

    stdin: int
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
