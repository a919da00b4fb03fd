"""Searching a session over gRPC: one's own, page by page."""

from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import RequestContext
from palyra_trio.core.session import SessionRef
from palyra_trio.pb import search_pb2 as pb
from tests.fakes import FakeProvider, says
from tests.transports.served import ALICE, code_of, open_served

HER = RequestContext(ALICE)


async def test_what_was_said_is_found_page_by_page_by_who_may(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("A green fence."))) as served:
        await served.runtime.run("Paint the fence", context=HER, session=SessionRef(key="a"))
        request = pb.SearchSessionRequest(session="a", text="FENCE", page_size=1)
        first = await served.call("SearchService/SearchSession", request, "alice")
        request.page_token = first.next_page_token
        second = await served.call("SearchService/SearchSession", request, "alice")
        assert [hit.part for page in (first, second) for hit in page.hits] == [
            pb.SEARCH_PART_ANSWER,
            pb.SEARCH_PART_PROMPT,
        ]
        assert [(piece.text, piece.found) for piece in second.hits[0].excerpt] == [
            ("Paint the ", False),
            ("fence", True),
        ]
        assert second.next_page_token == ""
        for asked, who, code in (
            (request, "bob", "not_found"),
            (pb.SearchSessionRequest(session="a"), "alice", "invalid_argument"),
            (pb.SearchSessionRequest(session="a", text="x", page_size=501), "alice", "invalid_argument"),
        ):
            with pytest.raises(GRPCError) as error:
                await served.call("SearchService/SearchSession", asked, who)
            assert code_of(error.value) == code
