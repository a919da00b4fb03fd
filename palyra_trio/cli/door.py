"""The way to the runtime: the process that holds the state directory if there is one, else this process itself.

Whoever holds the directory serves everybody else on a Unix socket in it, be it `serve` or a `run` that found no daemon. So
a command connects; if nobody answers it takes the lock and serves; if the lock is taken it tries to connect again, for a
moment, because the other process may only just be starting.
"""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from palyra_trio.cli.open import model_settings, read_settings, request_context
from palyra_trio.cli.profiles import Profile, chosen
from palyra_trio.cli.remote import RemoteGateway, Rows, open_remote
from palyra_trio.cli.settings import Settings
from palyra_trio.core.commands import Command, Reply
from palyra_trio.core.errors import NoDaemon, PalyraError, StateLocked
from palyra_trio.core.identity import Principal, RequestContext, RunId, SessionId
from palyra_trio.runtime.follow import Follower
from palyra_trio.runtime.gateway import Gateway

SOCKET_NAME = "socket"
STARTING_S = 3.0  # how long a process may take from its lock to its socket
AGAIN_S = 0.05


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
    """The gateway of this process."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        return await self.gateway.submit(command, context)

    @asynccontextmanager
    async def following(self, run_id: RunId, after_seq: int, context: RequestContext) -> AsyncGenerator[Follower, None]:
        yield await self.gateway.follow(run_id, after_seq, context)

    async def session_named(self, text: str, context: RequestContext) -> SessionId:
        return await self.gateway.ask(lambda reader: reader.find_session(text, context.principal).session_id)


@asynccontextmanager
async def open_door(settings: Settings) -> AsyncGenerator[tuple[Door, RequestContext], None]:
    """Open the way to the runtime of the state directory, and say on whose behalf this command acts.

    Raises StateLocked when another process holds the directory and does not answer, and what `open_daemon` raises.
    Leaving the block of a runtime of our own waits for the runs that others started in it.
    """
    async with AsyncExitStack() as stack:
        if (elsewhere := chosen()) is not None:
            yield await stack.enter_async_context(_open_elsewhere(elsewhere))
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
            await door.gateway.sessions.idle()


@asynccontextmanager
async def _open_elsewhere(profile: Profile) -> AsyncGenerator[tuple[RemoteGateway, RequestContext], None]:
    async with open_remote(profile.dial, profile.address, profile.metadata) as remote:
        yield remote, RequestContext(Principal(""))


@asynccontextmanager
async def open_remote_door(state_dir: Path) -> AsyncGenerator[tuple[RemoteGateway, RequestContext], None]:
    """Open the way to the process that holds the state directory. Raises NoDaemon when nobody answers there."""
    path = state_dir / SOCKET_NAME

    async def dial() -> trio.SocketStream:
        return await trio.open_unix_socket(os.fspath(path))

    try:
        await (await dial()).aclose()
    except OSError as error:
        raise NoDaemon(f"nobody answers at {path}", remedy="`palyra-trio serve` starts a daemon") from error
    context = request_context(state_dir)
    metadata = {"x-palyra-device-id": context.device, "x-palyra-channel": context.channel}
    async with open_remote(dial, "localhost", metadata) as remote:
        yield remote, context


async def _serve_ourselves(stack: AsyncExitStack, settings: Settings) -> LocalDoor:
    from palyra_trio.daemon import open_daemon

    opening = open_daemon(settings.config, model_settings(settings), settings.state_dir, tcp=False)
    return LocalDoor((await stack.enter_async_context(opening)).gateway)


def submit(command: Command) -> Reply:
    """Carry out one command and return its reply. Raises the refusal, StateLocked, NoDaemon and ConfigInvalid."""
    return trio.run(_submit, command, read_settings())


async def _submit(command: Command, settings: Settings) -> Reply:
    async with open_door(settings) as (door, context):
        return await door.submit(command, context)


async def attempt(door: Door, command: Command, context: RequestContext, say: Callable[[str], None]) -> Reply | None:
    """Carry out a command and return its reply; if it is refused, `say` why and return None."""
    try:
        return await door.submit(command, context)
    except PalyraError as error:
        say(f"error: {error}")
        await trio.lowlevel.checkpoint()
        return None
