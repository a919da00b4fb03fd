"""Policy over the API: why a call was judged as it was, and how another one would be."""

from pathlib import Path

from palyra_trio.core.run import RunState
from tests.transports.api.asking import read, say
from tests.transports.api.test_approvals import asking
from tests.transports.served import open_served
from tests.transports.test_run_events import BY_ALICE


async def test_a_runs_calls_are_told_with_the_policies_that_decided_and_the_persons_answer(tmp_path: Path) -> None:
    async with asking(tmp_path) as (served, run_id, approval_id):
        await say(served, f"/approvals/{approval_id}/decide", {"granted": True, "reason": "go on"})
        await served.runtime.ended(run_id, BY_ALICE)
        (call,) = (await read(served, f"/runs/{run_id}/calls")).said["calls"]
        assert (call["tool"], call["arguments"]["value"]) == ("fake.change", "x")
        assert call["decisions"][0]["outcome"] == "ask"
        (place,) = call["decisions"][0]["policies"]
        assert (place["id"], place["file"]) == ("write-in-workspace", "preset default")
        assert place["text"].startswith("@id(")
        (answer,) = call["answers"]
        assert (answer["outcome"], answer["by"], answer["reason"]) == ("granted", "user:alice", "go on")
        assert (call["started"], call["grant_id"], call["error"]) == (True, approval_id, "")
        assert (await read(served, f"/runs/{run_id}/calls?call_id=c0")).said["calls"] == [call]
        assert (await read(served, f"/runs/{run_id}/calls?call_id=none")).code == "not_found"


async def test_a_call_that_nobody_made_is_judged(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        inside = (await say(served, "/policy/explain", {"tool": "files.write", "path": "notes.txt"})).said
        assert (inside["outcome"], inside["standing"]) == ("ask", True)
        assert [(each["approval"], each["allowed"]) for each in inside["passes"]] == [
            ("none", False), ("once", True), ("standing", True)
        ]  # fmt: skip
        outside = (await say(served, "/policy/explain", {"tool": "files.read", "path": "../x"})).said
        assert (outside["outcome"], outside["reason"]) == ("deny", "the path is outside the workspace")
        for wrong in ({}, {"tool": "files.read", "pat": "x"}, {"tool": "files.read"}, {"tool": "none"}):
            assert (await say(served, "/policy/explain", wrong)).code == "invalid_argument"


async def test_a_call_that_still_waits_has_no_answer(tmp_path: Path) -> None:
    async with asking(tmp_path, left=[RunState.WAITING]) as (served, run_id, _):
        (call,) = (await read(served, f"/runs/{run_id}/calls")).said["calls"]
        assert (call["answers"], call["started"]) == ([], False)
