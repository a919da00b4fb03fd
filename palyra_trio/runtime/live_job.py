"""A job under way: carried out within its own scope, written to, and ended for a reason that is told."""

import logging
import math
import os
from contextlib import suppress

import attrs
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import PalyraError, StateConflict
from palyra_trio.core.session_events import JobEnded, JobEnding, JobStarted
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.job_output import RedactedOutput
from palyra_trio.tools.job import KillReceipt, Outcome
from palyra_trio.tools.session_jobs import Work

_log = logging.getLogger(__name__)

INPUT_S = 5.0  # a program that reads takes its input at once; one that does not holds up nobody for longer


@attrs.define(eq=False)
class LiveJob:
    """A job, whose input is written to `stdin` until that is closed.

    `begun` is set once it is durable, or `refused`; `over` once its end is.
    """

    session_id: str
    started: JobStarted
    output: RedactedOutput
    stdin: int | None
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    begun: trio.Event = attrs.Factory(trio.Event)
    over: trio.Event = attrs.Factory(trio.Event)
    refused: PalyraError | None = None
    _ending: JobEnding = "deadline"
    _by: str = ""
    _receipt: KillReceipt = KillReceipt(0, 0, 0.0)
    _writing: trio.Lock = attrs.Factory(trio.Lock)

    def end(self, ending: JobEnding, by: str = "") -> None:
        """Have it killed. Why is what was said first."""
        if not self.scope.cancel_called:
            self._ending, self._by = ending, by
            self.scope.cancel(reason=ending)

    async def carry_out(self, work: Work, read: int, redactor: Redactor) -> JobEnded:
        """Do the work, whose input is the descriptor `read`, until it or the scope ends. Returns how it did."""
        outcome: Outcome | None = None
        failure = ""
        with self.scope:
            try:
                if self.scope.cancel_called:
                    os.close(read)
                else:
                    outcome = await work(self.output.take, self._killed, read)
            except PalyraError as error:
                failure = redactor.recordable(str(error))
            except Exception as error:
                _log.exception("job %s failed", self.started.job_id)
                failure = redactor.recordable(f"{type(error).__name__}: {error}")
        self.output.end()
        return self._ended(outcome, failure)

    def _ended(self, outcome: Outcome | None, failure: str) -> JobEnded:
        ending, by = self._ending, self._by
        if failure:
            ending, by = "failed", ""
        elif outcome is not None:
            ending, by = "output_limit" if outcome.capped else "exited", ""
        kept = self.output.kept
        return JobEnded(
            self.started.job_id,
            ending,
            outcome.code if outcome is not None and not outcome.capped else None,
            by,
            failure,
            self._receipt.pids_seen,
            self._receipt.survivors,
            math.ceil(self._receipt.elapsed_ms),
            digest(kept) if kept else None,
            self.output.size,
        )

    def _killed(self, receipt: KillReceipt) -> None:
        self._receipt = receipt

    # --- its input ---

    async def write(self, data: bytes, *, close: bool) -> int:
        """Write to its input; return how many bytes it took within INPUT_S. With `close`, nothing follows the last of them.

        Raises StateConflict where its input is closed, or nobody reads it. If cancelled, some may have been written.
        """
        written = 0
        async with self._writing:
            with trio.move_on_after(INPUT_S):
                while written < len(data):
                    written += await self._write_some(data[written:])
            if close and written == len(data):
                self.close_stdin()
        return written

    async def _write_some(self, data: bytes) -> int:
        await trio.lowlevel.checkpoint()
        if self.stdin is None:
            raise StateConflict(f"the input of job {self.started.job_id} is closed")
        try:
            return os.write(self.stdin, data)
        except BlockingIOError:
            with suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_writable(self.stdin)
            return 0
        except BrokenPipeError:
            raise StateConflict(f"job {self.started.job_id} reads no more") from None

    def close_stdin(self) -> None:
        if self.stdin is not None:
            trio.lowlevel.notify_closing(self.stdin)
            os.close(self.stdin)
            self.stdin = None
