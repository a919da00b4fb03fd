"""What each RPC answers, asked by our own client: as the journal has it, page by page, and refused in words."""

from pathlib import Path
from typing import Any

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio import __version__
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ApprovalRequested, Input, ModelDelta, ProviderRequest, run_stream
from palyra_trio.pb import activity_pb2 as activity
from palyra_trio.pb import agents_pb2 as agents
from palyra_trio.pb import gateway_pb2
from palyra_trio.pb import runs_pb2 as runs
from palyra_trio.pb import sessions_pb2 as sessions
from palyra_trio.pb import tape_pb2 as tape
from palyra_trio.pb import tokens_pb2 as tokens
from palyra_trio.transports import gateway_service
from tests.fakes import FakeProvider, allowing, echo, fake_tool, limited, says
from tests.journal.tickets import read
from tests.transports.served import ALICE, Served, code_of, open_served, pages

WRITES = fake_tool("fake.write", echo, read_only=False)
CONTEXT = RequestContext(ALICE)


async def route(served: Served, text: str = "hello", **fields: Any) -> runs.RouteMessageResponse:
    start = runs.StartRun(text=text, **{"workspace": str(served.runtime.workspace)} | fields)
    response = await served.call("RouteMessage", runs.RouteMessageRequest(start=start))
    assert isinstance(response, runs.RouteMessageResponse)
    return response


async def refusal(served: Served, method: str, request: Any, who: str = "alice") -> tuple[Status, str]:
    with pytest.raises(GRPCError) as refused:
        await served.call(method, request, who)
    return refused.value.status, code_of(refused.value)


async def test_health_says_which_process_answers_and_how_it_stands(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider([go_on.wait, *says("x")])) as served:
        accepted = await served.runtime.start()
        await served.runtime.until(accepted.run_id, ProviderRequest)
        health = await served.call("GetHealth", gateway_pb2.GetHealthRequest())
        assert (health.version, health.boot_id, health.live_runs, health.draining) == (__version__, "boot-1", 1, False)
        assert health.journal_g == served.runtime.state.journal.feed.g > 0
        assert abs(health.now_ms - served.runtime.state.now_s() * 1000) < 60_000
        go_on.set()
        await served.runtime.ended(accepted.run_id)


# --- runs ---


async def test_a_message_is_routed_to_its_answer(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("the answer"))) as served:
        response = await route(served)
        run = (await served.call("GetRun", runs.GetRunRequest(run_id=response.run_id))).run
    assert (response.state, response.reason, response.answer) == (runs.RUN_STATE_DONE, "final_answer", "the answer")
    assert not response.answer_cut
    assert (run.run_id, run.session_id, run.state) == (response.run_id, response.session_id, runs.RUN_STATE_DONE)
    assert (run.principal, run.title, run.agent) == (ALICE, "hello", "default")


async def test_a_run_that_fails_is_an_answer_with_its_reason(tmp_path: Path) -> None:
    calls = says("", ToolCall("c", "clock.now", {}))
    async with open_served(tmp_path, FakeProvider(calls), config=limited(turns=1)) as served:
        response = await route(served)
    assert (response.state, response.reason, response.answer) == (runs.RUN_STATE_FAILED, "limit_turns", "")
    assert response.detail


async def test_a_call_that_ends_before_its_run_leaves_the_run_and_the_same_id_comes_back_to_it(tmp_path: Path) -> None:
    run_id, go_on = "01ARZ3NDEKTSV4RRFFQ69G5FAV", trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("done")])) as served:
        with trio.move_on_after(0.2) as leaving:
            await route(served, run_id=run_id)
        assert leaving.cancelled_caught
        go_on.set()
        response = await route(served, run_id=run_id)
    assert (response.run_id, response.state, response.answer) == (run_id, runs.RUN_STATE_DONE, "Well. done")


async def test_a_long_answer_is_cut_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_service, "ANSWER_BYTES", 5)
    async with open_served(tmp_path, FakeProvider(says("grüße"))) as served:
        response = await route(served)
    assert (response.answer, response.answer_cut) == ("grü", True)


async def test_attachments_travel_in_the_message_and_reach_the_tape(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        attachment = runs.Attachment(name="a.txt", media_type="text/plain", data=b"hello")
        response = await route(served, attachments=[attachment])
        with read(served.runtime.state_dir) as reader:
            (row,) = reader.page(run_stream(response.run_id), 0, 1)
            event = row.event()
            assert isinstance(event, Input)
            assert reader.blob(event.attachments[0].digest) == b"hello"


async def test_a_prompt_beyond_the_message_limit_is_refused(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        start = runs.StartRun(text="x" * (4 * 1024 * 1024 + 1))
        with pytest.raises(GRPCError) as refused:
            await served.call("RouteMessage", runs.RouteMessageRequest(start=start))
    assert refused.value.status is Status.RESOURCE_EXHAUSTED


async def test_a_run_is_cancelled_once(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(["Well. ", trio.sleep_forever])) as served:
        accepted = await served.runtime.start(context=_local())
        await served.runtime.until(accepted.run_id, ModelDelta, 1, CONTEXT)
        await served.call("CancelRun", runs.CancelRunRequest(run_id="last", reason="enough"))
        ended = await served.runtime.ended(accepted.run_id, CONTEXT)
        assert ended.view.cancelled_by == ALICE
        again = await refusal(served, "CancelRun", runs.CancelRunRequest(run_id="last"))
    assert again == (Status.FAILED_PRECONDITION, "state_conflict")


async def test_runs_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        made = [await route(served, f"prompt {number}") for number in range(5)]
        newest_first = [response.run_id for response in reversed(made)]
        for size in (1, 2, 5, 100):
            found = await pages(served, "ListRuns", runs.ListRunsRequest(page_size=size), "runs")
            assert [run.run_id for page in found for run in page] == newest_first
            assert max(map(len, found)) <= size
        of_session = runs.ListRunsRequest(session_id=made[2].session_id)
        assert [run.run_id for (run,) in await pages(served, "ListRuns", of_session, "runs")] == [made[2].run_id]
        for nobodys in ("nobodys", "01JZZZZZZZZZZZZZZZZZZZZZZZ"):
            assert not (await served.call("ListRuns", runs.ListRunsRequest(session_id=nobodys))).runs
        done = runs.ListRunsRequest(states=[runs.RUN_STATE_DONE])
        assert len((await served.call("ListRuns", done)).runs) == 5
        live = runs.ListRunsRequest(states=[runs.RUN_STATE_RUNNING, runs.RUN_STATE_WAITING])
        assert not (await served.call("ListRuns", live)).runs


async def test_the_runs_of_a_session_are_listed_by_its_key_and_only_to_whose_it_is(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        made = await route(served, session=runs.SessionRef(key="notes"))
        await route(served)
        of_notes = runs.ListRunsRequest(session_id="notes")
        assert [run.run_id for run in (await served.call("ListRuns", of_notes)).runs] == [made.run_id]
        assert not (await served.call("ListRuns", of_notes, "bob")).runs


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ListRuns", runs.ListRunsRequest(page_size=501)),
        ("ListRuns", runs.ListRunsRequest(page_token="nowhere")),
        ("ListSessions", sessions.ListSessionsRequest(page_size=501)),
        ("ListSessions", sessions.ListSessionsRequest(page_token="nowhere")),
        ("ListAgents", agents.ListAgentsRequest(page_size=501)),
        ("RecentEvents", activity.RecentEventsRequest(page_size=501)),
        ("RecentEvents", activity.RecentEventsRequest(page_token="-1")),
        ("RecentEvents", activity.RecentEventsRequest(page_token="9" * 19)),
        ("UsageSummary", activity.UsageSummaryRequest(from_ms=2, to_ms=1)),
        ("UsageSummary", activity.UsageSummaryRequest(from_ms=0)),
        ("ReadTape", tape.ReadTapeRequest(run_id="last", max_rows=1001)),
        ("GetRun", runs.GetRunRequest()),
        ("GetSession", sessions.GetSessionRequest(session="!")),
        ("BindAgent", agents.BindAgentRequest(agent="default")),
        ("CreateAgent", agents.CreateAgentRequest(spec=agents.AgentSpec(name="no name"))),
        ("TokenService/ListTokens", tokens.ListTokensRequest(page_size=501)),
        ("TokenService/CreateToken", tokens.CreateTokenRequest(name="x", scopes=[tokens.SCOPE_UNSPECIFIED])),
        ("TokenService/CreateToken", tokens.CreateTokenRequest(name="x")),
    ],
)
async def test_what_a_request_may_not_say_is_refused(tmp_path: Path, method: str, request_: Any) -> None:
    async with open_served(tmp_path) as served:
        refused = await refusal(served, method, request_)
    assert refused == (Status.INVALID_ARGUMENT, "invalid_argument")


# --- tapes ---


async def whole_tape(served: Served, run_id: str, max_rows: int = 0) -> list[tuple[int, bytes, bytes]]:
    """Read a tape page by page as the definitions say, and return seq, body and hash of its rows."""
    found: list[tuple[int, bytes, bytes]] = []
    after_seq, offset = 0, 0
    while True:
        request = tape.ReadTapeRequest(run_id=run_id, after_seq=after_seq, max_rows=max_rows, body_offset=offset)
        page = await served.call("ReadTape", request)
        assert page.run_id == run_id
        for item in page.items:
            before = found.pop()[1] if offset else b""
            found.append((item.seq, before + item.body, item.hash))
            after_seq, offset = (item.seq - 1, len(found[-1][1])) if item.more else (item.seq, 0)
        if after_seq == page.last_seq:
            assert page.ended
            return found


@pytest.mark.parametrize("max_rows", [0, 1, 3])
async def test_a_tape_is_read_page_by_page_byte_for_byte(tmp_path: Path, max_rows: int) -> None:
    text = "0123456789" * 300_000
    async with open_served(tmp_path, FakeProvider(says(text))) as served:
        run_id = (await route(served)).run_id
        found = await whole_tape(served, run_id, max_rows)
        with read(served.runtime.state_dir) as reader:
            assert found == [(row.seq, row.body, row.hash) for row in reader.tape(run_stream(run_id))]


async def test_the_tape_of_a_live_run_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("x")])) as served:
        accepted = await served.runtime.start(context=_local())
        await served.runtime.until(accepted.run_id, ModelDelta, 1, CONTEXT)
        page = await served.call("ReadTape", tape.ReadTapeRequest(run_id="last"))
        assert (page.items[-1].seq, page.ended) == (page.last_seq, False)
        ahead = tape.ReadTapeRequest(run_id="last", after_seq=page.last_seq + 1)
        assert await refusal(served, "ReadTape", ahead) == (Status.OUT_OF_RANGE, "offset_ahead")
        nothing_yet = await served.call("ReadTape", tape.ReadTapeRequest(run_id="last", after_seq=page.last_seq))
        assert not nothing_yet.items
        go_on.set()
        await served.runtime.ended(accepted.run_id, CONTEXT)


# --- files ---


async def test_what_a_run_did_to_files_is_told_and_taken_back(tmp_path: Path) -> None:
    write = ToolCall("w", "files.write", {"path": "new.txt", "text": "one\ntwo\n"})
    provider = FakeProvider(says("", write), says("done"))
    async with open_served(tmp_path, provider, config=allowing("files.write")) as served:
        response = await route(served)
        file = served.runtime.workspace / "new.txt"
        assert file.read_text() == "one\ntwo\n"
        changes = await served.call("GetRunChanges", runs.GetRunChangesRequest(run_id="last"))
        assert (changes.run_id, changes.workspace) == (response.run_id, str(served.runtime.workspace))
        (change,) = changes.changes
        assert (change.path, change.HasField("before"), change.HasField("after")) == ("new.txt", False, True)
        assert "+one\n+two\n" in changes.diff
        assert not changes.cut
        await served.call("UndoRun", runs.UndoRunRequest(run_id="last"))
        assert not file.exists()


async def test_a_large_diff_is_cut_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ToolCall("w", "files.write", {"path": "new.txt", "text": "x\n" * 100})
    monkeypatch.setattr(gateway_service, "ANSWER_BYTES", 50)
    provider = FakeProvider(says("", write), says("done"))
    async with open_served(tmp_path, provider, config=allowing("files.write")) as served:
        await route(served)
        changes = await served.call("GetRunChanges", runs.GetRunChangesRequest(run_id="last"))
    assert (len(changes.diff), changes.cut) == (50, True)


# --- approvals ---


async def test_a_question_is_answered_from_another_call(tmp_path: Path) -> None:
    asks = says("", ToolCall("w", "fake.write", {"value": "x"}))
    async with open_served(tmp_path, FakeProvider(asks, says("done")), tools=[WRITES]) as served:
        accepted = await served.runtime.start(context=_local())
        asked = await served.runtime.until(accepted.run_id, ApprovalRequested, 1, CONTEXT)
        decision = runs.Decision(approval_id=asked.approval_id, granted=True, reason="go on")
        await served.call("DecideApproval", runs.DecideApprovalRequest(decision=decision))
        again = await refusal(served, "DecideApproval", runs.DecideApprovalRequest(decision=decision))
        assert again == (Status.FAILED_PRECONDITION, "already_decided")
        await served.runtime.ended(accepted.run_id, CONTEXT)


# --- sessions ---


async def test_a_session_is_resolved_listed_shown_and_archived(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        made = []
        for number in range(5):
            request = sessions.ResolveSessionRequest(key=f"k{number}", title=f"number {number}")
            response = await served.call("ResolveSession", request)
            assert response.created
            made.append(response.session)
            again = await served.call("ResolveSession", request)
            assert (again.created, again.session) == (False, response.session)
        newest_first = made[::-1]
        for size in (1, 2, 5, 100):
            found = await pages(served, "ListSessions", sessions.ListSessionsRequest(page_size=size), "sessions")
            assert [each for page in found for each in page] == newest_first
        for name in (made[0].session_id, "k0", made[0].session_id[:25]):
            if name != made[0].session_id[:25]:
                shown = await served.call("GetSession", sessions.GetSessionRequest(session=name))
                assert shown.session == made[0]
        request = sessions.RenameSessionRequest(session="k4", title="the last")
        renamed = (await served.call("RenameSession", request)).session
        assert (renamed.session_id, renamed.title) == (made[4].session_id, "the last")
        made[4], newest_first[0] = renamed, renamed
        archived = await served.call("ArchiveSession", sessions.ArchiveSessionRequest(session="k0"))
        assert archived.session_id == made[0].session_id
        open_ones = await served.call("ListSessions", sessions.ListSessionsRequest())
        assert list(open_ones.sessions) == newest_first[:-1]
        every_one = await served.call("ListSessions", sessions.ListSessionsRequest(archived=True))
        assert [each.HasField("archived_ms") for each in every_one.sessions] == [False] * 4 + [True]
        reset = await served.call("ResolveSession", sessions.ResolveSessionRequest(key="k1", reset=True))
        assert (reset.created, reset.session.key) == (True, "k1")
        unknown = sessions.ResolveSessionRequest(key="nothing", require_existing=True)
        assert await refusal(served, "ResolveSession", unknown) == (Status.NOT_FOUND, "not_found")


# --- agents ---


async def test_agents_are_created_listed_bound_and_deleted(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        for name in ("b", "a", "c"):
            spec = agents.AgentSpec(name=name, model=f"p/{name}", tools=agents.ToolNames(names=["files.read"]))
            await served.call("CreateAgent", agents.CreateAgentRequest(spec=spec))
        taken = agents.CreateAgentRequest(spec=agents.AgentSpec(name="a"))
        assert await refusal(served, "CreateAgent", taken) == (Status.FAILED_PRECONDITION, "state_conflict")
        taken.replace = True
        await served.call("CreateAgent", taken)
        for size in (1, 3, 4, 100):
            found = await pages(served, "ListAgents", agents.ListAgentsRequest(page_size=size), "agents")
            assert [each.spec.name for page in found for each in page] == ["a", "b", "c", "default"]
        shown = (await served.call("GetAgent", agents.GetAgentRequest(name="b"))).agent
        assert (shown.spec.model, list(shown.spec.tools.names), shown.is_default) == ("p/b", ["files.read"], False)
        await served.call("SetDefaultAgent", agents.SetDefaultAgentRequest(name="b"))
        channel = agents.BindingTarget(channel="grpc")
        resolve = agents.ResolveAgentRequest()
        assert (await served.call("ResolveAgent", resolve)).rule == agents.AGENT_RULE_DEFAULT
        await served.call("BindAgent", agents.BindAgentRequest(target=channel, agent="c"))
        resolved = await served.call("ResolveAgent", resolve)
        assert (resolved.agent.spec.name, resolved.rule) == ("c", agents.AGENT_RULE_CHANNEL)
        await served.call("UnbindAgent", agents.UnbindAgentRequest(target=channel))
        resolved = await served.call("ResolveAgent", resolve)
        assert (resolved.agent.spec.name, resolved.rule) == ("b", agents.AGENT_RULE_DEFAULT)
        await served.call("DeleteAgent", agents.DeleteAgentRequest(name="b"))
        gone = await refusal(served, "GetAgent", agents.GetAgentRequest(name="b"))
        assert gone == (Status.NOT_FOUND, "not_found")


# --- activity ---


async def test_what_happened_and_what_was_used_is_told(tmp_path: Path) -> None:
    call = ToolCall("w", "fake.write", {"value": "x"})
    provider = FakeProvider(says("", call), says("done"))
    async with open_served(tmp_path, provider, tools=[WRITES], config=allowing("fake.write")) as served:
        run_id = (await route(served)).run_id
        found = await pages(served, "RecentEvents", activity.RecentEventsRequest(page_size=3), "rows")
        rows = [row for page in found for row in page]
        assert [row.g for row in rows] == sorted((row.g for row in rows), reverse=True)
        assert (rows[0].stream, rows[0].kind, rows[-1].kind) == (f"run:{run_id}", "RunFinished", "SessionOpened")
        assert all(row.body and len(row.hash) == 32 for row in rows)
        now_ms = int(served.runtime.state.now_s() * 1000)
        used = await served.call("UsageSummary", activity.UsageSummaryRequest(from_ms=now_ms - 60_000))
        assert (used.principal, used.runs, used.runs_done, used.model_turns) == (ALICE, 1, 1, 2)
        (tool,) = used.tool_calls
        assert (tool.tool, tool.proposed, tool.succeeded) == ("fake.write", 1, 1)


def _local() -> RequestContext:
    return RequestContext(ALICE, local=True)
