"""Readers for tasks: a question about the journal is answered in a worker thread, on one of at most two connections.

More than two would take the GIL from the writer (measured: eight readers cut appends to a quarter). What can be asked
is `queries`' part.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import trio

from palyra_trio.core.errors import Busy
from palyra_trio.journal.queries import Reader

READERS = 2
SEARCHES_WAITING = 8

T = TypeVar("T")


class ReaderPool:
    """`async with ReaderPool(path) as readers: await readers.ask(...)`. Opens the file at the first question."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = trio.CapacityLimiter(READERS)
        self._searching = trio.CapacityLimiter(1)
        self._idle: list[Reader] = []

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Return `question(reader)`, computed in a thread. A cancel waits for the question to end: it is short.

        Raises what the question raises, and JournalInvalid when there is no journal that can be read.
        """
        return await trio.to_thread.run_sync(self._ask, question, limiter=self._limiter)

    async def search(self, question: Callable[[Reader], T]) -> T:
        """Do as `ask` for a question that may take seconds: one at a time, so that another reader is there for the rest.

        Raises Busy, too, when SEARCHES_WAITING wait for their turn already.
        """
        if self._searching.statistics().tasks_waiting >= SEARCHES_WAITING:
            raise Busy("too many searches wait for their turn", remedy="try again in a few seconds")
        async with self._searching:
            return await self.ask(question)

    def _ask(self, question: Callable[[Reader], T]) -> T:
        reader = self._idle.pop() if self._idle else Reader(self._path)
        try:
            return question(reader)
        finally:
            self._idle.append(reader)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exit: object) -> None:
        while self._idle:
            self._idle.pop().close()
