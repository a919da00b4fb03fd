"""RunStream: started, attached to, left and come back to; what is said in mid-stream; and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import RequestContext, Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, CancelRequested, ModelDelta, run_stream
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.pb import runs_pb2 as runs
from palyra_trio.pb.tokens_pb2 import RevokeTokenRequest
from palyra_trio.transports.run_stream import ANSWERS
from tests.fakes import FakeProvider, echo, fake_tool, says
from tests.journal.tickets import read, tampering
from tests.transports.served import ALICE, Served, Talk, code_of, open_served

METHOD = "GatewayService/RunStream"
WRITES = fake_tool("fake.write", echo, read_only=False)
ASKS = says("", ToolCall("w", "fake.write", {"value": "x"}))


def start(served: Served, text: str = "hello", **fields: Any) -> runs.RunStreamRequest:
    fields = {"workspace": str(served.runtime.workspace), "attended": True} | fields
    return runs.RunStreamRequest(start=runs.StartRun(text=text, **fields))


def attach(run_id: str, after_seq: int = 0) -> runs.RunStreamRequest:
    return runs.RunStreamRequest(attach=runs.AttachRun(run_id=run_id, after_seq=after_seq))


def message(served: Served, text: str, **fields: Any) -> runs.RunStreamRequest:
    return runs.RunStreamRequest(message=runs.SendMessage(start=start(served, text, **fields).start))


def items(responses: list[runs.RunStreamResponse], run_id: str = "") -> list[tuple[int, bytes, bytes]]:
    """Return seq, body and hash of what was received, the parts of a body put together."""
    found: list[tuple[int, bytes, bytes]] = []
    more = False
    for response in responses:
        for item in response.batch.items:
            if run_id and item.run_id != run_id:
                continue
            seq, body = item.seq, item.body
            if more:
                seq, before, _ = found.pop()
                assert seq == item.seq
                body = before + body
            found.append((seq, body, item.hash))
            more = item.more
    assert not more
    return found


def recorded(served: Served, run_id: str, after_seq: int = 0) -> list[tuple[int, bytes, bytes]]:
    with read(served.runtime.state_dir) as reader:
        rows = [row for row in reader.tape(run_stream(run_id)) if row.seq > after_seq]
    return [(row.seq, row.body or b"", row.hash) for row in rows]


async def whole(served: Served, request: runs.RunStreamRequest, who: str = "alice") -> list[runs.RunStreamResponse]:
    async with served.talk(METHOD, who) as talk:
        await talk.say(request)
        return await talk.rest()


async def refusal(served: Served, request: runs.RunStreamRequest | None, who: str = "alice") -> GRPCError:
    async with served.talk(METHOD, who) as talk:
        if request is not None:
            await talk.say(request)
        with pytest.raises(GRPCError) as refused:
            await talk.rest()
    return refused.value


async def until(talk: Talk, kind: str) -> tuple[list[runs.RunStreamResponse], Any]:
    """Return what comes up to and with an item of `kind`, and that item."""
    heard = []
    while True:
        heard.append(await talk.hear())
        for item in heard[-1].batch.items:
            if item.kind == kind:
                return heard, item


# --- following ---


async def test_a_run_is_accepted_followed_row_by_row_and_ended(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        first, *rest, last = await whole(served, start(served))
        run_id = first.accepted.run_id
        assert (first.accepted.attached, first.accepted.request_number) == (False, 1)
        assert items(rest) == recorded(served, run_id)
    assert (last.ended.run_id, last.ended.state, last.ended.reason) == (run_id, runs.RUN_STATE_DONE, "final_answer")
    assert last.ended.last_seq == items(rest)[-1][0]
    item = rest[0].batch.items[0]
    assert (item.run_id, item.kind, item.kind_number, len(item.hash), item.g > 0) == (run_id, "Input", 1, 32, True)


async def test_from_every_place_exactly_the_rows_after_it_come(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        run_id = (await whole(served, start(served)))[0].accepted.run_id
        tape = recorded(served, run_id)
        for after_seq in range(len(tape) + 1):
            first, *rest, last = await whole(served, attach(run_id, after_seq))
            assert (first.accepted.run_id, first.accepted.attached) == (run_id, True)
            assert items(rest) == tape[after_seq:]
            assert (last.ended.state, last.ended.last_seq) == (runs.RUN_STATE_DONE, len(tape))


async def test_the_same_start_attaches_to_the_run(tmp_path: Path) -> None:
    run_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    async with open_served(tmp_path) as served:
        once = await whole(served, start(served, run_id=run_id))
        again = await whole(served, start(served, run_id=run_id))
        assert (once[0].accepted.attached, again[0].accepted.attached) == (False, True)
        assert items(once) == items(again) == recorded(served, run_id)
        refused = await refusal(served, start(served, "something else", run_id=run_id))
    assert (refused.status, code_of(refused)) == (Status.ALREADY_EXISTS, "run_conflict")


async def test_who_leaves_ends_the_following_and_not_the_run(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("b")])) as served:
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            heard, item = await until(talk, "ModelDelta")
        go_on.set()
        received = items(heard)
        _, *rest, last = await whole(served, attach(item.run_id, received[-1][0]))
        assert received + items(rest) == recorded(served, item.run_id)
    assert last.ended.state == runs.RUN_STATE_DONE


async def test_a_body_that_no_message_holds_comes_in_parts(tmp_path: Path) -> None:
    text = "0123456789" * 500_000
    async with open_served(tmp_path, FakeProvider(says(text))) as served:
        responses = await whole(served, start(served))
        assert max(response.ByteSize() for response in responses) < 2 * 1024 * 1024
        assert any(item.more for response in responses for item in response.batch.items)
        assert items(responses) == recorded(served, responses[0].accepted.run_id)


async def test_a_reader_that_stands_still_holds_up_neither_its_run_nor_what_it_asks_for(tmp_path: Path) -> None:
    deltas = ["x" * 50_000] * 100  # far more than the windows take

    async with open_served(tmp_path, FakeProvider([*deltas, trio.sleep_forever])) as served:
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            accepted = (await talk.hear()).accepted
            context = RequestContext(ALICE)
            sent = 0
            follower = await served.runtime.gateway.follow(accepted.run_id, 0, context)
            while sent < sum(map(len, deltas)):
                for row in await follower.next_rows():
                    sent += len(event.text) if isinstance(event := row.event(), ModelDelta) else 0
            await talk.say(runs.RunStreamRequest(cancel=runs.StopRun(reason="enough")))
            asked = await served.runtime.until(accepted.run_id, CancelRequested, 1, context)
            assert (asked.by, asked.reason) == (ALICE, "enough")
            rest = await talk.rest()
        assert items(rest) == recorded(served, accepted.run_id)
    assert rest[-1].ended.state == runs.RUN_STATE_CANCELLED


async def test_a_client_that_has_stopped_reading_is_obeyed_beyond_its_unread_answers(tmp_path: Path) -> None:
    provider = FakeProvider(["x" * 900_000, trio.sleep_forever], says("b"))
    async with open_served(tmp_path, provider) as served:
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            accepted = (await talk.hear()).accepted
            await served.runtime.until(accepted.run_id, ModelDelta, 1, RequestContext(ALICE))
            await talk.say(message(served, "and then?"))
            await talk.say(runs.RunStreamRequest())
            await talk.say(runs.RunStreamRequest(cancel=runs.StopRun(reason="enough")))
            with trio.fail_after(20):
                await served.runtime.until(accepted.run_id, CancelRequested, 1, RequestContext(ALICE))
            rest = await talk.rest()
        said = [each.WhichOneof("response") for each in rest]
        second = next(each.accepted.run_id for each in rest if each.HasField("accepted"))
        assert said.count("refused") == 1
        assert [each.ended.run_id for each in rest if each.HasField("ended")] == [accepted.run_id, second]
        first_rows = next(
            place for place, each in enumerate(rest) if any(row.run_id == second for row in each.batch.items)
        )
        assert said.index("accepted") < first_rows
        for run_id in (accepted.run_id, second):
            assert items(rest, run_id) == recorded(served, run_id)


async def test_a_client_that_leaves_too_many_answers_unread_is_told_and_its_stream_ends(tmp_path: Path) -> None:
    async with open_served(
        tmp_path, FakeProvider(["x" * 900_000, trio.sleep_forever]), left=[RunState.WAITING]
    ) as served:
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            accepted = (await talk.hear()).accepted
            await served.runtime.until(accepted.run_id, ModelDelta, 1, RequestContext(ALICE))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(GRPCError) as ended, trio.fail_after(20):
                for _ in range(ANSWERS + 2):
                    await talk.say(runs.RunStreamRequest())
                await talk.rest()
        assert (ended.value.status, code_of(ended.value)) == (Status.RESOURCE_EXHAUSTED, "busy")


async def test_following_an_interrupted_run_ends_after_its_last_row_and_says_why(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(["Well. ", trio.sleep_forever]), left=[RunState.WAITING]) as served:
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            run_id = (await until(talk, "ModelDelta"))[1].run_id
    async with open_served(tmp_path, left=[RunState.WAITING], boot_id="boot-2") as served:
        heard = []
        async with served.talk(METHOD) as talk:
            await talk.say(attach(run_id))
            with pytest.raises(GRPCError) as ended, trio.fail_after(20):
                while True:
                    heard.append(await talk.hear())
        assert (ended.value.status, code_of(ended.value)) == (Status.FAILED_PRECONDITION, "run_interrupted")
        assert run_id in (ended.value.message or "")
        assert ended.value.details[0].metadata["remedy"]
        assert items(heard) == recorded(served, run_id)
        assert not any(response.HasField("ended") for response in heard)


# --- in mid-stream ---


async def test_a_message_is_accepted_at_once_and_followed_after_the_run_before_it(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("b")], says("c"))) as served:
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            first = (await talk.hear()).accepted
            await talk.say(message(served, "and then?"))
            heard: list[runs.RunStreamResponse] = []
            while not heard or heard[-1].WhichOneof("response") != "accepted":
                heard.append(await talk.hear())
            second = heard[-1].accepted
            assert (second.request_number, second.session_id) == (2, first.session_id)
            go_on.set()
            heard += await talk.rest()
        endings = [response.ended.run_id for response in heard if response.HasField("ended")]
        assert endings == [first.run_id, second.run_id]
        order = [item.run_id for response in heard for item in response.batch.items]
        assert order == sorted(order, key=[first.run_id, second.run_id].index)
        for run_id in endings:
            assert items(heard, run_id) == recorded(served, run_id)


async def test_a_question_is_answered_in_mid_stream(tmp_path: Path) -> None:
    provider = FakeProvider(ASKS, says("done"))
    async with open_served(tmp_path, provider, tools=[WRITES]) as served, served.talk(METHOD) as talk:
        await talk.say(start(served))
        _, asked = await until(talk, "ApprovalRequested")
        request = _event(served, asked.run_id, asked.seq)
        assert isinstance(request, ApprovalRequested)
        await talk.say(runs.RunStreamRequest(decision=runs.Decision(approval_id="nothing", granted=True)))
        refused = (await talk.hear()).refused
        assert (refused.request_number, refused.code, refused.retry_after_ms) == (2, "not_found", 0)
        assert refused.message
        assert refused.remedy
        await talk.say(runs.RunStreamRequest(decision=runs.Decision(approval_id=request.approval_id, granted=True)))
        *_, last = await talk.rest()
    assert last.ended.state == runs.RUN_STATE_DONE


async def test_a_decision_needs_its_own_scope(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(ASKS, says("done")), tools=[WRITES]) as served:
        served.tokens["runner"] = (await served.token(ALICE, Scope.RUN)).secret
        async with served.talk(METHOD, "runner") as talk:
            await talk.say(start(served))
            _, asked = await until(talk, "ApprovalRequested")
            request = _event(served, asked.run_id, asked.seq)
            assert isinstance(request, ApprovalRequested)
            await talk.say(runs.RunStreamRequest(decision=runs.Decision(approval_id=request.approval_id, granted=True)))
            assert (await talk.hear()).refused.code == "denied"
            await talk.say(runs.RunStreamRequest(cancel=runs.StopRun()))
            *_, last = await talk.rest()
    assert last.ended.state == runs.RUN_STATE_CANCELLED


async def test_a_token_that_was_revoked_in_mid_stream_asks_for_nothing_and_is_sent_nothing_more(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("b")])) as served:
        issued = await served.token(ALICE)
        served.tokens["leaver"] = issued.secret
        async with served.talk(METHOD, "leaver") as talk:
            await talk.say(start(served))
            await until(talk, "ModelDelta")
            await served.call("TokenService/RevokeToken", RevokeTokenRequest(token_id=issued.token.token_id), "root")
            await talk.say(runs.RunStreamRequest(cancel=runs.StopRun()))
            assert (await talk.hear()).refused.code == "unauthenticated"
            go_on.set()
            with pytest.raises(GRPCError) as ended:
                await talk.hear()
        assert code_of(ended.value) == "unauthenticated"
        await served.runtime.gateway.sessions.idle()
        run = (await served.call("ListRuns", runs.ListRunsRequest())).runs[0]
    assert run.state == runs.RUN_STATE_DONE


async def test_to_allow_tools_beforehand_is_to_approve(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(["Well. "], ASKS, says("done")), tools=(WRITES,)) as served:
        served.tokens["runner"] = (await served.token(ALICE, Scope.RUN)).secret
        served.tokens["approver"] = (await served.token(ALICE, Scope.RUN, Scope.APPROVE)).secret
        allowing = start(served, allowed_tools=["fake.write"], attended=False)
        refused = await refusal(served, allowing, "runner")
        assert (refused.status, code_of(refused)) == (Status.PERMISSION_DENIED, "denied")
        with pytest.raises(GRPCError, match="scope approve"):
            await served.call("RouteMessage", runs.RouteMessageRequest(start=allowing.start), "runner")
        async with served.talk(METHOD, "runner") as talk:
            await talk.say(start(served))
            assert (await talk.hear()).HasField("accepted")
            await talk.say(message(served, "and", allowed_tools=["fake.write"]))
            heard = await talk.rest()
        assert [each.refused.code for each in heard if each.HasField("refused")] == ["denied"]
        *_, last = await whole(served, allowing, "approver")
    assert last.ended.state == runs.RUN_STATE_DONE


async def test_a_client_that_leaves_what_it_does_not_read_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_served(tmp_path, FakeProvider(says("x" * 900_000))) as served:
        async with served.unix_socket() as channel, served.talk(METHOD, channel=channel) as talk:
            await talk.say(start(served))
            assert (await talk.hear()).HasField("accepted")
            await served.runtime.gateway.sessions.idle()
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
    assert caplog.records == []


async def test_what_makes_no_sense_in_mid_stream_is_refused_and_the_stream_goes_on(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("b")])) as served:
        wrong = [
            runs.RunStreamRequest(),
            start(served),
            attach("last"),
            message(served, "x", session=runs.SessionRef(key="another")),
            message(served, "   "),
            runs.RunStreamRequest(cancel=runs.StopRun(run_id="!")),
        ]
        async with served.talk(METHOD) as talk:
            await talk.say(start(served))
            await until(talk, "ModelDelta")
            for number, request in enumerate(wrong, 2):
                await talk.say(request)
                refused = (await talk.hear()).refused
                assert (refused.request_number, refused.code) == (number, "invalid_argument")
            go_on.set()
            *_, last = await talk.rest()
    assert last.ended.state == runs.RUN_STATE_DONE


# --- refused from the start ---


async def test_a_first_request_that_is_neither_start_nor_attach_is_refused(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        for request in (
            None,
            runs.RunStreamRequest(),
            message(served, "x"),
            runs.RunStreamRequest(cancel=runs.StopRun()),
        ):
            refused = await refusal(served, request)
            assert (refused.status, code_of(refused)) == (Status.INVALID_ARGUMENT, "invalid_argument")


async def test_a_place_that_is_not_there_is_told_and_not_waited_for(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        run_id = (await whole(served, start(served)))[0].accepted.run_id
        ahead = await refusal(served, attach(run_id, 1000))
        assert (ahead.status, code_of(ahead)) == (Status.OUT_OF_RANGE, "offset_ahead")
        for unknown, who in (("01ARZ3NDEKTSV4RRFFQ69G5FAV", "alice"), (run_id, "bob"), ("last", "bob")):
            refused = await refusal(served, attach(unknown), who)
            assert (refused.status, code_of(refused)) == (Status.NOT_FOUND, "not_found")


async def test_a_place_before_what_was_erased_is_refused_with_where_to_go_on(tmp_path: Path) -> None:
    async with open_served(tmp_path, checked=False) as served:
        run_id = (await whole(served, start(served)))[0].accepted.run_id
        tape = recorded(served, run_id)
        with tampering(served.runtime.state_dir / FILE_NAME) as db:
            db.execute("UPDATE ev SET body = NULL, salt = NULL WHERE seq IN (2, 3, 5) AND stream ="
                       " (SELECT id FROM stream WHERE name = ?)", (run_stream(run_id),))  # fmt: skip
        served.runtime.state.journal.feed._streams.clear()
        refused = await refusal(served, attach(run_id, 1))
        assert (refused.status, code_of(refused)) == (Status.OUT_OF_RANGE, "offset_pruned")
        assert refused.details[0].metadata["remedy"].endswith("after_seq 3")
        _, *rest, _ = await whole(served, attach(run_id, 3))
        assert [(seq, hash) for seq, _, hash in items(rest)] == [(seq, hash) for seq, _, hash in tape[3:]]
        erased = [item.seq for response in rest for item in response.batch.items if not item.HasField("body")]
        assert erased == [5]


def _event(served: Served, run_id: str, seq: int) -> Any:
    with read(served.runtime.state_dir) as reader:
        (row,) = reader.page(run_stream(run_id), seq - 1, 1)
    return row.event()
