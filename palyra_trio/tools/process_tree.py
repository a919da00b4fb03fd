"""A job under way: its output is read, its end awaited, and, when it is cancelled, its whole tree killed and counted.

A tier supplies the tree (`Tree`: how it ends, how it is killed); what is here is the same for all of them. The limit
on time is the caller's: a cancel scope.
"""

import math
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Protocol

import trio

from palyra_trio.core.errors import PalyraError
from palyra_trio.tools import processes
from palyra_trio.tools.job import Identity, Job, KillReceipt, Outcome, Standard, Stream, Take

KILL_S = 10.0  # a process in an uninterruptible call may take its time; more than this is told as a survivor
DRAIN_S = 1.0  # the pipes of a dead tree are at their end, unless another process was handed one of them
CHUNK_BYTES = 64 * 1024
KILLED = 128 + signal.SIGKILL

Killed = Callable[[KillReceipt], None]
Room = Callable[[], Awaitable[None]]


class Tree(Protocol):
    """The processes of one job. `wait` returns the code once the job's program has ended, as often as it is asked.

    `kill` ends all of them within KILL_S; once the program has ended, those that it left behind. It returns None when
    there was nobody.
    """

    async def wait(self) -> int: ...

    async def kill(self) -> KillReceipt | None: ...


class Launcher(Protocol):
    """A tier: how a job is started. The tree that it gives must be dead at the end of the block."""

    def start(self, job: Job, standard: Standard) -> AbstractContextManager[Tree]: ...


async def carry_out(
    launcher: Launcher,
    job: Job,
    take: Take,
    killed: Killed,
    stdin: int | None = None,
    room: Room = trio.lowlevel.checkpoint,
) -> Outcome:
    """Run a job to its end, and hand its output to `take` as it is read. It reads `stdin`, which is closed here, or nothing.

    `room` returns when more may be taken; what it raises ends the job, as a cancel does, and is raised here.

    If cancelled, the whole tree is killed first, within KILL_S, and `killed` gets the receipt; what was in the pipes
    then is not read. `killed` also gets one for the processes that a program left behind, and for a job that wrote more
    than it may. Raises what the launcher and its tree raise, when nothing runs any more.
    """
    with ExitStack() as ours:
        given = os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin
        ours.callback(os.close, given)
        (stdout, out), (stderr, err) = os.pipe(), os.pipe()
        for fd in (out, err):
            ours.callback(os.close, fd)
        async with trio.lowlevel.FdStream(stdout) as stdout_stream, trio.lowlevel.FdStream(stderr) as stderr_stream:
            with launcher.start(job, Standard(given, out, err)) as tree:
                ours.close()
                reader = _Reader(take, room, job.bounds.output_bytes)
                return await _attend(tree, {"stdout": stdout_stream, "stderr": stderr_stream}, reader, killed)


async def _attend(
    tree: Tree, streams: Mapping[Stream, trio.lowlevel.FdStream], reader: "_Reader", killed: Killed
) -> Outcome:
    code: int | None = None
    failure: PalyraError | None = None
    receipt: KillReceipt | None = None
    async with trio.open_nursery() as readers:
        for name, stream in streams.items():
            readers.start_soon(reader.read, name, stream)
        try:
            async with trio.open_nursery() as racing:
                racing.start_soon(reader.stop, racing.cancel_scope)
                try:
                    code = await tree.wait()
                except PalyraError as error:
                    failure = error
                racing.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                receipt = await tree.kill()
            if receipt is not None:
                killed(receipt)
        reader.drain()
    if failure := failure or reader.failure:
        raise failure
    return Outcome(KILLED if code is None else code, receipt, reader.over.is_set())


class _Reader:
    """Reads both streams of a job. It is `over` when they were too long together, or with the `failure` of who takes them."""

    def __init__(self, take: Take, room: Room, left_bytes: int) -> None:
        self.over = trio.Event()
        self.failure: PalyraError | None = None
        self._take = take
        self._room = room
        self._left_bytes = left_bytes
        self._receiving: set[trio.CancelScope] = set()
        self._deadline = math.inf

    async def read(self, name: Stream, stream: trio.lowlevel.FdStream) -> None:
        while data := await self._receive(stream):
            if len(data) > self._left_bytes:
                self.over.set()
            if data := data[: self._left_bytes]:
                self._left_bytes -= len(data)
                self._take(name, data)
                try:
                    await self._room()
                except PalyraError as error:
                    self.failure = error
                    self.over.set()
                    return

    async def _receive(self, stream: trio.lowlevel.FdStream) -> bytes:
        if self.over.is_set() and self._deadline < math.inf:
            return b""
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._receiving.add(scope)
            try:
                return bytes(await stream.receive_some(CHUNK_BYTES))
            finally:
                self._receiving.discard(scope)
        try:
            return os.read(stream.fileno(), CHUNK_BYTES)  # no more is waited for, and what is there is not lost
        except BlockingIOError:
            return b""

    def drain(self) -> None:
        """Wait for DRAIN_S more at most. What is in the pipes is read all the same, and may be taken for as long as it takes."""
        self._deadline = trio.current_time() + DRAIN_S
        for scope in self._receiving:
            scope.deadline = self._deadline

    async def stop(self, scope: trio.CancelScope) -> None:
        """End a scope when it is over."""
        await self.over.wait()
        scope.cancel()


def spawn(
    argv: Sequence[str],
    standard: Standard,
    *,
    env: Mapping[str, str],
    cwd: str,
    pass_fds: Sequence[int] = (),
    user: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, as `user` where one is given.

    On the main thread only: a child that asks to die with its parent dies with the thread that made it. Raises OSError.
    """
    assert threading.current_thread() is threading.main_thread()
    # Popen's own `user` would copy this whole process to change it, instead of sharing it until the exec.
    become = [] if user is None else ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    return subprocess.Popen(
        [*become, *argv],
        stdin=standard.stdin,
        stdout=standard.stdout,
        stderr=standard.stderr,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
    )


class Exit:
    """The end of a process that may be awaited by several tasks. Close it when nobody does any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self.ended = False
        self._waiting = trio.Lock()

    async def wait(self) -> None:
        async with self._waiting:
            if not self.ended:
                await trio.lowlevel.wait_readable(self._fd)
                self.ended = True

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._fd)


async def hunt(token: str, group: int | None = None) -> KillReceipt | None:
    """Kill what carries a job's mark until nothing does, for KILL_S. Returns None when nothing did.

    `group` is a process group, whose leader was not waited for yet, that is killed with it.
    """

    def look() -> set[Identity]:
        return processes.marked(token) | (set() if group is None else processes.tree(group))

    began = trio.current_time()
    seen, found = set[Identity](), look()
    with trio.move_on_after(KILL_S):
        while found:
            seen |= found
            if group is not None:
                os.killpg(group, signal.SIGKILL)
            processes.kill(found)
            await trio.sleep(0.001)
            found = look()
    return receipt(seen, found, began) if seen else None


def receipt(seen: Collection[Identity], survivors: Collection[Identity], began: float) -> KillReceipt:
    """Return the receipt of a kill that began at `began` (Trio's clock) and is over now."""
    return KillReceipt(len(seen), len(survivors), (trio.current_time() - began) * 1000)


def code_of(returncode: int) -> int:
    """Return 128 and the signal's number where `subprocess` gives the negative of that."""
    return returncode if returncode >= 0 else 128 - returncode
