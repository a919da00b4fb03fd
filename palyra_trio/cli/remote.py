"""A gateway in another process, with the verbs of our own: what the commands need of one, carried over gRPC.

Following goes on over a new connection after the last row that arrived; it gives up when nobody has answered for
`PATIENCE_S`. Other calls are made once: what was sent and not answered may have been carried out.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import attrs
import trio
from google.rpc.error_details_pb2 import ErrorInfo
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.cli.ways import Connection, Note, Way, silent
from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import (
    Accepted,
    Applied,
    ArchiveSession,
    CancelRun,
    Command,
    CreateToken,
    DecideApproval,
    DefineAgent,
    PauseAdmission,
    RemoveAgent,
    RenameSession,
    Reply,
    ResumeAdmission,
    RevokeGrant,
    RevokeToken,
    RotateToken,
    SetDefaultAgent,
    StartRun,
    StopJob,
    TakeUpRun,
    TokenIssued,
    UndoRun,
)
from palyra_trio.core.errors import (
    InvalidArgument,
    NoDaemon,
    PalyraError,
    PolicyError,
    TooLarge,
    Unauthenticated,
    of_code,
)
from palyra_trio.core.identity import RequestContext, RunId, SessionId
from palyra_trio.core.tape import RunFinished, run_stream
from palyra_trio.pb import (
    agents_pb2,
    approvals_pb2,
    gateway_pb2,
    jobs_pb2,
    operations_pb2,
    runs_pb2,
    sessions_pb2,
    tokens_pb2,
)
from palyra_trio.pb.approvals_grpc import ApprovalsServiceStub
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.pb.jobs_grpc import JobsServiceStub
from palyra_trio.pb.operations_grpc import OperationsServiceStub
from palyra_trio.pb.tokens_grpc import TokenServiceStub
from palyra_trio.transports import convert
from palyra_trio.transports.convert_approvals import decision_message
from palyra_trio.wire.call import ConnectionLost
from palyra_trio.wire.limits import Limits

PATIENCE_S = 30.0
BACK_OFF_S = 0.05
BACK_OFF_MAX_S = 2.0
BATCHES = 4  # of rows on their way to the screen; the rest waits in the daemon's journal

Left = Callable[[RunId, int], Iterable[tuple[TapeRow, ...]]]  # a run, and after which seq: nothing if it has not ended
Stub = Callable[[Any], Any]  # a service's class of stubs, which is made of a channel


class Rows(Protocol):
    """A place on a run's tape, here or in another process."""

    async def next_rows(self) -> tuple[TapeRow, ...]:
        """Return the rows after the last ones: at least one, or none once the run has ended."""
        ...


@attrs.define
class _Arriving:
    _receive: trio.MemoryReceiveChannel[tuple[TapeRow, ...]]
    failure: PalyraError | None = None

    async def next_rows(self) -> tuple[TapeRow, ...]:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self.failure is not None:
                raise self.failure from None
            return ()


class RemoteGateway:
    """The gateway at the other end of a connection. Made by `open_remote`."""

    def __init__(self, connection: Connection, left: Left | None) -> None:
        self._connection = connection
        self._left = left

    async def reach(self) -> None:
        """Be connected. Raises NoDaemon."""
        with _refusals():
            await self._connected()

    async def submit(self, command: Command, context: RequestContext) -> Reply:
        """Carry out a command there, as whom the connection says we are. Raises the refusal, and NoDaemon."""
        with _refusals():
            channel: Any = await self._connected()
            gateway, tokens = GatewayServiceStub(channel), TokenServiceStub(channel)
            approvals, operations = ApprovalsServiceStub(channel), OperationsServiceStub(channel)
            match command:
                case StartRun():
                    return await self._start(gateway, command)
                case CreateToken() | RotateToken():
                    return await _issued(tokens, command)
                case CancelRun(run_id, reason):
                    await gateway.CancelRun(runs_pb2.CancelRunRequest(run_id=run_id, reason=reason))
                case TakeUpRun(run_id):
                    await gateway.TakeUpRun(runs_pb2.TakeUpRunRequest(run_id=run_id))
                case DecideApproval():
                    await approvals.DecideApproval(
                        approvals_pb2.ApprovalsServiceDecideApprovalRequest(decision=decision_message(command))
                    )
                case RevokeGrant(grant_id):
                    await approvals.RevokeGrant(approvals_pb2.RevokeGrantRequest(grant_id=grant_id))
                case UndoRun(run_id):
                    await gateway.UndoRun(runs_pb2.UndoRunRequest(run_id=run_id))
                case StopJob(job_id):
                    await JobsServiceStub(channel).StopJob(jobs_pb2.StopJobRequest(job_id=job_id))
                case PauseAdmission(reason):
                    await operations.PauseAdmission(operations_pb2.PauseAdmissionRequest(reason=reason))
                case ResumeAdmission():
                    await operations.ResumeAdmission(operations_pb2.ResumeAdmissionRequest())
                case RenameSession(session_id, title):
                    await gateway.RenameSession(sessions_pb2.RenameSessionRequest(session=session_id, title=title))
                case ArchiveSession(session_id):
                    await gateway.ArchiveSession(sessions_pb2.ArchiveSessionRequest(session=session_id))
                case DefineAgent(spec, replace):
                    request = agents_pb2.CreateAgentRequest(spec=convert.agent_spec_message(spec), replace=replace)
                    await gateway.CreateAgent(request)
                case RemoveAgent(name):
                    await gateway.DeleteAgent(agents_pb2.DeleteAgentRequest(name=name))
                case SetDefaultAgent(name):
                    await gateway.SetDefaultAgent(agents_pb2.SetDefaultAgentRequest(name=name))
                case RevokeToken(token_id):
                    await tokens.RevokeToken(tokens_pb2.RevokeTokenRequest(token_id=token_id))
                case _:
                    raise InvalidArgument(f"{type(command).__name__} has no way over the wire")
        return Applied()

    async def _start(self, gateway: GatewayServiceStub, command: StartRun) -> Accepted:
        """Start a run and leave its stream: the run goes on, and is followed by its id."""
        _check_size(command)
        async with gateway.RunStream.open() as stream:
            await stream.send_message(runs_pb2.RunStreamRequest(start=convert.start_run_message(command)))
            response = await stream.recv_message()
            if response is None or response.WhichOneof("response") != "accepted":
                raise NoDaemon("the daemon did not answer the start of a run")
        found = response.accepted
        return Accepted(RunId(found.run_id), SessionId(found.session_id), attached=found.attached)

    async def session_named(self, text: str, context: RequestContext) -> SessionId:
        """Return the session that is meant: `last`, an id, the beginning of one, or a key. Raises NotFound."""
        with _refusals():
            stub = GatewayServiceStub(await self._connected())
            return SessionId((await stub.GetSession(sessions_pb2.GetSessionRequest(session=text))).session.session_id)

    async def gateway_call(self, method: str, request: Any) -> Any:
        """Return the response of a unary method of the GatewayService. Raises the refusal, and NoDaemon."""
        return await self.service_call(GatewayServiceStub, method, request)

    async def service_call(self, stub: Stub, method: str, request: Any) -> Any:
        """Return the response of a unary method of the service that `stub` is of. Raises the refusal, and NoDaemon."""
        with _refusals():
            return await getattr(stub(await self._connected()), method)(request)

    async def stream_call(self, stub: Stub, method: str, request: Any, take: Callable[[Any], None]) -> None:
        """Hand each response to one request to `take`, until the last. Raises the refusal, and NoDaemon."""
        with _refusals():
            async with getattr(stub(await self._connected()), method).open() as stream:
                await stream.send_message(request, end=True)
                async for response in stream:
                    take(response)

    async def health(self) -> gateway_pb2.GetHealthResponse:
        found: gateway_pb2.GetHealthResponse = await self.gateway_call("GetHealth", gateway_pb2.GetHealthRequest())
        return found

    @asynccontextmanager
    async def following(self, run_id: RunId, after_seq: int, context: RequestContext) -> AsyncGenerator[Rows, None]:
        """Follow a run for the length of the block. Its rows raise the refusal, and NoDaemon when patience has run out."""
        send, receive = trio.open_memory_channel[tuple[TapeRow, ...]](BATCHES)
        arriving = _Arriving(receive)
        async with nursery_of_our_own() as nursery:
            nursery.start_soon(self._follow, run_id, after_seq, send, arriving)
            yield arriving

    async def _follow(
        self, run_id: str, after_seq: int, send: trio.MemorySendChannel[tuple[TapeRow, ...]], arriving: _Arriving
    ) -> None:
        place = _Place(after_seq)
        async with send:
            while not place.ended:
                try:
                    with _refusals():
                        await self._follow_once(run_id, place, send)
                except PalyraError as error:
                    gone = isinstance(error, NoDaemon)
                    for rows in self._left(RunId(run_id), place.seq) if gone and self._left is not None else ():
                        await send.send(rows)
                        place.arrived(rows)
                    if place.ended:
                        return
                    wait_s = place.wait_s(trio.current_time()) if gone else None
                    if wait_s is None:
                        arriving.failure = error
                        return
                    await trio.sleep(wait_s)

    async def _follow_once(
        self, run_id: str, place: "_Place", send: trio.MemorySendChannel[tuple[TapeRow, ...]]
    ) -> None:
        whole = Whole()
        async with GatewayServiceStub(await self._connected()).RunStream.open() as stream:
            attach = runs_pb2.AttachRun(run_id=run_id, after_seq=place.seq)
            await stream.send_message(runs_pb2.RunStreamRequest(attach=attach), end=True)
            async for response in stream:
                place.lost_at = None
                if response.WhichOneof("response") == "batch" and (rows := whole.rows(response.batch.items)):
                    await send.send(rows)
                    place.arrived(rows)
        place.ended = True

    async def _connected(self) -> Any:
        return await self._connection.channel()


@asynccontextmanager
async def open_remote(*ways: Way, left: Left | None = None, note: Note = silent) -> AsyncGenerator[RemoteGateway, None]:
    """Reach another process for the length of the block, by the first of some ways that answers.

    Raises NoDaemon at first use. `note` is told which way it is. `left` says what is known without that process of a run that has ended, when it cannot be asked any more.
    """
    async with nursery_of_our_own() as nursery:
        yield RemoteGateway(Connection(ways, note, nursery), left)


@asynccontextmanager
async def nursery_of_our_own() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery that ends with the block. What the block raises leaves it as it is, not in a group."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@attrs.define
class _Place:
    """How far a follower has come, and since when it has heard nothing from anybody. Times are Trio's."""

    seq: int
    ended: bool = False
    lost_at: float | None = None
    _waits: int = 0

    def arrived(self, rows: tuple[TapeRow, ...]) -> None:
        self.seq, self._waits = rows[-1].seq, 0
        self.ended = rows[-1].kind == RunFinished.kind

    def wait_s(self, now: float) -> float | None:
        """Return how long to wait before the next try, longer each time; None when patience has run out."""
        if self.lost_at is None:
            self.lost_at = now
        wait_s = min(BACK_OFF_S * (1 << self._waits), BACK_OFF_MAX_S)
        self._waits += 1
        return wait_s if now + wait_s < self.lost_at + PATIENCE_S else None


class Whole:
    """Puts bodies that came in parts together again."""

    def __init__(self) -> None:
        self._begun = b""

    @property
    def begun_bytes(self) -> int:
        return len(self._begun)

    def rows(self, items: Any) -> tuple[TapeRow, ...]:
        found = []
        for item in items:
            self._begun += item.body
            if not item.more:
                body = self._begun if item.HasField("body") else None
                found.append(
                    TapeRow(item.g, run_stream(item.run_id), item.seq, item.kind_number, item.at_ms, body, item.hash)
                )
                self._begun = b""
        return tuple(found)


def _check_size(command: StartRun) -> None:
    """Raise TooLarge for what one message cannot carry, before any of it is sent."""
    parts = [("the prompt", len(command.text.encode("utf-8", "surrogatepass")))]
    parts += [(f"the attachment {each.name}", len(each.data)) for each in command.attachments]
    total, most = sum(size for _, size in parts), Limits().message_bytes
    if total > most:
        name, size = max(parts, key=lambda part: part[1])
        raise TooLarge(
            f"{name} has {size} bytes, and a prompt with its attachments that another process runs at most {most}",
            remedy="put it into a file in the workspace, and name that in the prompt; attachments up to"
            " attachments.max_bytes are taken where no daemon runs",
        )


async def _issued(stub: TokenServiceStub, command: CreateToken | RotateToken) -> TokenIssued:
    if isinstance(command, CreateToken):
        response: Any = await stub.CreateToken(
            tokens_pb2.CreateTokenRequest(
                name=command.name,
                principal=command.principal,
                scopes=convert.scope_numbers(command.scopes),
                expires_ms=command.expires_ms,
            )
        )
    else:
        response = await stub.RotateToken(tokens_pb2.RotateTokenRequest(token_id=command.token_id))
    return TokenIssued(convert.token_of_message(response.token), response.secret)


@contextmanager
def _refusals() -> Generator[None, None, None]:
    """Raise what another process answered as the error that it means."""
    try:
        yield
    except ConnectionLost as error:
        raise NoDaemon(
            f"the daemon went away: {error.message}", remedy="`palyra-trio status` tells whether it is back"
        ) from error
    except GRPCError as error:
        raise _meaning(error) from error


def _meaning(error: GRPCError) -> PalyraError:
    message = error.message or error.status.name.lower()
    for detail in error.details or ():
        if isinstance(detail, ErrorInfo):
            return of_code(detail.reason, message, detail.metadata.get("remedy", ""))
    match error.status:
        case Status.UNAVAILABLE:
            return NoDaemon(message)
        case Status.UNAUTHENTICATED:
            return Unauthenticated(message)
        case Status.PERMISSION_DENIED:
            return PolicyError(message)
        case _:
            return of_code("peer", f"{error.status.name.lower()}: {message}", "")
