"""Tiers 3 and 2 seen from the daemon: the resident spawner, and one job of it.

What is held back and what is let through is said here, as data; `spawner` does it. Tier 3, confined, sees what the view
shows (Landlock) and makes no socket (seccomp). Tier 2, contained, is only killed as a whole.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from palyra_trio.tools import landlock
from palyra_trio.tools.cgroups import Cgroup, JobGroup
from palyra_trio.tools.job import Job, KillReceipt, SandboxFailed, Standard
from palyra_trio.tools.process_tree import KILL_S, code_of, hunt, spawn
from palyra_trio.tools.seccomp import filter_bytes
from palyra_trio.tools.view import DEVICES, NAMES, PROC_FILES, View

_SCRIPT = Path(__file__).with_name("spawner.py")
_LINE_BYTES = 64 * 1024


class Spawner:
    """The resident process. It is started when it is first needed, and again should it have ended.

    `user` is whom it becomes, where that is not the daemon's own user.
    """

    def __init__(self, user: int | None = None) -> None:
        self._user = user
        self._popen: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def hand(self, fds: tuple[int, int, int, int]) -> None:
        """Have a job supervised: its control socket, what it reads and what it writes to. Raises SandboxFailed."""
        if self._popen is None or self._popen.poll() is not None:
            self.close()
            self._begin()
        assert self._channel is not None
        try:
            socket.send_fds(self._channel, [b"job"], fds)
        except OSError as error:
            raise SandboxFailed(f"the process that starts programs does not answer: {error}") from error

    def close(self) -> None:
        """End it. Jobs under way are not touched: each ends with its own control socket."""
        if self._channel is not None:
            self._channel.close()
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    def _begin(self) -> None:
        with ExitStack() as held:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            held.callback(theirs.close)
            null = os.open(os.devnull, os.O_RDWR)
            held.callback(os.close, null)
            user = [] if self._user is None else [str(self._user)]
            argv = [sys.executable, "-I", "-S", str(_SCRIPT), str(theirs.fileno()), *user]
            self._popen = spawn(argv, Standard(null, null, null), env={}, cwd="/", pass_fds=[theirs.fileno()])
            ours.setblocking(False)
            self._channel = ours


@attrs.frozen
class Confinement:
    """How to start a job at tier 3, or, without `confined`, at tier 2. `abi` is the version of Landlock to go by."""

    spawner: Spawner
    view: View
    abi: int
    confined: bool = True
    cgroup: Cgroup | None = None

    @contextmanager
    def start(self, job: Job, standard: Standard) -> Generator["ConfinedTree"]:
        """Raises SandboxFailed."""
        with ExitStack() as held:
            group = held.enter_context(self.cgroup.job(job)) if self.cgroup else None
            ours, theirs = socket.socketpair()
            held.callback(ours.close)
            with theirs:
                self.spawner.hand((theirs.fileno(), standard.stdin, standard.stdout, standard.stderr))
            ours.setblocking(False)
            yield ConfinedTree(trio.socket.from_stdlib_socket(ours), self._message(job), job.token, group)

    def _message(self, job: Job) -> dict[str, Any]:
        fence = landlock.SIGNALS_ONLY if self.abi >= landlock.ABI_NEEDED else None
        ruleset = fence
        if self.confined:
            files = (*self.view.etc, *NAMES, *PROC_FILES)
            ruleset = landlock.confinement((*self.view.readable, *files), (job.workspace,), DEVICES)
        return {
            "program": job.program,
            "argv": job.argv,
            "cwd": job.cwd,
            "env": {**self.view.environment(job.cwd), **job.env, **job.mark()},
            "limits": {
                "RLIMIT_NPROC": job.bounds.pids,
                "RLIMIT_NOFILE": job.bounds.open_files,
                "RLIMIT_FSIZE": job.bounds.file_bytes,
                "RLIMIT_CORE": 0,
            },
            "fence": fence and attrs.asdict(fence),
            "ruleset": ruleset and attrs.asdict(ruleset),
            "scratch_rights": landlock.CHANGE if self.confined else 0,
            "seccomp": filter_bytes(sockets=False).hex() if self.confined else "",
        }


class ConfinedTree:
    """A job under its supervisor. To shut the control socket is to have it killed."""

    def __init__(
        self, control: trio.socket.SocketType, message: dict[str, Any], token: str, group: JobGroup | None
    ) -> None:
        self._control = control
        self._message = message
        self._token = token
        self._group = group
        self._begun = False
        self._said = b""
        self._end: dict[str, Any] | None = None

    async def wait(self) -> int:
        """Raises SandboxFailed where the program could not be started as it should be, or nobody knows of it any more."""
        if not self._begun:
            self._begun = True
            await self._begin()
        while self._end is None and (line := await self._line()) is not None:
            self._end = line if "pid" not in line else None
        if self._end is None:
            raise SandboxFailed(
                "the supervisor of the program was killed", remedy="a higher tier of the sandbox prevents it"
            )
        if "failed" in self._end:
            raise SandboxFailed(f"the program could not be started: {self._end['failed']}")
        return code_of(self._end["code"])

    async def kill(self) -> KillReceipt | None:
        began = trio.current_time()
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        with trio.move_on_after(KILL_S), suppress(OSError):
            while self._end is None and (line := await self._line()) is not None:
                self._end = line if "pid" not in line else None
        if self._end is None or "code" not in self._end:
            return await hunt(self._token)
        if not self._end["seen"]:
            return None
        elapsed_ms = max(self._end["elapsed_ms"], (trio.current_time() - began) * 1000)
        return KillReceipt(self._end["seen"], self._end["survivors"], elapsed_ms)

    async def _begin(self) -> None:
        data = memoryview(json.dumps(self._message).encode() + b"\n")
        try:
            while data:
                data = data[await self._control.send(data) :]
            if self._group and (said := await self._line()) and "pid" in said:
                self._group.add(said["pid"])
            await self._control.send(b"go\n")
        except OSError as error:
            raise SandboxFailed(f"the supervisor of the program has ended: {error}") from error

    async def _line(self) -> dict[str, Any] | None:
        while b"\n" not in self._said:
            data = await self._control.recv(_LINE_BYTES)
            if not data:
                return None
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said
