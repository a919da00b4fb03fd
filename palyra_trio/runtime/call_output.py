"""What a running call says of itself on the tape: its output as it comes, and the receipt when its processes were killed.

Output gathers while the commit before it is under way, so the disk sets the pace and no timer does; it never holds up
the program. The whole of it is in the call's result: what is told here is for those who watch.
"""

import codecs

from palyra_trio.core.tape import KillReceipt, ToolOutput
from palyra_trio.core.text import clean
from palyra_trio.runtime.runs import Run
from palyra_trio.tools import job

WATCHED_CHARACTERS = 256 * 1024  # of one call; beyond this a watcher waits for the result


class CallOutput:
    """The output of one call on its way to the tape, redacted. `end` gives up what was held back."""

    def __init__(self, run: Run, call_id: str) -> None:
        self._run = run
        self._call_id = call_id
        self._streams: dict[job.Stream, _Stream] = {}
        self._room = WATCHED_CHARACTERS
        self._committing = False

    def take(self, stream: job.Stream, data: bytes) -> None:
        """Take what a program wrote. Never waits."""
        if self._room > 0:
            self._stream(stream).feed(data)
            self._submit()

    def killed(self, receipt: job.KillReceipt) -> None:
        """Record that the call's processes were killed, and how many there were."""
        elapsed_ms = round(receipt.elapsed_ms)
        self._run.submit(KillReceipt(self._call_id, receipt.pids_seen, receipt.survivors, elapsed_ms))

    def end(self) -> None:
        for each in self._streams.values():
            each.flush()
        self._committing = False
        self._submit()

    def _stream(self, stream: job.Stream) -> "_Stream":
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._run)
        return self._streams[stream]

    def _submit(self) -> None:
        if self._committing:
            return
        for name, stream in self._streams.items():
            text = stream.taken()[: max(self._room, 0)]
            if text:
                self._room -= len(text)
                self._committing = True
                self._run.submit(ToolOutput(self._call_id, name, text), then=self._committed)

    def _committed(self) -> None:
        self._committing = False
        self._submit()


class _Stream:
    """One stream's bytes as redacted text."""

    def __init__(self, run: Run) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = run.state.redactor.stream()
        self._gathered: list[str] = []

    def feed(self, data: bytes, *, final: bool = False) -> None:
        self._gathered.append(self._redactor.feed(clean(self._decoder.decode(data, final))))

    def flush(self) -> None:
        self.feed(b"", final=True)
        self._gathered.append(self._redactor.flush())

    def taken(self) -> str:
        text = "".join(self._gathered)
        self._gathered.clear()
        return text
