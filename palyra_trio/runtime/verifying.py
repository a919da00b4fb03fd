"""The journal of this process verified while it is in use: when somebody asks for it, one check at a time, in a thread.

The thread hands over to the loop after every few rows, so nobody waits longer for it than for another request. What
is checked is the journal as it was when the check began.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import trio

from palyra_trio.core.errors import Busy, PalyraError
from palyra_trio.journal.check import Report, check_file


@attrs.frozen
class Checked:
    """A check of the journal: how many rows were looked at so far, and, once it has ended, what was found or why not."""

    by: str
    began_ms: int
    rows: int = 0
    ended_ms: int = 0
    report: Report | None = None
    failed: str = ""


class Verifying:
    """The newest check of the journal at `path`; `now_ms` is Unix time. `changed` is set, and another one, whenever it moves."""

    def __init__(self, path: Path, now_ms: Callable[[], int], nursery: trio.Nursery) -> None:
        self._path = path
        self._now_ms = now_ms
        self._nursery = nursery
        self._thread = trio.CapacityLimiter(1)
        self.newest: Checked | None = None
        self.changed = trio.Event()

    @property
    def size_bytes(self) -> int:
        """The size of the journal's files."""
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(each.stat().st_size for each in files if each.exists())

    @property
    def going_on(self) -> bool:
        return self.newest is not None and not self.newest.ended_ms

    def begin(self, by: str) -> None:
        """Begin a check. Raises Busy while another one goes on."""
        if self.going_on:
            raise Busy("the journal is being verified already", remedy="wait for its end")
        began = Checked(by, self._now_ms())
        self._tell(began)
        self._nursery.start_soon(self._check, began)

    async def _check(self, began: Checked) -> None:
        def tell(rows: int) -> None:
            trio.from_thread.run_sync(lambda: self._tell(attrs.evolve(began, rows=rows)))

        check = partial(check_file, self._path, tell)
        try:
            report = await trio.to_thread.run_sync(check, abandon_on_cancel=True, limiter=self._thread)
        except (PalyraError, OSError) as error:
            self._tell(attrs.evolve(began, ended_ms=self._now_ms(), failed=str(error)))
        else:
            self._tell(attrs.evolve(began, ended_ms=self._now_ms(), rows=report.rows, report=report))

    def _tell(self, newest: Checked) -> None:
        self.newest = newest
        self.changed.set()
        self.changed = trio.Event()
