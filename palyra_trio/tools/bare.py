"""Tier 1, bare: a program in a session of its own, with a clean environment, and nothing else. Off unless configured.

It reads and changes what its user may. A process of it that leaves the session and takes off its mark outlives a kill.
"""

import os
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager

import attrs
import trio

from palyra_trio.tools.job import Job, KillReceipt, SandboxFailed, Standard
from palyra_trio.tools.process_tree import KILL_S, Exit, code_of, hunt, spawn
from palyra_trio.tools.view import View


@attrs.frozen
class Bare:
    """How to start a job at tier 1, as `user` where that is not the daemon's own user."""

    view: View
    user: int | None = None

    @contextmanager
    def start(self, job: Job, standard: Standard) -> Generator["BareTree"]:
        """Raises SandboxFailed."""
        if not os.access(job.program, os.X_OK):
            raise SandboxFailed(f"{job.program} is no program")
        env = {**self.view.environment(job.cwd), **job.env, **job.mark()}
        try:
            popen = spawn([job.program, *job.argv[1:]], standard, env=env, cwd=job.cwd, user=self.user)
        except OSError as error:
            raise SandboxFailed(f"{job.program} could not be started: {error}") from error
        with closing(BareTree(popen, job.token)) as tree:
            yield tree


class BareTree:
    """A session that is killed as a group, and with it all that carries its mark."""

    def __init__(self, popen: subprocess.Popen[bytes], token: str) -> None:
        self._popen = popen
        self._token = token
        self._exit = Exit(popen.pid)

    async def wait(self) -> int:
        await self._exit.wait()
        return code_of(self._popen.wait())

    async def kill(self) -> KillReceipt | None:
        if self._popen.returncode is not None:
            return await hunt(self._token)
        receipt = await hunt(self._token, self._popen.pid)
        with trio.move_on_after(KILL_S):
            await self.wait()
        return receipt

    def close(self) -> None:
        self._exit.close()
