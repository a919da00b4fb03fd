"""Server-sent events as a sans-IO parser: bytes in, whole events out (WHATWG HTML, section 9.2.6).

How the bytes are cut into chunks makes no difference. It neither reconnects nor keeps `retry`: those are the
reader's business.
"""

import attrs

from palyra_trio.providers.base import ProviderError

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


@attrs.frozen
class ServerEvent:
    """One dispatched event. `last_id` is the last event id that the stream has set."""

    data: str
    type: str = "message"
    last_id: str = ""


class EventParser:
    """The state between two chunks of one stream. An event that the stream's end cuts off is never dispatched."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []  # the unfinished line, in pieces: joining at each chunk would be quadratic
        self._size = 0  # bytes of the unfinished event, its comments and field names included
        self._after_cr = False
        self._at_start = True
        self._data: list[str] = []
        self._type = ""
        self._last_id = ""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that `chunk` completes.

        Raises ProviderError(malformed) when an event is longer than the limit; the parser is of no use after that.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # of bytes, this splits at LF, CR and CR LF only
        rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        events = []
        for line in lines:
            self._grow(line)
            if self._line:
                line = b"".join((*self._line, line))
                self._line.clear()
            if event := self._take(line):
                events.append(event)
        if rest:
            self._grow(rest)
            self._line.append(rest)
        return events

    def _grow(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_event_bytes:
            raise ProviderError("malformed", f"the server sent an event of more than {self._max_event_bytes} bytes")

    def _take(self, line: bytes) -> ServerEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        field, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._type = value
        elif field == b"id" and "\0" not in value:
            self._last_id = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, kind = self._data, self._type
        self._data, self._type, self._size = [], "", 0
        return ServerEvent("\n".join(data), kind or "message", self._last_id) if data else None
