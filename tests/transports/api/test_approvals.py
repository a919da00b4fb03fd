"""Approvals and grants over the API: the first answer stands, and may be sent again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, ToolFinished
from tests.fakes import FakeProvider, echo, fake_tool, says
from tests.transports.api.asking import read, say
from tests.transports.served import Served, open_served
from tests.transports.test_run_events import BY_ALICE

CHANGE = fake_tool("fake.change", echo, read_only=False)


def changes(*values: str) -> FakeProvider:
    calls = (ToolCall(f"c{number}", "fake.change", {"value": value}) for number, value in enumerate(values))
    return FakeProvider(*(says("", call) for call in calls), says("done"))


@asynccontextmanager
async def asking(folder: Path, *values: str, **fields: Any) -> AsyncGenerator[tuple[Served, str, str], None]:
    """Serve a run of alice's that waits for an approval; with the run's and the approval's ids."""
    async with open_served(folder, changes(*(values or ("x",))), tools=[CHANGE], **fields) as served:
        run_id = (await served.runtime.start(context=BY_ALICE)).run_id
        asked = await served.runtime.until(run_id, ApprovalRequested, context=BY_ALICE)
        yield served, run_id, asked.approval_id


async def test_what_waits_is_listed_shown_and_answered(tmp_path: Path) -> None:
    async with asking(tmp_path) as (served, run_id, approval_id):
        (listed,) = (await read(served, "/approvals")).said["approvals"]
        shown = (await read(served, f"/approvals/{approval_id}")).said
        assert shown["approval"] == listed
        assert "fake.change" in shown["prompt"]
        decided = await say(served, f"/approvals/{approval_id}/decide", {"granted": True})
        assert (decided.status, decided.said["state"], decided.said["decided_by"]) == (200, "granted", "user:alice")
        tape = await served.runtime.ended(run_id, BY_ALICE)
        assert tape.one(ToolFinished).error == ""
        assert (await read(served, "/approvals")).said["approvals"] == []
        assert len((await read(served, "/approvals?decided=true")).said["approvals"]) == 1


async def test_the_same_answer_again_is_answered_the_same_and_another_one_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path) as (served, run_id, approval_id):
        answer = {"granted": True, "scope": "session", "reason": "go on"}
        first = await say(served, f"/approvals/{approval_id}/decide", answer)
        again = await say(served, f"/approvals/{approval_id}/decide", answer)
        assert (again.status, again.said) == (200, first.said)
        for other in ({"granted": False}, {**answer, "scope": "once"}, {**answer, "reason": "no"}):
            refused = await say(served, f"/approvals/{approval_id}/decide", other)
            assert (refused.status, refused.code) == (409, "already_decided")
        await served.runtime.ended(run_id, BY_ALICE)


async def test_a_denial_is_told_and_may_be_sent_again(tmp_path: Path) -> None:
    async with asking(tmp_path) as (served, run_id, approval_id):
        for _ in range(2):
            denied = await say(served, f"/approvals/{approval_id}/decide", {"granted": False, "reason": "not now"})
            assert denied.said["state"] == "denied"
        tape = await served.runtime.ended(run_id, BY_ALICE)
        assert tape.of(ToolFinished) == []


@pytest.mark.parametrize(
    ("body", "place"),
    [({}, "`granted`"), ({"granted": "yes"}, "$.granted"), ({"granted": True, "scope": "ever"}, "$.scope"),
     ({"granted": True, "scop": "once"}, "`scop`"), ({"granted": True, "until_ms": -1}, "$.until_ms")],
)  # fmt: skip
async def test_an_answer_that_is_none_is_refused_with_its_place(tmp_path: Path, body: object, place: str) -> None:
    async with asking(tmp_path, left=[RunState.WAITING]) as (served, _, approval_id):
        refused = await say(served, f"/approvals/{approval_id}/decide", body)
        assert refused.code == "invalid_argument"
        assert place in refused.said["detail"]


async def test_only_who_may_approve_and_whose_run_it_is_answers(tmp_path: Path) -> None:
    async with asking(tmp_path, left=[RunState.WAITING]) as (served, _, approval_id):
        path, body = f"/approvals/{approval_id}", {"granted": True}
        assert (await read(served, path, who="bob")).code == "not_found"
        assert (await say(served, f"{path}/decide", body, who="bob")).code == "not_found"
        token = await served.token("user:alice", Scope.READ, Scope.RUN)
        headers = {"authorization": f"Bearer {token.secret}"}
        assert (await say(served, f"{path}/decide", body, who=None, headers=headers)).code == "denied"


async def test_a_grant_is_listed_and_revoked_once_or_twice(tmp_path: Path) -> None:
    async with asking(tmp_path) as (served, run_id, approval_id):
        await say(served, f"/approvals/{approval_id}/decide", {"granted": True, "scope": "session"})
        await served.runtime.ended(run_id, BY_ALICE)
        (grant,) = (await read(served, "/grants")).said["grants"]
        assert (grant["grant_id"], grant["scope"], grant["ended_ms"]) == (approval_id, "session", 0)
        assert (await say(served, f"/grants/{approval_id}/revoke", who="bob")).code == "not_found"
        first = await say(served, f"/grants/{approval_id}/revoke", {})
        again = await say(served, f"/grants/{approval_id}/revoke")
        assert first.said["ended_ms"] > 0
        assert (again.status, again.said) == (200, first.said)
        assert (await read(served, "/grants")).said["grants"] == []
        assert len((await read(served, "/grants?ended=true")).said["grants"]) == 1
