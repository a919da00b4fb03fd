"""What was used and what happened lately: of one principal, in one span of time, page by page."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from palyra_trio.core.identity import Principal
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ModelTurn,
    PolicyDecision,
    RoutingDecision,
    RunFinished,
    ToolFinished,
    ToolProposed,
)
from palyra_trio.journal import usage
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from palyra_trio.journal.usage import ModelUsage, RecentPage, ToolUsage, Used
from tests.journal.tickets import ALICE, BOB, FINISH, START, accepted, commit, delta, for_run, opened, session_id

ME, HIM = Principal(ALICE), Principal(BOB)
TURN = ModelTurn(1, "text", "stop", Usage(10, 4, 3), "m")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


@pytest.fixture
def reader(store: SqliteStore, tmp_path: Path) -> Iterator[Reader]:
    with closing(Reader(tmp_path / FILE_NAME)) as reader:
        yield reader


def proposed(call_id: str, tool: str) -> ToolProposed:
    return ToolProposed(ToolCall(call_id, tool))


# --- what was used ---


def test_tokens_runs_and_tool_calls_are_counted_by_what_came_of_them(store: SqliteStore, reader: Reader) -> None:
    events = [
        TURN,
        *(proposed(call_id, "files.read") for call_id in ("a", "b", "c")),
        proposed("d", "files.write"),
        proposed("e", "files.write"),
        PolicyDecision("a", "allow", "r", "", "00"),
        ToolFinished("a", "fine", 1),
        ToolFinished("b", "no", 1, "tool_failed"),
        PolicyDecision("c", "deny", "r", "", "00"),
        PolicyDecision("d", "ask", "r", "", "00"),
        ApprovalDecided("A1", "d", "granted", ALICE),
        ToolFinished("d", "fine", 1),
        ApprovalDecided("A2", "e", "expired", ""),
        TURN,
    ]
    commit(store, accepted(1), for_run(1, START, *events, FINISH))
    commit(store, accepted(2, 2), for_run(2, START, RunFinished(RunState.RUNNING, RunState.FAILED, "limit_turns")))
    assert reader.used(ME, 0, 2000) == Used(
        runs=2,
        ended={RunState.DONE: 1, RunState.FAILED: 1},
        model_turns=2,
        usage=Usage(20, 8, 6),
        tools=(
            ToolUsage("files.read", proposed=3, succeeded=1, failed=1, denied_by_policy=1),
            ToolUsage("files.write", proposed=2, succeeded=1, not_approved=1),
        ),
        models=(ModelUsage("m", 2, Usage(20, 8, 6)),),
    )


def test_a_model_is_named_as_its_run_was_routed_whatever_its_server_calls_it(
    store: SqliteStore, reader: Reader
) -> None:
    routed = (RoutingDecision("scripted", "/a.json", "why"), RoutingDecision("openai", "large", "why"))
    commit(store, accepted(1), for_run(1, START, routed[0], TURN, routed[1], TURN, FINISH))
    assert [each.model for each in reader.used(ME, 0, 2000).models] == ["openai/large", "scripted//a.json"]


def test_another_principals_runs_do_not_count(store: SqliteStore, reader: Reader) -> None:
    commit(store, accepted(1, principal=BOB), for_run(1, START, TURN, FINISH))
    assert reader.used(ME, 0, 2000) == Used(0, {}, 0, Usage(), ())
    assert reader.used(HIM, 0, 2000).runs == 1


def test_each_event_counts_in_the_span_that_it_lies_in(store: SqliteStore, reader: Reader) -> None:
    commit(store, accepted(1), for_run(1, START), at_ms=100)
    commit(store, for_run(1, TURN, proposed("a", "t")), at_ms=200)
    commit(store, for_run(1, ToolFinished("a", "", 1)), at_ms=300)
    commit(store, for_run(1, FINISH), at_ms=400)
    first, second = reader.used(ME, 100, 300), reader.used(ME, 300, 401)
    assert (first.runs, first.model_turns, first.ended, first.tools) == (1, 1, {}, (ToolUsage("t", proposed=1),))
    assert (second.runs, second.model_turns, second.ended) == (0, 0, {RunState.DONE: 1})
    assert second.tools == (ToolUsage("t", succeeded=1),)
    assert reader.used(ME, 401, 500) == reader.used(ME, 0, 100) == Used(0, {}, 0, Usage(), ())


def test_a_live_run_counts_though_its_state_changed_before_the_span(store: SqliteStore, reader: Reader) -> None:
    commit(store, accepted(1), for_run(1, START), at_ms=100)
    commit(store, for_run(1, TURN), at_ms=900)
    assert reader.used(ME, 800, 1000).model_turns == 1


def test_spans_side_by_side_hold_what_lies_in_each_of_them_by_model(store: SqliteStore, reader: Reader) -> None:
    other = ModelTurn(2, "text", "stop", Usage(1, 0, 1), "n")
    commit(store, accepted(1), for_run(1, START, TURN), at_ms=100)
    commit(store, for_run(1, TURN, other, proposed("a", "t")), at_ms=200)
    commit(store, for_run(1, ToolFinished("a", "", 1, "tool_failed"), FINISH), at_ms=300)
    first, second, third = reader.used_between(ME, (100, 200, 300, 400))
    assert first.models == (ModelUsage("m", 1, Usage(10, 4, 3)),)
    assert second.models == (ModelUsage("m", 1, Usage(10, 4, 3)), ModelUsage("n", 1, Usage(1, 0, 1)))
    assert (second.model_turns, second.usage) == (2, Usage(11, 4, 4))
    assert third.tools == (ToolUsage("t", failed=1),)
    assert [each.runs for each in (first, second, third)] == [1, 0, 0]
    assert (first, second, third) == tuple(reader.used(ME, at, at + 100) for at in (100, 200, 300))


# --- what happened lately ---


def walk(reader: Reader, principal: Principal, most: int) -> tuple[list[int], int]:
    """Return the g of all rows, newest first, and how many pages that took."""
    found: list[int] = []
    before: int | None = None
    pages = 0
    while before != 0:
        page: RecentPage = reader.recent(principal, before, most)
        found += [row.g for row in page.rows]
        before, pages = page.before_g, pages + 1
    return found, pages


def two_peoples_work(store: SqliteStore) -> None:
    commit(store, opened(1), accepted(1), opened(2, BOB), accepted(2, 2, BOB))
    commit(store, for_run(1, START, delta(), delta(), TURN), for_run(2, START, FINISH), for_run(1, FINISH))


def test_the_newest_rows_of_ones_own_runs_and_sessions_come_first_and_deltas_not_at_all(
    store: SqliteStore, reader: Reader
) -> None:
    two_peoples_work(store)
    page = reader.recent(ME)
    assert [(row.stream.partition(":")[0], row.kind) for row in page.rows] == [
        ("run", FINISH.kind),
        ("run", TURN.kind),
        ("run", START.kind),
        ("run", 1),
        ("session", 64),
    ]
    assert page.rows[-1].stream == f"session:{session_id(1)}"
    assert page.before_g == 0


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_pages_of_any_size_hold_every_row_once(store: SqliteStore, reader: Reader, most: int) -> None:
    two_peoples_work(store)
    mine, pages = walk(reader, ME, most)
    assert mine == [row.g for row in reader.recent(ME).rows]
    assert pages >= len(mine) // most
    his, _ = walk(reader, HIM, most)
    assert not set(mine) & set(his)


def test_a_page_looks_at_so_many_rows_and_then_says_where_to_go_on(
    store: SqliteStore, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_peoples_work(store)
    whole = walk(reader, ME, 100)[0]
    monkeypatch.setattr(usage, "SCAN_ROWS", 2)
    assert walk(reader, ME, 100)[0] == whole


def test_a_page_is_bounded_by_bytes(store: SqliteStore, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    two_peoples_work(store)
    monkeypatch.setattr(usage, "PAGE_BYTES", 1)
    assert len(reader.recent(ME).rows) == 1


def test_nothing_has_happened_in_a_new_journal(reader: Reader) -> None:
    assert reader.recent(ME) == RecentPage((), 0)
