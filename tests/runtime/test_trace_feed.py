"""Each span is told once, whatever a run does, in this process or after a restart, and nothing is kept of one that waits."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import JournalInvalid
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalRequested, run_stream
from palyra_trio.journal.feed import Feed
from palyra_trio.journal.queries import whole_tape
from palyra_trio.runtime.trace_feed import Read, TraceFeed
from palyra_trio.runtime.tracing import KINDS, RunTrace, Span
from tests.core.tapes import ASSEMBLED, FINISHED, PARKED, RESUMED, ROUTED, STARTED, asked_for, request, said
from tests.fakes import FakeProvider, Runtime, assert_journal, echo, fake_tool, open_fake_runtime, says
from tests.runtime.test_tracing import RUN_ID, rows_of

OTHER_ID = "01K742SG000000000000000003"
WRITES = fake_tool("fake.write", echo, read_only=False)
open_waiting = partial(open_fake_runtime, tools=[WRITES], left=[RunState.WAITING])


def of_tape(run_id: str, rows: Iterable[TapeRow]) -> list[Span]:
    trace = RunTrace(run_id, content=True)
    return [span for row in rows if row.kind in KINDS for span in trace.take(row)]


def of_journal(folder: Path) -> list[Span]:
    """Return the spans of all runs of a closed journal."""
    tapes = assert_journal(folder / "state", frozenset({RunState.WAITING}))
    return [span for run_id, tape in tapes.items() for span in of_tape(run_id, tape.rows)]


def in_order(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span.span_id)


def traced() -> tuple[TraceFeed, list[Span], Feed]:
    spans: list[Span] = []
    traces = TraceFeed(spans.append, content=True)
    return traces, spans, Feed(watch=traces.take)


def asking() -> FakeProvider:
    return FakeProvider(says("", ToolCall("a", "fake.write", {"value": "a"})), says("done"))


async def test_what_is_told_while_runs_go_on_is_what_their_tapes_say_afterwards(tmp_path: Path) -> None:
    _, spans, feed = traced()
    async with open_fake_runtime(tmp_path, feed=feed) as runtime, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(runtime.run, "look", FakeProvider(says("", ToolCall("a", "none", {})), says("done")))
    assert len(spans) == 3 * 4
    assert in_order(spans) == in_order(of_journal(tmp_path))


def reading(runtime: Runtime) -> Read:
    async def read(run_id: str) -> tuple[TapeRow, ...]:
        return await runtime.state.readers.ask(lambda reader: whole_tape(reader, run_id))

    return read


async def test_a_run_that_waited_is_looked_up_when_it_goes_on(tmp_path: Path) -> None:
    tell, told = trio.open_memory_channel[Span](10)
    traces = TraceFeed(tell.send_nowait, content=True)
    feed = Feed(watch=traces.take)
    async with open_waiting(tmp_path, asking(), feed=feed) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(traces.catch_up, reading(runtime))
        accepted = await runtime.start("write")
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.gateway.sessions.idle()
        await runtime.do(DecideApproval(asked.approval_id, True))
        with trio.fail_after(10):
            spans = [await told.receive() for _ in range(4)]
        nursery.cancel_scope.cancel()
    assert [span.name.partition(" ")[0] for span in spans] == ["chat", "execute_tool", "chat", "invoke_agent"]
    assert in_order(spans) == in_order(of_journal(tmp_path))
    tell.close()
    told.close()


async def test_a_run_that_goes_on_in_another_process_is_one_tree_of_which_each_span_is_told_once(
    tmp_path: Path,
) -> None:
    _, before, feed = traced()
    async with open_waiting(tmp_path, asking(), feed=feed) as runtime:
        accepted = await runtime.start("write")
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
    traces, after, feed = traced()
    async with open_waiting(tmp_path, feed=feed, boot_id="boot-2") as runtime:
        await runtime.do(DecideApproval(asked.approval_id, True))
        await runtime.ended(accepted.run_id)
        await traces.read_behind(reading(runtime))
    assert [span.name.partition(" ")[0] for span in before] == ["chat"]
    assert [span.name.partition(" ")[0] for span in after] == ["execute_tool", "chat", "invoke_agent"]
    assert in_order([*before, *after]) == in_order(of_journal(tmp_path))


# --- what is read, against what is published meanwhile ---

TAPE = rows_of(
    [asked_for(), STARTED, ROUTED, ASSEMBLED, request(), PARKED, RESUMED, said("a"), request(2), said("b", 2), FINISHED]
)


def names(spans: Iterable[Span]) -> list[int]:
    """Return where the spans begin on TAPE, which tells them apart."""
    return [next(row.seq for row in TAPE if row.at_ms == span.start_ms) for span in spans]


@attrs.define
class Journal:
    """One that holds all of TAPE, and counts how often it is read."""

    reads: int = 0

    async def read(self, _run_id: str) -> tuple[TapeRow, ...]:
        await trio.lowlevel.checkpoint()
        self.reads += 1
        return tuple(TAPE)


@pytest.mark.parametrize("published", range(7, len(TAPE) + 1))
async def test_what_the_journal_has_already_and_is_published_later_is_told_once(published: int) -> None:
    traces, spans, feed = traced()
    journal = Journal()
    feed.publish(TAPE[6:published])
    await traces.read_behind(journal.read)
    feed.publish(TAPE[published:])
    await traces.read_behind(journal.read)
    assert names(spans) == [5, 9, 1]
    assert journal.reads == 1


async def test_nothing_is_read_of_a_run_before_it_has_waited() -> None:
    traces, spans, feed = traced()
    journal = Journal()
    feed.publish(TAPE[:6])
    await traces.read_behind(journal.read)
    assert journal.reads == 0
    feed.publish(TAPE[6:])
    await traces.read_behind(journal.read)
    assert journal.reads == 1
    assert names(spans) == [5, 9, 1]


@pytest.mark.parametrize("known", range(7, len(TAPE)))
async def test_what_is_published_while_the_journal_is_read_is_read_too(known: int) -> None:
    traces, spans, feed = traced()
    reads: list[int] = []

    async def read(_run_id: str) -> tuple[TapeRow, ...]:
        await trio.lowlevel.checkpoint()
        if not reads:
            feed.publish(TAPE[known:])
        reads.append(known if not reads else len(TAPE))
        return tuple(TAPE[: reads[-1]])

    feed.publish(TAPE[6:known])
    await traces.read_behind(read)
    assert reads == [known, len(TAPE)]
    assert names(spans) == [5, 9, 1]


async def test_a_run_that_cannot_be_read_is_told_to_the_log_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    traces, spans, feed = traced()

    async def read(run_id: str) -> tuple[TapeRow, ...]:
        await trio.lowlevel.checkpoint()
        if run_id == RUN_ID:
            raise JournalInvalid("damaged")
        return tuple(row._replace(stream=run_stream(OTHER_ID)) for row in TAPE)

    feed.publish([*TAPE[6:], *(row._replace(stream=run_stream(OTHER_ID)) for row in TAPE[6:])])
    await traces.read_behind(read)
    assert names(spans) == [5, 9, 1]
    assert [record.getMessage() for record in caplog.records] == [f"the spans of run {RUN_ID} are not told"]


async def test_a_row_that_was_read_and_cannot_be_folded_costs_its_own_span(caplog: pytest.LogCaptureFixture) -> None:
    traces, spans, feed = traced()

    async def read(_run_id: str) -> tuple[TapeRow, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(row._replace(body=b"{}") if row.seq == 1 else row for row in TAPE)

    feed.publish(TAPE[6:])
    await traces.read_behind(read)
    assert names(spans) == [5, 9, 1]
    assert [record.getMessage() for record in caplog.records] == [f"row 1 of run {RUN_ID} is in no span"]


def test_a_row_that_cannot_be_folded_costs_its_own_span_and_no_commit(caplog: pytest.LogCaptureFixture) -> None:
    _, spans, feed = traced()
    call = next(index for index, row in enumerate(TAPE) if row.seq == 6)
    rows = [*TAPE[:call], TAPE[call]._replace(body=b"{}"), *TAPE[call + 1 :]]
    feed.publish(rows)  # and is not stopped by it
    assert [record.getMessage() for record in caplog.records] == [f"row 6 of run {RUN_ID} is in no span"]
    assert 1 in names(spans)
