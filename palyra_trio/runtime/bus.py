"""The one bounded channel through which every command enters the runtime, and the loop that takes them off it.

The loop only routes: it never waits for a commit, a disk or a run. Commands that stop or decide something have slots
of their own, so that they get in where a storm of starts has filled the rest.
"""

import logging
from collections.abc import Callable

import attrs
import trio

from palyra_trio.core.commands import CancelRun, Command, DecideApproval, Reply
from palyra_trio.core.errors import Draining, PalyraError
from palyra_trio.core.identity import RequestContext

_log = logging.getLogger(__name__)

SLOTS = 64  # the loop clears a command in some 20 µs: this is a buffer against bursts, not a backlog
RESERVED_SLOTS = 64


@attrs.define(eq=False)
class Submission:
    """A command, on whose behalf it came, what was prepared for it, and the reply that somebody waits for."""

    command: Command
    context: RequestContext
    prepared: object = None
    _answer: Reply | PalyraError | None = None
    _answered: trio.Event = attrs.Factory(trio.Event)

    def answer(self, reply: Reply | PalyraError) -> None:
        """Settle the submission; the first answer stands."""
        if self._answer is None:
            self._answer = reply
            self._answered.set()

    async def reply(self) -> Reply:
        """Return the reply, or raise the refusal. A cancel leaves the command under way."""
        await self._answered.wait()
        if isinstance(self._answer, PalyraError):
            raise self._answer
        assert self._answer is not None
        return self._answer


class Bus:
    """The channel. `put` waits for a slot; a caller that will not wait for ever brings its own deadline."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Submission](SLOTS + RESERVED_SLOTS)
        self._slots = trio.Semaphore(SLOTS)

    async def put(self, submission: Submission) -> None:
        """Put a command on the bus. If cancelled while it waits, the command was not put. Raises Draining when closed."""
        if not isinstance(submission.command, CancelRun | DecideApproval):
            await self._slots.acquire()
        try:
            await self._send.send(submission)
        except trio.ClosedResourceError as error:
            self._release(submission)
            raise Draining("this process is shutting down", remedy="send the command again when it is back") from error
        except BaseException:
            self._release(submission)
            raise

    def _release(self, submission: Submission) -> None:
        if not isinstance(submission.command, CancelRun | DecideApproval):
            self._slots.release()

    async def route(self, handle: Callable[[Submission], None]) -> None:
        """Hand each command to `handle` until the bus is closed. A refusal that it raises is the command's answer.

        Any other error is a fault of ours that this command met: it is logged, and the next command is none the worse.
        """
        async for submission in self._receive:
            self._release(submission)
            try:
                handle(submission)
            except PalyraError as error:
                submission.answer(error)
            except Exception as error:
                name = type(submission.command).__name__
                _log.exception("%s failed", name)
                submission.answer(PalyraError(f"{name} failed: {type(error).__name__}", remedy="the log says more"))

    def close(self) -> None:
        self._send.close()
