"""The two ways in which a person at a terminal speaks to a process that runs: signals, and lines.

Ctrl-C once cancels what runs, gracefully; twice ends the process. SIGTERM drains; any signal after it ends the process.
"""

import os
import signal
import sys
import termios
from collections.abc import Awaitable, Callable

import trio

LINE_BYTES = 64 * 1024


async def obey_signals(interrupt: Callable[[], Awaitable[None]], terminate: Callable[[], None]) -> None:
    """Call `interrupt` at the first SIGINT and `terminate` at the first SIGTERM.

    The second SIGINT, and any signal after SIGTERM, ends the process, even while `interrupt` still waits for a disk.
    Runs until cancelled; keep it running while what was terminated drains.
    """
    seen = set[int]()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async with trio.open_nursery() as nursery:
            async for number in received:
                if number in seen or signal.SIGTERM in seen:
                    sys.stderr.write("\n")
                    os._exit(128 + number)
                seen.add(number)
                if number == signal.SIGINT:
                    nursery.start_soon(interrupt)
                else:
                    terminate()


class LineReader:
    """Lines from a file descriptor, without a thread: a read can be cancelled, and loses nothing then."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = b""
        self._ended = False

    async def line(self) -> str | None:
        """Return the next line without its end, or None at the end of the file.

        Of a line that is longer than LINE_BYTES what was read so far is returned as one.
        """
        await trio.lowlevel.checkpoint()
        while b"\n" not in self._read and not self._ended and len(self._read) < LINE_BYTES:
            await trio.lowlevel.wait_readable(self._descriptor)
            more = _read(self._descriptor)
            self._read += more
            self._ended = not more
        if not self._read:
            return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def discard(self) -> None:
        """Forget what was typed and not yet taken, if this is a terminal."""
        if os.isatty(self._descriptor):
            termios.tcflush(self._descriptor, termios.TCIFLUSH)
            self._read = b""


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, LINE_BYTES)
    except OSError:  # a terminal that was hung up: its input has ended
        return b""
