"""What a tool may do with the long jobs of the session that it is called in, and with no others.

Who keeps them is the runtime's part: a job outlives the call and the run that started it.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs

from palyra_trio.core.jobs import Piece, SessionJob
from palyra_trio.tools.job import KillReceipt, Outcome, Take

Work = Callable[[Take, Callable[[KillReceipt], None], int], Awaitable[Outcome]]
"""Runs a program to its end, as `process_tree.carry_out` does: its output, its receipts, and the descriptor that it reads."""


@attrs.frozen
class NewJob:
    """A job that is to be started, to be killed after `deadline_s`. `mark` is in the environment of its processes."""

    program: str
    argv: tuple[str, ...]
    cwd: str
    opaque: str
    sandbox_tier: int
    mark: str
    deadline_s: int


class SessionJobs(Protocol):
    """The jobs of one session."""

    def check_room(self) -> None:
        """Raise Busy where there may be no more jobs, Draining where none is taken any more."""
        ...

    async def start(self, new: NewJob, work: Work) -> SessionJob:
        """Have a job carried out, and return it once that it will be is durable. Raises what `check_room` raises, and
        StateConflict where the session is archived. If cancelled, the job is stopped.
        """
        ...

    async def find(self, job_id: str) -> SessionJob:
        """Return a job of the session, running or over. Raises NotFound."""
        ...

    async def read(self, job_id: str, since: int, most: int) -> Piece:
        """Return what it wrote from byte `since` on, a negative one counted from the end; at once. Raises NotFound."""
        ...

    async def more(self, job_id: str, after: int) -> None:
        """Wait until there is output behind byte `after`, or the job is over."""
        ...

    async def write(self, job_id: str, data: bytes, *, close: bool) -> int:
        """Write to what it reads, which with `close` has its end after that; return how many bytes it took within a while.

        Raises StateConflict where it has ended, or reads no more. If cancelled, some of it may have been written.
        """
        ...

    async def stop(self, job_id: str) -> SessionJob:
        """Kill all processes of a job, and return it as it ended. Raises StateConflict where it has ended already."""
        ...
