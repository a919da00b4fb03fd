"""Proof that a tier holds: a canary is let loose in it, and each thing it tries must be refused, its escape included.

A tier that was not proven is not used, whatever the kernel says that it can do.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import trio

from palyra_trio.core.errors import PalyraError
from palyra_trio.tools import processes
from palyra_trio.tools.canary import ALLOWED
from palyra_trio.tools.job import Job, KillReceipt, Stream
from palyra_trio.tools.process_tree import Launcher, carry_out

CANARY_S = 20
_SOURCE = Path(__file__).with_name("canary.py")


@attrs.frozen
class Finding:
    """What a canary found: the attempts that were `allowed`, those `refused` and why, how its processes were killed.

    `failure` says why it could not be asked: the tier cannot be had; `said` is what was written to stderr meanwhile.
    """

    allowed: tuple[str, ...] = ()
    refused: Mapping[str, str] = attrs.Factory(dict)
    receipt: KillReceipt | None = None
    escaped: int = 0
    failure: str = ""
    said: str = ""

    @property
    def held(self) -> bool:
        """Whether all of its processes were found and killed."""
        receipt = self.receipt
        return receipt is not None and receipt.pids_seen >= 3 and receipt.survivors == 0 and self.escaped == 0


@attrs.frozen
class Aviary:
    """What lies outside for canaries to try: see `canary`. `user` is who they are, None for this process's user."""

    about: Mapping[str, object]
    user: int | None

    @contextmanager
    def workspace(self) -> Generator[str]:
        """Give a folder inside for one canary, away from what lies outside."""
        with tempfile.TemporaryDirectory(prefix="palyra-trio-inside-", ignore_cleanup_errors=True) as folder:
            if self.user is not None:
                os.chown(folder, self.user, self.user)
            yield folder


def interpreter() -> tuple[str, tuple[str, ...]]:
    """Return a Python that a canary can run, and the folders that must be read for it: the system's, else this one."""
    system = "/usr/bin/python3"
    return (system, ()) if os.access(system, os.X_OK) else (os.path.realpath(sys.executable), (sys.base_prefix,))


@contextmanager
def aviary(user: int | None) -> Generator[Aviary]:
    """Make what a canary will try to reach, and take it away afterwards."""
    with ExitStack() as held:
        outside = tempfile.mkdtemp(prefix="palyra-trio-canary-")
        held.callback(shutil.rmtree, outside, ignore_errors=True)
        os.chmod(outside, 0o777)
        sentinel = Path(outside, "sentinel")
        sentinel.write_text(secrets.token_hex())
        sentinel.chmod(0o666)
        abstract, path = f"palyra-trio-{secrets.token_hex(8)}", f"{outside}/socket"
        port = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        for address in (f"\0{abstract}", path):
            held.enter_context(_listening(address))
        os.chmod(path, 0o777)
        pid = os.getpid()
        own = processes.identify(pid)
        assert own is not None
        about = {"sentinel": str(sentinel), "folder": outside, "port": port, "abstract": abstract, "socket": path}
        yield Aviary({**about, "pid": pid, "started": own.started}, user)


async def let_loose(launcher: Launcher, aviary: Aviary, python: str) -> Finding:
    """Run a canary in a tier and kill it once it has made its processes. Takes CANARY_S at most."""
    with aviary.workspace() as workspace:
        return await _watch(launcher, aviary.about, workspace, python)


async def _watch(launcher: Launcher, about: Mapping[str, object], workspace: str, python: str) -> Finding:
    said: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    receipts: list[KillReceipt] = []
    argv = (python, "-I", "-S", "-c", _SOURCE.read_text("utf-8"), json.dumps(about))
    job = Job(python, argv, workspace, workspace, secrets.token_hex(16))
    failure = ""
    with trio.move_on_after(CANARY_S) as scope:

        def take(stream: Stream, data: bytes) -> None:
            said[stream] += data
            if said["stdout"].endswith(b"ready\n"):
                scope.cancel()

        try:
            outcome = await carry_out(launcher, job, take, receipts.append)
            failure = f"it ended with {outcome.code}"
        except PalyraError as error:
            failure = str(error)
    escaped = processes.marked(job.token)
    processes.kill(escaped)
    words = said["stderr"].decode(errors="replace").strip()
    line, _, ready = said["stdout"].partition(b"\n")
    if failure or not ready:
        return Finding(failure=failure or f"it had not ended after {CANARY_S} s", said=words)
    tried: dict[str, str] = json.loads(line)
    return Finding(
        tuple(name for name, what in tried.items() if what == ALLOWED),
        {name: what for name, what in tried.items() if what != ALLOWED},
        receipts[0] if receipts else None,
        len(escaped),
        said=words,
    )


@contextmanager
def _listening(address: str) -> Generator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        yield
