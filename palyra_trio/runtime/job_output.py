"""What a job wrote: redacted as it is read, the last of it in memory for those who follow, the first of it on the tape.

Both streams are one here, in the order in which they were read, as at a terminal. Bytes are counted after redaction.
"""

import codecs
from collections.abc import Callable

import trio

from palyra_trio.core.jobs import Piece, piece_of
from palyra_trio.core.text import clean
from palyra_trio.guard.redactor import Redactor
from palyra_trio.tools.job import MIB, Stream

KEPT_BYTES = MIB  # of each job's end, and as much again until it is cut
WATCHED_CHARACTERS = 256 * 1024  # of each job's beginning: the tape of a server that talks for a day stays short

Record = Callable[[Stream, str, Callable[[], None]], None]
"""Put some output on the tape without waiting, and call back once it is there."""


class RedactedOutput:
    """The output of one job. `changed` is set, and replaced, when there is more of it."""

    def __init__(self, redactor: Redactor, record: Record) -> None:
        self.size = 0
        self.changed = trio.Event()
        self._kept = bytearray()
        self._texts: dict[Stream, _Text] = {"stdout": _Text(redactor), "stderr": _Text(redactor)}
        self._record = record
        self._room = WATCHED_CHARACTERS
        self._waiting: list[tuple[Stream, str]] = []
        self._recording = False

    def take(self, stream: Stream, data: bytes) -> None:
        """Take what the job wrote. Never waits."""
        self._add(stream, self._texts[stream].feed(data))

    def end(self) -> None:
        """Give up what was held back: no more will come."""
        for stream in self._texts:
            self._add(stream, self._texts[stream].flush())
        while self._waiting:
            self._recording = False
            self._submit()

    @property
    def kept(self) -> bytes:
        """The end of the output, KEPT_BYTES at most."""
        return bytes(self._kept[-KEPT_BYTES:])

    def piece(self, since: int, most: int) -> Piece:
        """See `core.jobs.piece_of`."""
        return piece_of(self._kept, self.size, since, most, ended=False)

    def wake(self) -> None:
        """Let those look who wait for more."""
        self.changed.set()
        self.changed = trio.Event()

    def _add(self, stream: Stream, text: str) -> None:
        if not text:
            return
        data = text.encode()
        self.size += len(data)
        self._kept += data
        if len(self._kept) > 2 * KEPT_BYTES:
            del self._kept[:-KEPT_BYTES]
        if watched := text[: self._room]:
            self._room -= len(watched)
            self._waiting.append((stream, watched))
            self._submit()
        self.wake()

    def _submit(self) -> None:
        """Record what gathered while the commit before it was under way, one stream at a time."""
        if self._recording or not self._waiting:
            return
        stream = self._waiting[0][0]
        count = next((n for n, each in enumerate(self._waiting) if each[0] != stream), len(self._waiting))
        text = "".join(text for _, text in self._waiting[:count])
        del self._waiting[:count]
        self._recording = True
        self._record(stream, text, self._recorded)

    def _recorded(self) -> None:
        self._recording = False
        self._submit()


class _Text:
    """One stream's bytes as redacted text."""

    def __init__(self, redactor: Redactor) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = redactor.stream()

    def feed(self, data: bytes) -> str:
        return self._redactor.feed(clean(self._decoder.decode(data)))

    def flush(self) -> str:
        return self._redactor.feed(clean(self._decoder.decode(b"", True))) + self._redactor.flush()
