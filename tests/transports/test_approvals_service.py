from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import RequestContext
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, ToolFinished
from palyra_trio.journal.queries import LIST_ROWS
from palyra_trio.pb import approvals_pb2 as pb
from palyra_trio.pb import runs_pb2 as runs
from tests.fakes import FakeProvider, says
from tests.transports.served import ALICE, Served, code_of, open_served

HER = RequestContext(ALICE)
WAITING = {RunState.WAITING}


def write(name: str, text: str = "x") -> ToolCall:
    return ToolCall(name, "files.write", {"path": f"src/{name}", "text": text})


ASK = ToolCall("q", "ask_user", {"question": "which?", "choices": ["red", "blue"]})


async def start(served: Served, **fields: Any) -> str:
    """Start a run of alice's, and leave its stream."""
    message = runs.StartRun(text="go", workspace=str(served.runtime.workspace), attended=True, **fields)
    async with served.talk("GatewayService/RunStream") as talk:
        await talk.say(runs.RunStreamRequest(start=message))
        return str((await talk.hear()).accepted.run_id)


async def asked(served: Served, run_id: str, count: int = 1) -> ApprovalRequested:
    return await served.runtime.until(run_id, ApprovalRequested, count, HER)  # type: ignore[arg-type]


async def listed(served: Served, who: str = "alice", **fields: Any) -> Any:
    return await served.call("ApprovalsService/ListApprovals", pb.ListApprovalsRequest(**fields), who)


async def granted(served: Served, who: str = "alice", **fields: Any) -> Any:
    return await served.call("ApprovalsService/ListGrants", pb.ListGrantsRequest(**fields), who)


async def decide(served: Served, approval_id: str, who: str = "alice", **fields: Any) -> None:
    decision = runs.Decision(approval_id=approval_id, **fields)
    request = pb.ApprovalsServiceDecideApprovalRequest(decision=decision)
    await served.call("ApprovalsService/DecideApproval", request, who)


async def refusal(served: Served, method: str, request: Any, who: str = "alice") -> tuple[str, str]:
    with pytest.raises(GRPCError) as error:
        await served.call(f"ApprovalsService/{method}", request, who)
    return code_of(error.value), error.value.message or ""


async def test_what_waits_is_listed_page_by_page_and_what_was_decided_on_demand(tmp_path: Path) -> None:
    provider = FakeProvider(says("", write("a"), write("b"), write("c")), says("done"))
    async with open_served(tmp_path, provider, left=WAITING) as served:
        await asked(served, await start(served), 3)
        whole = await listed(served)
        ids = [each.approval_id for each in whole.approvals]
        assert ids == sorted(ids, reverse=True)
        assert len(ids) == 3
        assert whole.next_page_token == ""
        first = await listed(served, page_size=2)
        rest = await listed(served, page_size=2, page_token=first.next_page_token)
        assert [*first.approvals, *rest.approvals] == [*whole.approvals]
        await decide(served, ids[0], granted=False, reason="no")
        assert [each.approval_id for each in (await listed(served)).approvals] == ids[1:]
        newest = (await listed(served, decided=True)).approvals[0]
        assert (newest.state, newest.decided_by, newest.reason) == (pb.APPROVAL_STATE_DENIED, ALICE, "no")
        assert await refusal(served, "ListApprovals", pb.ListApprovalsRequest(page_size=LIST_ROWS + 1)) == (
            "invalid_argument",
            f"a page of {LIST_ROWS + 1} is too large",
        )


async def test_an_approval_is_shown_in_the_words_of_the_tape(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("", write("a"))), left=WAITING) as served:
        run_id = await start(served)
        request = await asked(served, run_id)
        for text in (request.approval_id, request.approval_id[:-1].lower()):
            found = await served.call("ApprovalsService/GetApproval", pb.GetApprovalRequest(approval_id=text))
            assert found.prompt == request.prompt
            approval = found.approval
            assert (approval.approval_id, approval.run_id, approval.call_id) == (request.approval_id, run_id, "a")
            assert (approval.pattern.tool, approval.pattern.resource) == ("files.write", "src/*")
            assert approval.expires_ms == request.expires_at_ms
            assert approval.state == pb.APPROVAL_STATE_PENDING


async def test_the_beginning_of_several_ids_is_not_enough_and_none_is_nothing(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("", write("a"), write("b"))), left=WAITING) as served:
        await asked(served, await start(served), 2)
        assert (await refusal(served, "GetApproval", pb.GetApprovalRequest(approval_id="0")))[0] == "ambiguous"
        assert (await refusal(served, "GetApproval", pb.GetApprovalRequest()))[0] == "not_found"
        assert (await refusal(served, "RevokeGrant", pb.RevokeGrantRequest()))[0] == "not_found"


async def test_the_first_decision_stands_and_the_second_learns_whose_it_was(tmp_path: Path) -> None:
    provider = FakeProvider(says("", write("a")), says("done"))
    async with open_served(tmp_path, provider) as served:
        run_id = await start(served)
        request = await asked(served, run_id)
        await decide(served, request.approval_id, granted=True)
        decision = runs.Decision(approval_id=request.approval_id, granted=False)
        code, message = await refusal(
            served, "DecideApproval", pb.ApprovalsServiceDecideApprovalRequest(decision=decision)
        )
        assert code == "already_decided"
        assert message == f"approval {request.approval_id} was granted by {ALICE} already"
        await served.runtime.ended(run_id, HER)  # type: ignore[arg-type]
    assert (tmp_path / "work/src/a").read_text() == "x"


async def test_a_grant_for_the_session_is_listed_until_it_is_revoked(tmp_path: Path) -> None:
    provider = FakeProvider(says("", write("a")), says("", write("b")), says("", write("c")))
    async with open_served(tmp_path, provider, left=WAITING) as served:
        run_id = await start(served)
        first = await asked(served, run_id)
        await decide(served, first.approval_id, granted=True, scope=runs.GRANT_SCOPE_SESSION)
        for call in ("a", "b"):
            await served.runtime.until(run_id, ToolFinished, "ab".index(call) + 1, HER)  # type: ignore[arg-type]
        (grant,) = (await granted(served)).grants
        assert (grant.grant_id, grant.scope, grant.made_by) == (
            first.approval_id,
            runs.GRANT_SCOPE_SESSION,
            ALICE,
        )
        assert [*(await granted(served, "bob", ended=True)).grants] == []
        request = pb.RevokeGrantRequest(grant_id=grant.grant_id)
        assert (await refusal(served, "RevokeGrant", request, "bob"))[0] == "not_found"
        await served.call("ApprovalsService/RevokeGrant", request)
        assert [*(await granted(served)).grants] == []
        (over,) = (await granted(served, ended=True)).grants
        assert over.ended_ms
        assert (await refusal(served, "RevokeGrant", request))[0] == "state_conflict"


async def test_grants_come_page_by_page(tmp_path: Path) -> None:
    provider = FakeProvider(says("", write("a"), write("b"), write("c")), says("done"))
    async with open_served(tmp_path, provider) as served:
        run_id = await start(served)
        await asked(served, run_id, 3)
        for each in (await listed(served)).approvals:
            await decide(served, each.approval_id, granted=True)
        await served.runtime.ended(run_id, HER)  # type: ignore[arg-type]
        whole = (await granted(served, ended=True)).grants
        assert len(whole) == 3
        first = await granted(served, ended=True, page_size=2)
        rest = await granted(served, ended=True, page_size=2, page_token=first.next_page_token)
        assert [*first.grants, *rest.grants] == [*whole]


async def test_a_question_is_answered_with_words_and_not_with_nothing(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("", ASK), says("done"))) as served:
        run_id = await start(served)
        request = await asked(served, run_id)
        (waits,) = (await listed(served)).approvals
        assert waits.question
        assert not waits.HasField("pattern")
        decision = runs.Decision(approval_id=request.approval_id, granted=True)
        empty = pb.ApprovalsServiceDecideApprovalRequest(decision=decision)
        assert (await refusal(served, "DecideApproval", empty))[0] == "invalid_argument"
        await decide(served, request.approval_id, granted=True, reason="2")
        tape = await served.runtime.ended(run_id, HER)  # type: ignore[arg-type]
        assert tape.one(ToolFinished).text == "blue"


async def test_what_a_detached_run_asks_never_expires(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("", write("a"))), left=WAITING) as served:
        await asked(served, await start(served, detached=True))
        (waits,) = (await listed(served)).approvals
        assert waits.expires_ms == 0
