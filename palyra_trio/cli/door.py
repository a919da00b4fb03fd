"""The way to the runtime: the process that holds the state directory if there is one, else this process itself.

Whoever holds the directory serves everybody else on a Unix socket in it, be it `serve` or a `run` that found no daemon. So
a command connects; if nobody answers it takes the lock and serves; if the lock is taken it tries to connect again, for a
moment, because the other process may only just be starting, or be leaving. One that leaves before it has carried out what
it was asked is another reason to begin again.
"""

import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs
import click
import trio

from palyra_trio.cli.open import is_held, read_settings, request_context, setup_of, state_dir
from palyra_trio.cli.profiles import chosen, note, transport
from palyra_trio.cli.remote import RemoteGateway, Rows, Stub, nursery_of_our_own, open_remote
from palyra_trio.cli.settings import Settings
from palyra_trio.cli.ways import Transport, Way, over_quic, over_stream
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import Command, Reply, StartRun
from palyra_trio.core.errors import Draining, NoDaemon, PalyraError, StateLocked
from palyra_trio.core.identity import ULID_RANDOM_BYTES, Principal, RequestContext, RunId, SessionId, mint_ulid
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.reading import open_reader
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.access import TOKEN_FILE
from palyra_trio.runtime.follow import Follower

if TYPE_CHECKING:
    from palyra_trio.daemon import Daemon

SOCKET_NAME = "socket"
STARTING_S = 3.0  # how long a process may take from its lock to its socket, or from its socket's end to its lock's
AGAIN_S = 0.05
LAST_ROWS_S = 1.0  # for others to read the last rows of a run that has ended here
UNSAID_S = 0.3  # how long a wait for others is not worth a word: a run of our own may just be ending, too

T = TypeVar("T")


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
                if jobs := self._daemon.gateway.jobs.count:
                    click.echo(
                        f"stopping {jobs} long jobs: they end with this process; `palyra-trio serve` keeps them",
                        err=True,
                    )
                self._daemon.drain(LAST_ROWS_S)  # at once: a run that were taken now would end with this process
                nursery.cancel_scope.cancel()

    async def _leave_at(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            self._daemon.drain(0)
            self._daemon.gateway.sessions.stop("the terminal that ran it left")


class SharedDoor:
    """The way to whoever holds the state directory, and from one that leaves to the next. Made by `open_door`."""

    def __init__(self, settings: Settings, nursery: trio.Nursery) -> None:
        self.leads_to: LocalDoor | RemoteGateway
        self._settings = settings
        self._nursery = nursery
        self._opening = trio.Lock()
        self._leaving = trio.Event()
        self._left = trio.Event()

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        repeatable = isinstance(command, StartRun)
        if isinstance(command, StartRun) and isinstance(self.leads_to, RemoteGateway):
            # By its id, the run that a process took and could not confirm is the same when it is sent again.
            command = attrs.evolve(command, run_id=command.run_id or _new_run_id())
        return await self._ask(lambda door: door.submit(command, context), repeatable)

    def following(self, run_id: RunId, after_seq: int, context: RequestContext) -> AbstractAsyncContextManager[Rows]:
        return self.leads_to.following(run_id, after_seq, context)

    async def session_named(self, text: str, context: RequestContext) -> SessionId:
        return await self._ask(lambda door: door.session_named(text, context), repeatable=True)

    async def _ask(self, question: Callable[[Door], Awaitable[T]], repeatable: bool) -> T:
        until = trio.current_time() + STARTING_S
        while isinstance(asked := self.leads_to, RemoteGateway):
            sent = False
            try:
                await asked.reach()
                sent = True
                return await question(asked)
            except (NoDaemon, Draining) as error:
                unsure = sent and not repeatable and isinstance(error, NoDaemon)
                if unsure or trio.current_time() > until:
                    raise
            await trio.sleep(AGAIN_S)
            async with self._opening:
                if self.leads_to is asked:
                    await self.open(until)
        return await question(self.leads_to)

    async def open(self, until: float) -> None:
        """Connect, or else take the lock and serve, or else do both again. Raises StateLocked after `until` (Trio's clock)."""
        while True:
            try:
                self.leads_to = await self._nursery.start(self._connect)
                return
            except NoDaemon:
                pass
            try:
                self.leads_to = await self._nursery.start(self._serve)
                return
            except StateLocked:
                if trio.current_time() > until:
                    raise
            await trio.sleep(AGAIN_S)

    async def leave(self) -> None:
        """Let the runs that others started in a runtime of our own end, and close that runtime."""
        if isinstance(self.leads_to, LocalDoor):
            await self.leads_to.let_others_end()
            self._leaving.set()
            await self._left.wait()

    async def _connect(self, task_status: trio.TaskStatus[RemoteGateway]) -> None:
        async with open_remote_door(self._settings.state_dir) as (door, _):
            task_status.started(door)
            await trio.sleep_forever()

    async def _serve(self, task_status: trio.TaskStatus[LocalDoor]) -> None:
        from palyra_trio.daemon import open_daemon

        async with open_daemon(setup_of(self._settings), tcp=False) as daemon:
            task_status.started(LocalDoor(daemon))
            await self._leaving.wait()
        self._left.set()


def _new_run_id() -> RunId:
    return RunId(mint_ulid(time.time_ns() // 1_000_000, os.urandom(ULID_RANDOM_BYTES)))


@asynccontextmanager
async def open_door(settings: Settings) -> AsyncGenerator[tuple[Door, RequestContext], None]:
    """Open the way to the runtime of the state directory, and say on whose behalf this command acts.

    Raises StateLocked when another process holds the directory and does not answer, and what `open_daemon` raises.
    Leaving the block of a runtime of our own waits for the runs that others started in it, until a signal.
    """
    if chosen() is not None or transport() is Transport.QUIC:
        async with open_remote_door(settings.state_dir) as elsewhere:
            yield elsewhere
        return
    async with nursery_of_our_own() as nursery:
        door = SharedDoor(settings, nursery)
        await door.open(trio.current_time() + STARTING_S)
        yield door, request_context(settings.state_dir)
        await door.leave()


@asynccontextmanager
async def open_remote_door(folder: Path) -> AsyncGenerator[tuple[RemoteGateway, RequestContext], None]:
    """Open the way to the process that holds the state directory, or to the daemon that `--daemon` names.

    Raises NoDaemon when nobody answers: here for the former, at the first use for the latter.
    """
    if (elsewhere := chosen()) is not None:
        async with open_remote(*elsewhere.ways(transport()), note=note) as remote:
            yield remote, RequestContext(Principal(""))
        return
    path = folder / SOCKET_NAME

    async def dial() -> trio.SocketStream:
        return await trio.open_unix_socket(os.fspath(path))

    nobody = NoDaemon(f"nobody answers at {path}", remedy="`palyra-trio serve` starts a daemon")
    if not path.exists():
        raise nobody
    context = request_context(folder)
    metadata = {"x-palyra-device-id": context.device, "x-palyra-channel": context.channel}
    left = partial(_rest_of_ended, folder / FILE_NAME)
    async with open_remote(over_stream(dial, f"unix:{path}", metadata), left=left, note=note) as remote:
        try:
            await remote.reach()
        except NoDaemon as error:
            raise nobody from error
        if transport() is not Transport.QUIC:
            yield remote, context
            return
        way = await _over_quic_here(remote, folder, metadata)
    async with open_remote(way, left=left, note=note) as remote:
        yield remote, context


async def _over_quic_here(remote: RemoteGateway, folder: Path, metadata: Mapping[str, str]) -> Way:
    """Return the way over HTTP/3 to the daemon of this state directory, which says where that is. Raises NoDaemon."""
    from palyra_trio.transports.certificates import CERTIFICATE, FOLDER

    found = next((each for each in (await remote.health()).addresses if each.startswith("quic://")), None)
    if found is None:
        raise NoDaemon("this daemon does not serve HTTP/3", remedy="set quic.enabled and start it with `serve`")
    parts = urlsplit(found)
    token = (folder / TOKEN_FILE).read_text().strip()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname or "", parts.hostname or "")
    return over_quic(
        host, parts.port or 0, folder / FOLDER / CERTIFICATE, {**metadata, "authorization": f"Bearer {token}"}
    )


def _rest_of_ended(journal: Path, run_id: RunId, after_seq: int) -> Iterator[tuple[TapeRow, ...]]:
    """Yield the rows that a run has after `after_seq`, if it has ended: who ran it may have left at once."""
    with closing(open_reader(journal)) as reader:
        run = reader.run(run_id)
        while run is not None and run.state in TERMINAL and (rows := reader.page(run_stream(run_id), after_seq)):
            yield rows
            after_seq = rows[-1].seq


def submit(command: Command) -> Reply:
    """Carry out one command and return its reply. Raises the refusal, StateLocked, NoDaemon and ConfigInvalid."""
    return trio.run(_submit, command, read_settings())


async def _submit(command: Command, settings: Settings) -> Reply:
    async with open_door(settings) as (door, context):
        return await door.submit(command, context)


def ask_process(stub: Stub, method: str, request: Any) -> Any:
    """Return what the process that holds the state directory answers to a unary call, or None when none does.

    Raises the refusal; and NoDaemon when a process holds the directory and does not answer, or with `--daemon`.
    """
    return trio.run(_ask_process, stub, method, request)


async def _ask_process(stub: Stub, method: str, request: Any) -> Any:
    try:
        async with open_remote_door(state_dir()) as (door, _):
            return await door.service_call(stub, method, request)
    except NoDaemon:
        if chosen() is not None or is_held(state_dir()):
            raise
        return None


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
