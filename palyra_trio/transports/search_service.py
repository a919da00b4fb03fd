"""The SearchService: what was said in the sessions of who asks."""

from palyra_trio.core.identity import Caller
from palyra_trio.pb import search_pb2 as pb
from palyra_trio.pb.search_grpc import SearchServiceBase
from palyra_trio.transports.convert_search import hit_message
from palyra_trio.transports.door import Service, unary
from palyra_trio.transports.paging import page_size


class SearchService(Service, SearchServiceBase):
    """Words in the journal of this process."""

    @unary
    async def SearchSession(self, request: pb.SearchSessionRequest, caller: Caller) -> pb.SearchSessionResponse:
        principal, size = caller.context.principal, page_size(request.page_size)
        found = await self.gateway.search(
            lambda reader: reader.search(request.session, principal, request.text, request.page_token, size)
        )
        return pb.SearchSessionResponse(hits=map(hit_message, found.hits), next_page_token=found.before)
