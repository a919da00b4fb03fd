"""RunStream: two tasks on one call. One reads what the client wants, the other sends the tapes that it follows.

The tasks share the call's sending side and the line of runs to follow, nothing else. What a client asks for in
mid-stream is carried out at once, however slowly it reads.
"""

from typing import TYPE_CHECKING

import attrs
import trio

from palyra_trio.core.commands import Accepted, CancelRun, DecideApproval, StartRun
from palyra_trio.core.errors import Busy, InvalidArgument, PalyraError
from palyra_trio.core.identity import Caller, RunId, Scope, SessionId
from palyra_trio.core.session import SessionRef
from palyra_trio.core.tape import RunFinished, TapeEvent
from palyra_trio.pb import runs_pb2
from palyra_trio.runtime.follow import Follower
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.convert import start_run, state_number, tape_batches
from palyra_trio.transports.door import Access, require_for_start
from palyra_trio.transports.refusals import OF_CODE

if TYPE_CHECKING:
    from grpclib.server import Stream

LINE = 64  # runs that one stream may be told to follow: as many as a session's mailbox takes


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
        self._sending = trio.Lock()
        self._line, self._to_follow = trio.open_memory_channel[RunId](LINE)
        self._session_id = SessionId("")
        self._run_id = RunId("")

    async def serve(self) -> None:
        """Follow what the client asks for until it has closed its side and the last run has ended.

        Raises the refusal of the first request, and Unauthenticated before the next rows once the caller's token has
        ended. If cancelled, the runs go on.
        """
        first = await self._stream.recv_message()
        follower = await self._first(first or runs_pb2.RunStreamRequest())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear)
            await self._follow(follower)
            async for run_id in self._to_follow:
                await self._follow(await self._gateway.follow(run_id, 0, self._context))

    # --- what the client asks for ---

    async def _first(self, request: runs_pb2.RunStreamRequest) -> Follower:
        which = request.WhichOneof("request")
        if which == "start":
            accepted = await self._start(start_run(request.start))
            follower = await self._gateway.follow(accepted.run_id, 0, self._context)
        elif which == "attach":
            follower = await self._gateway.follow(RunId(request.attach.run_id), request.attach.after_seq, self._context)
            accepted = Accepted(follower.run_id, follower.session_id, attached=True)
        else:
            raise InvalidArgument("the first request is neither start nor attach", remedy="send one of these first")
        self._session_id, self._run_id = accepted.session_id, accepted.run_id
        await self._accept(accepted, 1)
        return follower

    async def _hear(self) -> None:
        """Carry out the later requests, one after another."""
        number = 1
        async with self._line:
            async for request in self._stream:
                number += 1
                try:
                    await self._later(request, number)
                except PalyraError as error:
                    await self._send(runs_pb2.RunStreamResponse(refused=_refused(error, number)))

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
            decision = request.decision
            command = DecideApproval(decision.approval_id, decision.granted, decision.reason)
            await self._gateway.submit(command, self._context)
        else:
            raise InvalidArgument("a later request is a message, a cancel or a decision")

    async def _message(self, command: StartRun, number: int) -> None:
        if command.session != SessionRef():
            raise InvalidArgument("a message in mid-stream names no session", remedy="start another stream")
        if self._line.statistics().current_buffer_used == LINE:
            raise Busy(f"this stream has {LINE} runs to follow", remedy="wait for some to end")
        accepted = await self._start(attrs.evolve(command, session=SessionRef(session_id=self._session_id)))
        self._line.send_nowait(accepted.run_id)
        await self._accept(accepted, number)

    async def _start(self, command: StartRun) -> Accepted:
        require_for_start(self._access, self._caller, command)
        accepted = await self._gateway.submit(command, self._context)
        assert isinstance(accepted, Accepted)
        return accepted

    # --- what the client is sent ---

    async def _follow(self, follower: Follower) -> None:
        self._run_id = follower.run_id
        event: TapeEvent | None = None
        while rows := await follower.next_rows():
            self._access.require(self._caller, Scope.RUN)
            for batch in tape_batches(follower.run_id, rows):
                await self._send(batch)
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
        await self._send(runs_pb2.RunStreamResponse(ended=ended))

    async def _accept(self, accepted: Accepted, number: int) -> None:
        message = runs_pb2.Accepted(
            run_id=accepted.run_id,
            session_id=accepted.session_id,
            attached=accepted.attached,
            request_number=number,
        )
        await self._send(runs_pb2.RunStreamResponse(accepted=message))

    async def _send(self, response: runs_pb2.RunStreamResponse) -> None:
        async with self._sending:
            await self._stream.send_message(response)


def _refused(error: PalyraError, number: int) -> runs_pb2.Refused:
    return runs_pb2.Refused(
        request_number=number,
        code=error.code,
        message=error.message,
        remedy=error.remedy,
        retry_after_ms=OF_CODE[error.code].retry_after_s * 1000,
    )
