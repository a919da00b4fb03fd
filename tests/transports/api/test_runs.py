"""Runs over the API: started once, whoever repeats it; seen by their principal only; stopped."""

from pathlib import Path
from typing import Any

import pytest
import trio

from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import FinalAnswer, ModelDelta, RunFinished, ToolStarted
from tests.fakes import FakeProvider, allowing, fake_tool, says
from tests.transports.api.asking import read, say
from tests.transports.served import Served, open_served
from tests.transports.test_run_events import BY_ALICE

HANGS = ("thinking", trio.sleep_forever)


def new(served: Served, text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"text": text, "workspace": str(served.runtime.workspace), **fields}


async def test_a_run_is_started_and_answers(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        started = await say(served, "/runs", new(served))
        assert (started.status, started.said["attached"]) == (201, False)
        run_id = started.said["run_id"]
        assert started.headers["location"] == f"/api/v1/runs/{run_id}"
        tape = await served.runtime.ended(run_id, BY_ALICE)
        assert tape.one(FinalAnswer).text == "all done"
        assert tape.rows[0].event().channel == "http"
        found = await read(served, f"/runs/{run_id}")
        assert (found.said["run_id"], found.said["state"]) == (run_id, "done")


async def test_the_same_key_starts_one_run_and_another_request_with_it_is_refused(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        once = {"idempotency-key": "order-7"}
        first = await say(served, "/runs", new(served), headers=once)
        again = await say(served, "/runs", new(served), headers=once)
        assert (again.status, again.said["run_id"], again.said["attached"]) == (200, first.said["run_id"], True)
        other = await say(served, "/runs", new(served, "bye"), headers=once)
        assert (other.status, other.code) == (409, "run_conflict")
        bobs = await say(served, "/runs", new(served), who="bob", headers=once)
        assert (bobs.status, bobs.said["run_id"] != first.said["run_id"]) == (201, True)
        await served.runtime.ended(first.said["run_id"], BY_ALICE)
        assert len((await read(served, "/runs")).said["runs"]) == 1
        await say(served, "/runs/last/cancel", who="bob")


async def test_a_key_is_known_after_a_restart(tmp_path: Path) -> None:
    once = {"idempotency-key": "order-7"}
    async with open_served(tmp_path) as served:
        first = await say(served, "/runs", new(served), headers=once)
        await served.runtime.ended(first.said["run_id"], BY_ALICE)
    async with open_served(tmp_path, boot_id="boot-2") as served:
        again = await say(served, "/runs", new(served), headers=once)
        assert (again.status, again.said["run_id"]) == (200, first.said["run_id"])


async def test_runs_that_are_sent_at_once_with_one_key_are_one_run(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        found: list[tuple[int, str]] = []

        async def start() -> None:
            answer = await say(served, "/runs", new(served), headers={"idempotency-key": "k"})
            found.append((answer.status, answer.said["run_id"]))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(start)
        assert {run_id for _, run_id in found} == {found[0][1]}
        assert sorted(status for status, _ in found) == [200] * 7 + [201]
        await served.runtime.ended(found[0][1], BY_ALICE)


async def test_to_allow_tools_with_a_run_takes_the_scope_approve(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        token = await served.token("user:alice", Scope.RUN)
        only_runs = {"authorization": f"Bearer {token.secret}"}
        refused = await say(served, "/runs", new(served, allowed_tools=["clock.now"]), who=None, headers=only_runs)
        assert (refused.status, refused.code) == (403, "denied")


async def test_files_come_with_a_prompt(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        file = {"name": "a.txt", "media_type": "text/plain", "data": "aGVsbG8="}
        run_id = (await say(served, "/runs", new(served, attachments=[file]))).said["run_id"]
        tape = await served.runtime.ended(run_id, BY_ALICE)
        (attached,) = tape.rows[0].event().attachments
        assert (attached.name, attached.size_bytes) == ("a.txt", 5)
        wrong = await say(served, "/runs", new(served, attachments=[{**file, "path": "/"}]))
        assert "`path` - at `$.attachments[0]`" in wrong.said["detail"]


async def test_lists_are_paged_and_filtered(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        ids = [(await say(served, "/runs", new(served, session_key="k"))).said for _ in range(3)]
        for each in ids:
            await served.runtime.ended(each["run_id"], BY_ALICE)
        first = (await read(served, "/runs?page_size=2")).said
        assert [each["run_id"] for each in first["runs"]] == [ids[2]["run_id"], ids[1]["run_id"]]
        rest = (await read(served, f"/runs?page_size=2&page_token={first['next_page_token']}")).said
        assert ([each["run_id"] for each in rest["runs"]], rest["next_page_token"]) == ([ids[0]["run_id"]], "")
        assert len((await read(served, f"/runs?session={ids[0]['session_id']}")).said["runs"]) == 3
        assert len((await read(served, "/runs?state=done&state=failed")).said["runs"]) == 3
        assert (await read(served, "/runs?state=running")).said["runs"] == []
        assert (await read(served, "/runs?state=interrupted")).said["runs"] == []
        assert (await read(served, "/runs?state=sleeping")).code == "invalid_argument"


@pytest.mark.parametrize("path", ["", "/why", "/tape", "/events", "/calls"])
async def test_what_is_anothers_is_not_found(tmp_path: Path, path: str) -> None:
    async with open_served(tmp_path) as served:
        tape = await served.runtime.run(context=BY_ALICE)
        run_id = tape.rows[0].stream.partition(":")[2]
        assert (await read(served, f"/runs/{run_id}{path}", who="alice")).status == 200
        assert (await read(served, f"/runs/{run_id}{path}", who="bob")).code == "not_found"


async def test_a_run_is_cancelled_and_cancelling_it_again_says_the_same(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(HANGS)) as served:
        run_id = (await say(served, "/runs", new(served))).said["run_id"]
        await served.runtime.until(run_id, ModelDelta, context=BY_ALICE)
        assert (await say(served, f"/runs/{run_id}/cancel", {}, who="bob")).code == "not_found"
        done = await say(served, f"/runs/{run_id}/cancel", {"reason": "enough"})
        assert (done.status, done.said["run_id"]) == (200, run_id)
        tape = await served.runtime.ended(run_id, BY_ALICE)
        assert tape.one(RunFinished).state is RunState.CANCELLED
        again = await say(served, f"/runs/{run_id}/cancel")
        assert (again.status, again.said["state"]) == (200, "cancelled")


async def test_a_run_that_is_done_cannot_be_cancelled(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE)
        assert (await say(served, "/runs/last/cancel")).code == "state_conflict"


async def test_all_are_stopped_and_only_ones_own(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(HANGS)) as served:
        mine = [(await say(served, "/runs", new(served))).said["run_id"] for _ in range(2)]
        bobs = (await say(served, "/runs", new(served), who="bob")).said["run_id"]
        done = await say(served, "/runs/stop-all", {"reason": "enough"})
        assert done.said == {"stopped": sorted(mine), "failed": []}
        assert (await read(served, f"/runs/{bobs}", who="bob")).said["state"] in ("queued", "running")
        assert (await say(served, "/runs/stop-all")).said == {"stopped": [], "failed": []}
        await say(served, "/runs/stop-all", who="bob")


async def test_what_a_run_did_is_undone_once_and_again_says_the_same(tmp_path: Path) -> None:
    write = ToolCall("c1", "files.write", {"path": "a.txt", "text": "hello\n"})
    async with open_served(
        tmp_path, FakeProvider(says("", write), says("done")), config=allowing("files.write")
    ) as served:
        file = served.runtime.workspace / "a.txt"
        run_id = (await say(served, "/runs", new(served))).said["run_id"]
        await served.runtime.ended(run_id, BY_ALICE)
        assert file.read_text() == "hello\n"
        assert (await say(served, f"/runs/{run_id}/undo", who="bob")).code == "not_found"
        file.write_text("somebody else's\n")
        assert (await say(served, f"/runs/{run_id}/undo")).code == "state_conflict"
        file.write_text("hello\n")
        done = await say(served, f"/runs/{run_id}/undo")
        assert (done.said["run_id"], done.said["by"]) == (run_id, "user:alice")
        assert [(each["path"], each["after"]) for each in done.said["changes"]] == [("a.txt", None)]
        assert not file.exists()
        file.write_text("hello\n")  # what somebody makes since is theirs
        assert (await say(served, f"/runs/{run_id}/undo")).said == done.said
        assert file.exists()


async def test_a_run_that_goes_on_is_not_undone(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(HANGS)) as served:
        run_id = (await say(served, "/runs", new(served))).said["run_id"]
        assert (await say(served, f"/runs/{run_id}/undo")).code == "state_conflict"
        await say(served, f"/runs/{run_id}/cancel")
        await served.runtime.ended(run_id, BY_ALICE)


async def test_why_says_what_a_run_waits_for_and_how_it_ended(tmp_path: Path) -> None:
    go_on = trio.Event()

    async def waits(_arguments: object) -> str:
        await go_on.wait()
        return "done"

    provider = FakeProvider(says("", ToolCall("c1", "fake.wait", {"value": "x"})), says("done"))
    tool = fake_tool("fake.wait", waits)
    async with open_served(tmp_path, provider, tools=[tool], config=allowing("fake.wait")) as served:
        run_id = (await say(served, "/runs", new(served))).said["run_id"]
        await served.runtime.until(run_id, ToolStarted, context=BY_ALICE)
        standing = (await read(served, f"/runs/{run_id}/why")).said
        assert [each["what"] for each in standing["waits"]] == ["the tool fake.wait"]
        go_on.set()
        await served.runtime.ended(run_id, BY_ALICE)
        standing = (await read(served, f"/runs/{run_id}/why")).said
        assert (standing["state"], standing["ending"], standing["waits"]) == ("done", "final_answer", [])
