"""The two ways in which a person at a terminal speaks to a process that runs: signals, and lines.

Ctrl-C once cancels what runs, gracefully; twice ends the process. SIGTERM drains; a second one ends the process.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable

import trio

LINE_BYTES = 64 * 1024


async def obey_signals(interrupt: Callable[[], Awaitable[None]], terminate: Callable[[], None]) -> None:
    """Call `interrupt` at the first SIGINT and `terminate` at the first SIGTERM; the second of either ends the process.

    Runs until cancelled.
    """
    seen = set()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for number in received:
            if number in seen:
                sys.stderr.write("\n")
                os._exit(128 + number)
            seen.add(number)
            if number == signal.SIGINT:
                await interrupt()
            else:
                terminate()


class LineReader:
    """Lines from a file descriptor, without a thread: a read can be cancelled, and loses nothing then."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = b""
        self._ended = False

    async def line(self) -> str | None:
        """Return the next line without its end, or None at the end of the file."""
        while b"\n" not in self._read and not self._ended and len(self._read) < LINE_BYTES:
            await trio.lowlevel.wait_readable(self._descriptor)
            more = os.read(self._descriptor, LINE_BYTES)
            self._read += more
            self._ended = not more
        if not self._read:
            return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")
