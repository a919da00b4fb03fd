from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import RequestContext, Scope
from palyra_trio.pb import journal_pb2 as pb
from tests.fakes import FakeProvider, says
from tests.transports.served import ALICE, Served, code_of, open_served

HER = RequestContext(ALICE)
LEAKED = "hunter2-hunter2-hunter2"


async def leaky_run(served: Served) -> str:
    accepted = await served.runtime.start(f"use {LEAKED}", context=HER)
    await served.runtime.ended(accepted.run_id, HER)
    return accepted.run_id


async def erase(served: Served, run_id: str, who: str = "alice", **rest: Any) -> Any:
    request = pb.EraseValueRequest(tape=run_id, seq=1, field="text", part=LEAKED, reason="it leaked")
    return await served.call("JournalService/EraseValue", request, who, **rest)


async def refused(served: Served, run_id: str, who: str = "alice", **rest: Any) -> str:
    with pytest.raises(GRPCError) as error:
        await erase(served, run_id, who, **rest)
    return code_of(error.value)


async def test_a_value_is_erased_and_what_went_is_told(tmp_path: Path) -> None:
    model = FakeProvider(says(f"so be it: {LEAKED}"))
    async with open_served(tmp_path, model, checked=False) as served:
        run_id = await leaky_run(served)
        response = await erase(served, run_id)
        assert response.rows >= 3
        assert (list(response.left_in), response.again) == ([], False)
        assert (await erase(served, run_id)).again


async def test_only_who_may_administer_may_and_only_from_a_tape_of_their_own(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        run_id = await leaky_run(served)
        all_but_admin = await served.token(ALICE, *(each for each in Scope if each is not Scope.ADMIN))
        served.tokens["hers"] = all_but_admin.secret
        assert await refused(served, run_id, "hers") == "denied"
        assert await refused(served, run_id, "bob") == "not_found"
        assert await refused(served, run_id, metadata={}) == "unauthenticated"
