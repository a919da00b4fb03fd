"""The log's file: private, left to logrotate, and never a reason for the daemon to stop.

It is the standard library's WatchedFileHandler: before each line it looks whether the file at its path is still the one
that it has open, and opens the new one if not. So whoever rotates may move the file, with or without a signal; SIGHUP is
logged, which makes the new one at once. A RotatingFileHandler would bound the size without logrotate, and lose lines to
whoever else rotates its file: an operator has one program for all logs, and a bound of their own choice.

What cannot be written goes to stderr, as it would have stood in the file.
"""

import io
import logging
import os
import stat
import sys
from contextlib import suppress
from logging.handlers import WatchedFileHandler
from pathlib import Path

from palyra_trio.core.errors import ConfigInvalid

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LogFile(WatchedFileHandler):
    """Lines to the file at `path`, an absolute one, which is made with mode 0600, or given it. Raises ConfigInvalid."""

    def __init__(self, path: Path) -> None:
        self._failed = ""
        try:
            super().__init__(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigInvalid(
                f"log.file {path} cannot be opened: {error.strerror}",
                remedy="name a file in a folder that you can write, or leave log.file empty for stderr",
            ) from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. Raises nothing: one that cannot be written goes to stderr."""
        known, self._failed = self._failed, ""
        try:
            super().emit(record)
        except OSError:  # the file was moved, and no other can be made
            self.handleError(record)
        if self._failed and not known:
            _say(f"{self.baseFilename} cannot be written: {self._failed}; until it can, the log goes here")

    def handleError(self, record: logging.LogRecord) -> None:
        """Write the line to stderr instead: the handler's own way would show what is masked."""
        error = sys.exception()
        self._failed = getattr(error, "strerror", None) or type(error).__name__
        with suppress(Exception):
            _say(self.format(record))

    def _open(self) -> io.TextIOWrapper:
        descriptor = os.open(self.baseFilename, _FLAGS, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "it is no regular file")
            if status.st_uid != os.geteuid():
                raise OSError(0, f"it belongs to user {status.st_uid}")
            os.fchmod(descriptor, 0o600)
            return open(descriptor, "a", encoding=self.encoding, errors=self.errors)
        except BaseException:
            os.close(descriptor)
            raise


def _say(line: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
