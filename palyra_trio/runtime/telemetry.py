"""What a daemon says of itself while it runs: one structured line an event on stderr or in a file, secrets masked.

The tape is the record of runs; logs are for whoever operates the process. They hold no prompt, no answer and no
argument of a call.
"""

import ctypes
import logging
import resource
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.log_file import LogFile
from palyra_trio.runtime.recent_log import RecentLog

_PR_SET_DUMPABLE = 4


def set_up_logging(
    level: str,
    *,
    as_json: bool,
    redactor: Redactor,
    out: TextIO = sys.stderr,
    file: Path | None = None,
    recent: RecentLog | None = None,
) -> None:
    """Send what the standard library's loggers say from `level` (such as `info`) on to `out`, a line an event.

    Or to a file instead, one that is rotated from outside. As JSON objects for machines, or as plain text for a person.
    `recent` gets the same for a person. Raises ConfigInvalid for a file that cannot be opened; then nothing has changed.
    """

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        masked: EventDict = redactor.value(dict(event))
        return masked

    def redact_line(_logger: WrappedLogger, _method: str, line: Any) -> Any:
        return redactor.text(line)  # some of it was no text before it was rendered

    def formatter(renderer: Processor, *before: Processor) -> logging.Formatter:
        masked: list[Processor] = [redact, renderer, redact_line]
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *masked,
            ],
        )

    text = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    handler = logging.StreamHandler(out) if file is None else LogFile(file)
    handler.setFormatter(
        formatter(
            structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        )
    )
    handlers: list[logging.Handler] = [handler]
    if recent is not None:
        recent.setFormatter(formatter(text))
        handlers.append(recent)
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(level.upper())
    if level != "debug":
        logging.getLogger("quic").setLevel(logging.WARNING)  # aioquic tells the story of every connection


def log_crashes() -> None:
    """Let what nobody catches, in any thread, be logged like all else instead of printed: no value of a variable is in it.

    And let the process leave no image of its memory when it is killed by a fault of its own, nor be traced by its user.
    """
    crashed = logging.getLogger("palyra_trio.crash").critical
    sys.excepthook = lambda kind, error, trace: crashed("crashed", exc_info=(kind, error, trace))
    threading.excepthook = lambda args: crashed("a thread crashed", exc_info=args.exc_value)
    sys.unraisablehook = lambda args: crashed("an error that nobody can catch", exc_info=args.exc_value)
    logging.captureWarnings(True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
