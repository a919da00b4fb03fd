"""What a person at a terminal sees of a program's output while it runs: its first lines, one by one, and where the rest is.

Pure: lines out of pieces. Nothing in a line moves a cursor; of one that was drawn over (a progress bar) the last state stands.
"""

from collections.abc import Iterator

import attrs

from palyra_trio.core.words import one_line

LINES = 20  # of each call: the rest scrolls nobody's screen away
LINE_CHARACTERS = 160
_HELD_CHARACTERS = 64 * 1024  # of a line that has no end


@attrs.define
class _Call:
    shown: int = 0
    cut: bool = False
    begun: dict[str, str] = attrs.Factory(dict)


class LiveOutput:
    """The calls of a run whose output is watched."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}

    def feed(self, call_id: str, stream: str, text: str) -> Iterator[str]:
        """Yield the lines that are to be shown now that this came."""
        call = self._calls.setdefault(call_id, _Call())
        *whole, begun = (call.begun.get(stream, "") + text).split("\n")
        call.begun[stream] = begun[-_HELD_CHARACTERS:]
        for line in whole:
            yield from self._shown(call, line)

    def end(self, call_id: str, command: str) -> Iterator[str]:
        """Yield what is still to be shown of a call that has ended; `command` prints all of it."""
        call = self._calls.pop(call_id, _Call())
        for line in filter(None, call.begun.values()):
            yield from self._shown(call, line)
        if call.cut:
            yield f"  | … the rest: {command}"

    def _shown(self, call: _Call, line: str) -> Iterator[str]:
        if call.shown == LINES:
            call.cut = True
            return
        call.shown += 1
        yield f"  | {one_line(line.rstrip(chr(13)).rpartition(chr(13))[2], LINE_CHARACTERS)}"
