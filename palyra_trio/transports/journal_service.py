"""The JournalService: what is done to the journal as a whole, for whoever may administer it."""

from palyra_trio.core.identity import Caller
from palyra_trio.pb import journal_pb2 as pb
from palyra_trio.pb.journal_grpc import JournalServiceBase
from palyra_trio.transports.door import Service, unary


class JournalService(Service, JournalServiceBase):
    """The journal of this process."""

    @unary
    async def EraseValue(self, request: pb.EraseValueRequest, caller: Caller) -> pb.EraseValueResponse:
        erased = await self.gateway.erase(
            request.tape, request.seq, request.field, request.part, request.reason, caller.context
        )
        return pb.EraseValueResponse(
            rows=erased.done.rows,
            blobs=erased.done.blobs,
            copies=erased.done.copies,
            left_in=erased.left_in,
            again=erased.again,
        )
