"""What a daemon says of itself while it runs: one structured line an event on stderr, secrets masked.

The tape is the record of runs; logs are for whoever operates the process. They hold no prompt, no answer and no
argument of a call.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from palyra_trio.guard.redactor import Redactor


def set_up_logging(level: str, *, as_json: bool, redactor: Redactor, out: TextIO = sys.stderr) -> None:
    """Send what the standard library's loggers say from `level` (such as `info`) on to `out`, a line an event.

    As JSON objects for machines, or as plain text for a person.
    """

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        masked: EventDict = redactor.value(dict(event))
        return masked

    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
