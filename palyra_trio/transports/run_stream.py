"""RunStream: three tasks on one call. One carries out what the client asks for, one answers that, one sends the tapes.

What a client asks for in mid-stream is carried out at once, however slowly it reads: only the other two wait for it. A
run is followed after its acceptance was sent.
"""

from typing import TYPE_CHECKING, cast

import attrs
import trio

from palyra_trio.core.commands import Accepted, CancelRun, StartRun
from palyra_trio.core.errors import Busy, InvalidArgument, PalyraError
from palyra_trio.core.identity import Caller, RunId, Scope, SessionId
from palyra_trio.core.session import SessionRef
from palyra_trio.core.tape import RunFinished, TapeEvent
from palyra_trio.pb import runs_pb2
from palyra_trio.runtime.follow import Follower
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.convert import start_run, state_number
from palyra_trio.transports.convert_approvals import decision
from palyra_trio.transports.door import Access, require_for_start
from palyra_trio.transports.refusals import OF_CODE
from palyra_trio.transports.tape_encoding import encoded_batches

if TYPE_CHECKING:
    from grpclib.server import Stream

    from palyra_trio.wire.call import Call

LINE = 64  # runs that one stream may be told to follow: as many as a session's mailbox takes
ANSWERS = 2 * LINE  # that a client may leave unread before its stream is ended


class RunStream:
    """One call, from its first request to its end."""

    def __init__(
        self,
        gateway: Gateway,
        access: Access,
        caller: Caller,
        stream: "Stream[runs_pb2.RunStreamRequest, runs_pb2.RunStreamResponse]",
    ) -> None:
        self._gateway = gateway
        self._access = access
        self._caller = caller
        self._context = caller.context
        self._stream = stream
        self._call = cast("Call", stream)
        self._answers, self._to_send = trio.open_memory_channel[runs_pb2.RunStreamResponse](ANSWERS)
        self._line, self._to_follow = trio.open_memory_channel[RunId](LINE)
        self._ahead = 0  # runs that were accepted, and are not followed yet
        self._session_id = SessionId("")
        self._run_id = RunId("")

    async def serve(self) -> None:
        """Follow what the client asks for until it has closed its side and the last run has ended.

        Raises the refusal of the first request; Unauthenticated before the next rows once the caller's token has
        ended; Interrupted after the last row of a run that nobody goes on with; and Busy when too many answers are not
        read. If cancelled, the runs go on.
        """
        first = await self._stream.recv_message()
        follower = await self._first(first or runs_pb2.RunStreamRequest())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear)
            nursery.start_soon(self._answer)
            await self._follow(follower)
            async for run_id in self._to_follow:
                self._ahead -= 1
                await self._follow(await self._gateway.follow(run_id, 0, self._context))

    # --- what the client asks for ---

    async def _first(self, request: runs_pb2.RunStreamRequest) -> Follower:
        which = request.WhichOneof("request")
        if which == "start":
            accepted = await self._start(start_run(request.start))
            follower = await self._gateway.follow_started(accepted, self._context)
        elif which == "attach":
            follower = await self._gateway.follow(RunId(request.attach.run_id), request.attach.after_seq, self._context)
            accepted = Accepted(follower.run_id, follower.session_id, attached=True)
        else:
            raise InvalidArgument("the first request is neither start nor attach", remedy="send one of these first")
        self._session_id, self._run_id = accepted.session_id, accepted.run_id
        await self._stream.send_message(_accepted(accepted, 1))
        return follower

    async def _hear(self) -> None:
        """Carry out the later requests, one after another."""
        number = 1
        async with self._answers:
            async for request in self._stream:
                number += 1
                try:
                    await self._later(request, number)
                except PalyraError as error:
                    self._put(_refused(error, number))

    async def _later(self, request: runs_pb2.RunStreamRequest, number: int) -> None:
        which = request.WhichOneof("request")
        if which == "message":
            await self._message(start_run(request.message.start), number)
        elif which == "cancel":
            self._access.require(self._caller, Scope.RUN)
            run_id = RunId(request.cancel.run_id) or self._run_id
            await self._gateway.submit(CancelRun(run_id, request.cancel.reason), self._context)
        elif which == "decision":
            self._access.require(self._caller, Scope.APPROVE)
            await self._gateway.submit(decision(request.decision), self._context)
        else:
            raise InvalidArgument("a later request is a message, a cancel or a decision")

    async def _message(self, command: StartRun, number: int) -> None:
        if command.session != SessionRef():
            raise InvalidArgument("a message in mid-stream names no session", remedy="start another stream")
        if self._ahead == LINE:
            raise Busy(f"this stream has {LINE} runs to follow", remedy="wait for some to end")
        accepted = await self._start(attrs.evolve(command, session=SessionRef(session_id=self._session_id)))
        self._ahead += 1
        self._put(_accepted(accepted, number))

    async def _start(self, command: StartRun) -> Accepted:
        require_for_start(self._access, self._caller, command)
        accepted = await self._gateway.submit(command, self._context)
        assert isinstance(accepted, Accepted)
        return accepted

    # --- what the client is sent ---

    def _put(self, answer: runs_pb2.RunStreamResponse) -> None:
        try:
            self._answers.send_nowait(answer)
        except trio.WouldBlock:
            raise Busy(f"{ANSWERS} answers wait to be read", remedy="read what is sent, on another stream") from None

    async def _answer(self) -> None:
        async with self._line:
            async for answer in self._to_send:
                await self._stream.send_message(answer)
                if answer.HasField("accepted"):
                    self._line.send_nowait(RunId(answer.accepted.run_id))

    async def _follow(self, follower: Follower) -> None:
        self._run_id = follower.run_id
        event: TapeEvent | None = None
        while rows := await follower.next_rows():
            self._access.require(self._caller, Scope.RUN)
            for batch in encoded_batches(follower.run_id, rows):
                await self._call.send_encoded([batch])
            event = rows[-1].event()
        if isinstance(event, RunFinished):
            state, reason, last_seq = event.state, event.reason, follower.seq
        else:  # the client had all rows already, or the last one was erased
            run, row = await self._gateway.last_row(follower.run_id, self._context)
            event, state, reason, last_seq = row.event(), run.state, run.reason, row.seq
        ended = runs_pb2.Ended(
            run_id=follower.run_id,
            state=state_number(state),
            reason=reason,
            detail=event.detail if isinstance(event, RunFinished) else "",
            last_seq=last_seq,
        )
        await self._stream.send_message(runs_pb2.RunStreamResponse(ended=ended))


def _accepted(accepted: Accepted, number: int) -> runs_pb2.RunStreamResponse:
    message = runs_pb2.Accepted(
        run_id=accepted.run_id,
        session_id=accepted.session_id,
        attached=accepted.attached,
        request_number=number,
    )
    return runs_pb2.RunStreamResponse(accepted=message)


def _refused(error: PalyraError, number: int) -> runs_pb2.RunStreamResponse:
    message = runs_pb2.Refused(
        request_number=number,
        code=error.code,
        message=error.message,
        remedy=error.remedy,
        retry_after_ms=OF_CODE[error.code].retry_after_s * 1000,
    )
    return runs_pb2.RunStreamResponse(refused=message)
