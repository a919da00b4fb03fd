"""The newest lines of the log in memory, for whoever looks at a daemon from afar. What a line says is set up in `telemetry`."""

import logging
from collections import deque

import attrs

RECENT_LINES = 500
LINE_CHARACTERS = 4000


@attrs.frozen
class LogLine:
    """A line as it was logged, secrets masked. `at_ms` is Unix time."""

    at_ms: int
    level: str
    logger: str
    text: str


class RecentLog(logging.Handler):
    """The newest lines of the log, in memory. Any thread may log."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=RECENT_LINES)

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The lines, oldest first."""
        return tuple(self._lines.copy())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)[:LINE_CHARACTERS]
        except Exception:
            self.handleError(record)
        else:
            self._lines.append(LogLine(int(record.created * 1000), record.levelname.lower(), record.name, text))
