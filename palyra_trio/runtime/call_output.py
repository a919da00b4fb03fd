"""What a running call says of itself on the tape: its output as it comes, the receipt when its processes were killed,
whom they talked to, and what they did to files.

What is told to those who watch gathers while the commit before it is under way, so the disk sets the pace and no timer
does; it never holds up the program. What is kept does: a program that writes faster than the disk waits. Memory holds a
piece of it and its edges, however long it is.
"""

import codecs
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import DiskLow
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.outputs import OutputKept, Transcript
from palyra_trio.core.tape import HostContacted, KillReceipt, ToolOutput
from palyra_trio.core.text import clean
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.runs import Run
from palyra_trio.tools import job

WATCHED_CHARACTERS = 256 * 1024  # of one call; beyond this a watcher waits for the result
PIECE_BYTES = 2 * job.MIB  # of what is kept: one commit, while the next piece gathers
_EXCERPT = 7 / 8  # of what the model is shown of a result is the program's output; the rest says how it ended


class CallOutput:
    """The output of one call on its way to the tape, redacted. Of a result the model is shown `most` characters."""

    def __init__(self, run: Run, call_id: str, most: int) -> None:
        self._run = run
        self._call_id = call_id
        self._streams: dict[job.Stream, _Stream] = {}
        self._watched = WATCHED_CHARACTERS
        self._committing = False
        self._transcript = Transcript(int(most * _EXCERPT))
        self._keeping = trio.Lock()
        self._kept = trio.Event()  # the piece that was submitted last is durable
        self._kept.set()
        self.kept_bytes = 0

    def take(self, stream: job.Stream, data: bytes) -> None:
        """Take what a program wrote. Never waits."""
        self._told(stream, self._stream(stream).feed(data))

    async def room(self) -> None:
        """Wait until more may be taken: of what has gathered all but one piece is durable then. Raises DiskLow."""
        async with self._keeping:
            if self._transcript.unkept_bytes >= PIECE_BYTES:
                await self._run.state.look(self._check_disk)
                await self._kept.wait()
                self._kept = trio.Event()
                self._keep(self._kept.set)

    def _keep(self, then: Callable[[], None]) -> None:
        piece = self._transcript.piece()
        name = digest(piece)
        self.kept_bytes += len(piece)
        self._run.submit(OutputKept(self._call_id, name, len(piece)), blobs=[(name, piece)], then=then)

    def _check_disk(self) -> None:
        state = self._run.state
        free, least = state.free_bytes(), state.config.journal.min_free_bytes
        if free < least:
            raise DiskLow(
                f"only {free // job.MIB} MiB are free where the output is kept, and {least // job.MIB} MiB must be",
                remedy="write less, or to a file",
            )

    def excerpt(self) -> str:
        """Return what the program wrote, or its beginning and its end. It has ended: what was held back is given up."""
        self._flush()
        return self._transcript.excerpt()

    def killed(self, receipt: job.KillReceipt) -> None:
        """Record that the call's processes were killed, and how many there were."""
        elapsed_ms = round(receipt.elapsed_ms)
        self._run.submit(KillReceipt(self._call_id, receipt.pids_seen, receipt.survivors, elapsed_ms))

    def contacted(self, use: job.HostUse) -> None:
        """Record what the call's program had to do with a host, whose name it may have chosen."""
        host = self._run.state.redactor.text(clean(use.host))
        counts = (use.connections, use.sent_bytes, use.received_bytes)
        self._run.submit(HostContacted(self._call_id, host, use.port, use.allowed, *counts))

    async def changed(self, event: FilesChanged, blobs: Mapping[str, bytes]) -> None:
        """Record what the call's program did to files, without what holds a secret; when this returns it is durable."""
        state = self._run.state
        told, kept = await state.look(lambda: _without_secrets(event, blobs, state.redactor))
        await self._run.record(told, blobs=kept)

    def end(self) -> None:
        """Put on the tape what is still held. No more will come."""
        self._flush()
        self._committing = False
        self._submit()
        if self._transcript.unkept_bytes and (self.kept_bytes or not self._transcript.whole):
            self._keep(self._kept.set)

    def _flush(self) -> None:
        for name, stream in self._streams.items():
            self._told(name, stream.flush())

    def _told(self, name: job.Stream, text: str) -> None:
        self._transcript.add(name, text)
        if watched := text[: self._watched]:
            self._watched -= len(watched)
            self._streams[name].unsent.append(watched)
            self._submit()

    def _stream(self, stream: job.Stream) -> "_Stream":
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._run)
        return self._streams[stream]

    def _submit(self) -> None:
        if self._committing:
            return
        for name, stream in self._streams.items():
            if stream.unsent:
                text = "".join(stream.unsent)
                stream.unsent.clear()
                self._committing = True
                self._run.submit(ToolOutput(self._call_id, name, text), then=self._committed)

    def _committed(self) -> None:
        self._committing = False
        self._submit()


def _without_secrets(
    event: FilesChanged, blobs: Mapping[str, bytes], redactor: Redactor
) -> tuple[FilesChanged, Sequence[tuple[str, bytes]]]:
    """Return an event and its blobs as they may be recorded: a program that was given a secret may write it anywhere."""
    secret = {name for name, data in blobs.items() if redactor.knows(data)}
    told = [change for change in event.changes if not redactor.knows(change.path.encode())]
    changes = [attrs.evolve(each, kept=False) if secret & {each.before, each.after} else each for each in told]
    unnamed = len(event.changes) - len(told)
    missed = [event.missed, f"{unnamed} changes of what has a secret in its name" if unnamed else ""]
    recorded = attrs.evolve(event, changes=tuple(changes), missed="; ".join(filter(None, missed)))
    return recorded, [(name, data) for name, data in blobs.items() if name not in secret]


class _Stream:
    """One stream's bytes as redacted text; `unsent` is what those who watch have not been told of."""

    def __init__(self, run: Run) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = run.state.redactor.stream()
        self.unsent: list[str] = []

    def feed(self, data: bytes) -> str:
        return self._redactor.feed(clean(self._decoder.decode(data)))

    def flush(self) -> str:
        """Return what was held back; nothing when that was asked for before."""
        return self._redactor.feed(clean(self._decoder.decode(b"", True))) + self._redactor.flush()
