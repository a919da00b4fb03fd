"""A run's tape as server-sent events: every row once, in order, from anywhere, and only to whom it is shown."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.codec import KIND_NAMES, TapeRow, encode, json_line
from palyra_trio.core.commands import RevokeToken
from palyra_trio.core.errors import InvalidArgument, NotFound, OffsetAhead, PalyraError, PolicyError, Unauthenticated
from palyra_trio.core.identity import Peer, RequestContext, Scope
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import FinalAnswer, ModelDelta, run_stream
from palyra_trio.guard.auth import Authenticator
from palyra_trio.runtime.access import Access
from palyra_trio.transports.run_events import HEARTBEAT, HEARTBEAT_S, RunEvents, encode_row, open_run_events
from tests.fakes import FakeProvider, says
from tests.journal.tickets import read
from tests.transports.served import ALICE, ROOT, Served, open_served

AT = Peer(None, "192.0.2.1:1")
BY_ALICE = RequestContext(ALICE)


def access_of(served: Served) -> Access:
    runtime = served.runtime
    return Access(Authenticator(runtime.gateway.tokens, os.getuid(), ROOT, runtime.state.now_s), runtime.gateway)


async def opened(
    served: Served, run_id: str, who: str = "alice", headers: Mapping[str, str] | None = None
) -> RunEvents:
    sent = {**served.metadata(who), **(headers or {})}
    access = access_of(served)
    caller = await access.admit(sent, AT, Scope.READ)
    return await open_run_events(served.runtime.gateway, access, caller, sent, run_id)


async def rest(events: RunEvents) -> bytes:
    heard = b""
    while chunk := await events.next_chunk():
        heard += chunk
    return heard


def parsed(stream: bytes) -> list[dict[str, str]]:
    """Read an event stream as the specification has it; comments are no events."""
    blocks = stream.decode().split("\n\n")
    assert blocks.pop() == ""
    fields = [[line.partition(": ")[::2] for line in block.split("\n") if line[:1] != ":"] for block in blocks]
    return [dict(block) for block in fields if block]


def recorded(served: Served, run_id: str) -> list[TapeRow]:
    with read(served.runtime.state_dir) as reader:
        return list(reader.tape(run_stream(run_id)))


async def test_every_row_is_an_event_with_its_seq_its_kind_and_the_line_of_jsonl(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("one\r\ntwo\u2028three"))) as served:
        run_id = (await served.runtime.start(context=BY_ALICE)).run_id
        heard = parsed(await rest(await opened(served, run_id)))
        assert heard == [
            {"id": str(row.seq), "event": KIND_NAMES[row.kind], "data": json_line(row)}
            for row in recorded(served, run_id)
        ]
        assert heard[-1]["event"] == "RunFinished"


async def test_after_the_last_event_that_arrived_exactly_the_others_come_and_after_the_last_one_none(
    tmp_path: Path,
) -> None:
    async with open_served(tmp_path) as served:
        run_id = (await served.runtime.run(context=BY_ALICE)).rows[0].stream.partition(":")[2]
        last = len(recorded(served, run_id))
        for seq in range(last):
            events = await opened(served, run_id, headers={"last-event-id": str(seq)})
            assert not events.ended
            assert [int(each["id"]) for each in parsed(await rest(events))] == [*range(seq + 1, last + 1)]
        events = await opened(served, "last", headers={"last-event-id": str(last)})
        assert events.ended
        assert await events.next_chunk() == b""


async def test_a_cancelled_wait_loses_nothing(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("b")])) as served:
        run_id = (await served.runtime.start(context=BY_ALICE)).run_id
        await served.runtime.until(run_id, ModelDelta, context=BY_ALICE)
        events = await opened(served, run_id)
        heard = await events.next_chunk()
        for _ in range(3):
            with trio.move_on_after(0.01):
                heard += await events.next_chunk()
        go_on.set()
        heard += await rest(events)
        assert [int(each["id"]) for each in parsed(heard)] == [row.seq for row in recorded(served, run_id)]


class Quiet:
    """A follower of a run in which nothing happens."""

    ended = False

    async def next_rows(self, most: int) -> tuple[TapeRow, ...]:
        await trio.sleep_forever()
        raise AssertionError


class Lets:
    def __init__(self) -> None:
        self.refusal: PalyraError | None = None

    def require(self, caller: object, scope: Scope) -> None:
        assert scope is Scope.READ
        if self.refusal is not None:
            raise self.refusal


async def test_a_silence_is_broken_by_a_comment_and_ends_with_the_token(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lets = Lets()
    events = RunEvents(Quiet(), lets, None)  # type: ignore[arg-type]
    assert await events.next_chunk() == HEARTBEAT
    assert trio.current_time() == pytest.approx(HEARTBEAT_S)
    assert parsed(HEARTBEAT) == []
    lets.refusal = Unauthenticated("the token is unknown, or was revoked", remedy="make another")
    (said,) = parsed(await events.next_chunk())
    assert "id" not in said
    assert said["event"] == "problem"
    assert json.loads(said["data"]) == {
        "title": "Unauthorized",
        "status": 401,
        "detail": "the token is unknown, or was revoked",
        "code": "unauthenticated",
        "remedy": "make another",
    }
    assert await events.next_chunk() == b""


async def test_a_revoked_token_is_shown_no_further_row(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_served(tmp_path, FakeProvider(["Well. ", go_on.wait, *says("b")])) as served:
        run_id = (await served.runtime.start(context=BY_ALICE)).run_id
        issued = await served.token(ALICE, Scope.READ)
        await served.runtime.until(run_id, ModelDelta, context=BY_ALICE)
        events = await opened(served, run_id, headers={"authorization": f"Bearer {issued.secret}"})
        assert parsed(await events.next_chunk())[-1]["event"] == "ModelDelta"
        await served.runtime.gateway.submit(RevokeToken(issued.token.token_id), RequestContext(ROOT, local=True))
        go_on.set()
        (said,) = parsed(await rest(events))
        assert said["event"] == "problem"
        assert '"unauthenticated"' in said["data"]
        await served.runtime.ended(run_id, BY_ALICE)


async def test_a_run_that_nobody_goes_on_with_ends_with_a_problem(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(["thinking", trio.sleep_forever]), left=[RunState.WAITING]) as served:
        run_id = (await served.runtime.start(context=BY_ALICE)).run_id
        await served.runtime.until(run_id, ModelDelta, context=BY_ALICE)
        served.runtime.gateway.sessions.stop("the test says so")
        *rows, said = parsed(await rest(await opened(served, run_id)))
        assert [int(each["id"]) for each in rows] == [row.seq for row in recorded(served, run_id)]
        assert json.loads(said["data"])["code"] == "run_interrupted"


async def test_what_may_not_be_followed_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        run_id = (await served.runtime.run(context=BY_ALICE)).rows[0].stream.partition(":")[2]
        with pytest.raises(NotFound):
            await opened(served, run_id, "bob")
        with pytest.raises(Unauthenticated):
            await opened(served, run_id, headers={"authorization": "Bearer wrong"})
        with pytest.raises(OffsetAhead):
            await opened(served, run_id, headers={"last-event-id": "1000"})
        only_runs = await served.token(ALICE, Scope.RUN)
        with pytest.raises(PolicyError, match="the scope read"):
            await opened(served, run_id, headers={"authorization": f"Bearer {only_runs.secret}"})


@pytest.mark.parametrize("text", ["x", "-1", "1.0", "١", " 1", "9" * 30])
async def test_an_id_that_no_event_has_is_refused(tmp_path: Path, text: str) -> None:
    async with open_served(tmp_path) as served:
        with pytest.raises(InvalidArgument, match="last-event-id"):
            await opened(served, "last", headers={"last-event-id": text})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_row_says_it_is_one_event_of_one_line(text: str) -> None:
    row = TapeRow(1, "run:x", 7, FinalAnswer.kind, 0, encode(FinalAnswer(text, "p", "m")), b"")
    (event,) = parsed(encode_row(row))
    assert json.loads(event["data"])["body"]["text"] == text
    assert encode_row(row).count(b"\n") == 4
    assert b"\r" not in encode_row(row)
