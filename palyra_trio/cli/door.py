"""The way to the runtime: the process that holds the state directory if there is one, else this process itself.

Whoever holds the directory serves everybody else on a Unix socket in it, be it `serve` or a `run` that found no daemon. So
a command connects; if nobody answers it takes the lock and serves; if the lock is taken it tries to connect again, for a
moment, because the other process may only just be starting.
"""

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click
import trio

from palyra_trio.cli.open import model_settings, read_settings, request_context, state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.remote import RemoteGateway, Rows, open_remote
from palyra_trio.cli.settings import Settings
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Command, Reply
from palyra_trio.core.errors import NoDaemon, PalyraError, StateLocked
from palyra_trio.core.identity import Principal, RequestContext, RunId, SessionId
from palyra_trio.runtime.follow import Follower

if TYPE_CHECKING:
    from palyra_trio.daemon import Daemon

SOCKET_NAME = "socket"
STARTING_S = 3.0  # how long a process may take from its lock to its socket
AGAIN_S = 0.05
UNSAID_S = 0.3  # how long a wait for others is not worth a word: a run of our own may just be ending, too


class Door(Protocol):
    """A gateway, here or in another process."""

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        """Carry out a command. Raises the refusal, and NoDaemon."""
        ...

    def following(self, run_id: RunId, after_seq: int, context: RequestContext) -> AbstractAsyncContextManager[Rows]:
        """Follow a run for the length of the block."""
        ...

    async def session_named(self, text: str, context: RequestContext) -> SessionId:
        """Return the session that is meant: `last`, an id, the beginning of one, or a key. Raises NotFound."""
        ...


class LocalDoor:
    """The gateway of this process, which serves other terminals too."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        return await self._daemon.gateway.submit(command, context)

    @asynccontextmanager
    async def following(self, run_id: RunId, after_seq: int, context: RequestContext) -> AsyncGenerator[Follower, None]:
        yield await self._daemon.gateway.follow(run_id, after_seq, context)

    async def session_named(self, text: str, context: RequestContext) -> SessionId:
        return await self._daemon.gateway.ask(lambda reader: reader.find_session(text, context.principal).session_id)

    async def let_others_end(self) -> None:
        """Wait for the runs that other terminals started here. A signal ends that, and leaves them interrupted."""
        sessions = self._daemon.gateway.sessions
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._leave_at, signals)
                with trio.move_on_after(UNSAID_S):
                    await sessions.idle()
                if live := sessions.live_runs:
                    click.echo(
                        f"waiting for the runs of other terminals ({live} live); Ctrl-C leaves them interrupted",
                        err=True,
                    )
                await sessions.idle()
                nursery.cancel_scope.cancel()

    async def _leave_at(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            self._daemon.drain(0)
            self._daemon.gateway.sessions.stop("the terminal that ran it left")


@asynccontextmanager
async def open_door(settings: Settings) -> AsyncGenerator[tuple[Door, RequestContext], None]:
    """Open the way to the runtime of the state directory, and say on whose behalf this command acts.

    Raises StateLocked when another process holds the directory and does not answer, and what `open_daemon` raises.
    Leaving the block of a runtime of our own waits for the runs that others started in it, until a signal.
    """
    async with AsyncExitStack() as stack:
        if chosen() is not None:
            yield await stack.enter_async_context(open_remote_door(settings.state_dir))
            return
        until = trio.current_time() + STARTING_S
        while True:
            try:
                door: Door = (await stack.enter_async_context(open_remote_door(settings.state_dir)))[0]
                break
            except NoDaemon:
                pass
            try:
                door = await _serve_ourselves(stack, settings)
                break
            except StateLocked:
                if trio.current_time() > until:
                    raise
                await trio.sleep(AGAIN_S)
        yield door, request_context(settings.state_dir)
        if isinstance(door, LocalDoor):
            await door.let_others_end()


@asynccontextmanager
async def open_remote_door(folder: Path) -> AsyncGenerator[tuple[RemoteGateway, RequestContext], None]:
    """Open the way to the process that holds the state directory, or to the daemon that `--daemon` names.

    Raises NoDaemon when nobody answers: here for the former, at the first use for the latter.
    """
    if (elsewhere := chosen()) is not None:
        async with open_remote(elsewhere.dial, elsewhere.address, elsewhere.metadata) as remote:
            yield remote, RequestContext(Principal(""))
        return
    path = folder / SOCKET_NAME

    async def dial() -> trio.SocketStream:
        return await trio.open_unix_socket(os.fspath(path))

    try:
        await (await dial()).aclose()
    except OSError as error:
        raise NoDaemon(f"nobody answers at {path}", remedy="`palyra-trio serve` starts a daemon") from error
    context = request_context(folder)
    metadata = {"x-palyra-device-id": context.device, "x-palyra-channel": context.channel}
    async with open_remote(dial, "localhost", metadata) as remote:
        yield remote, context


async def _serve_ourselves(stack: AsyncExitStack, settings: Settings) -> LocalDoor:
    from palyra_trio.daemon import open_daemon

    opening = open_daemon(
        settings.base, model_settings(settings), settings.state_dir, settings.sources.config_in, tcp=False
    )
    return LocalDoor(await stack.enter_async_context(opening))


def submit(command: Command) -> Reply:
    """Carry out one command and return its reply. Raises the refusal, StateLocked, NoDaemon and ConfigInvalid."""
    return trio.run(_submit, command, read_settings())


async def _submit(command: Command, settings: Settings) -> Reply:
    async with open_door(settings) as (door, context):
        return await door.submit(command, context)


def watch(run_id: RunId, after_seq: int, show: Callable[[Iterable[TapeRow]], None]) -> None:
    """Show a run's rows after `after_seq` as they come, until it has ended. Raises the refusal, and NoDaemon."""
    trio.run(_watch, run_id, after_seq, show)


async def _watch(run_id: RunId, after_seq: int, show: Callable[[Iterable[TapeRow]], None]) -> None:
    async with open_remote_door(state_dir()) as (door, context), door.following(run_id, after_seq, context) as follower:
        while rows := await follower.next_rows():
            show(rows)


async def attempt(door: Door, command: Command, context: RequestContext, say: Callable[[str], None]) -> Reply | None:
    """Carry out a command and return its reply; if it is refused, `say` why and return None."""
    try:
        return await door.submit(command, context)
    except PalyraError as error:
        say(f"error: {error}")
        await trio.lowlevel.checkpoint()
        return None
