"""What a principal's runs did lately and what they used: questions over many tapes, for a `Reader` to be asked.

Nothing is counted in advance: a commit pays nothing for these, and who asks pays for what is read.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator

import attrs
import msgspec

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.identity import Principal
from palyra_trio.core.messages import Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    RUN_STREAM,
    SESSION_STREAM,
    ApprovalDecided,
    Input,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    RunFinished,
    ToolFinished,
    ToolProposed,
)

SCAN_ROWS = 100_000  # of the journal, for one page of recent events: about 40 ms
PAGE_BYTES = 2 * 1024 * 1024


@attrs.frozen
class RecentPage:
    """Rows, newest first. The next page is that before `before_g`; 0 when there is none."""

    rows: tuple[TapeRow, ...]
    before_g: int


@attrs.frozen
class ToolUsage:
    """What became of the calls of a tool. A call counts where its event lies in the span."""

    tool: str
    proposed: int = 0
    succeeded: int = 0
    failed: int = 0
    denied_by_policy: int = 0
    not_approved: int = 0


@attrs.frozen
class Used:
    """What was used in a span of time. `ended` counts the runs that ended in it, by how they ended."""

    runs: int
    ended: dict[RunState, int]
    model_turns: int
    usage: Usage
    tools: tuple[ToolUsage, ...]


def recent_events(db: sqlite3.Connection, principal: Principal, before_g: int | None, most: int) -> RecentPage:
    """Return the newest rows of a principal's runs and sessions below `before_g`, without streamed pieces of text.

    At most `most` rows, about 2 MiB of bodies, and what is found among the next 100,000 rows of the journal.
    """
    (newest,) = db.execute("SELECT coalesce(max(g), 0) FROM ev").fetchone()
    top = min(newest + 1, before_g if before_g is not None else newest + 1)
    floor = max(1, top - SCAN_ROWS)
    found, size = [], 0
    for row in _rows(db, principal, floor, top):
        found.append(row)
        size += len(row.body or b"")
        if len(found) == most or size > PAGE_BYTES:
            return RecentPage(tuple(found), row.g if row.g > 1 else 0)
    return RecentPage(tuple(found), floor if floor > 1 else 0)


def _rows(db: sqlite3.Connection, principal: Principal, floor: int, top: int) -> Iterator[TapeRow]:
    for row in db.execute(
        "SELECT ev.g, stream.name, ev.seq, ev.kind, ev.at_ms, ev.body, ev.hash"
        " FROM ev JOIN stream ON stream.id = ev.stream WHERE ev.g >= ? AND ev.g < ? AND ev.kind != ? AND ? IN ("
        " (SELECT run.principal FROM run WHERE run.run_id = substr(stream.name, ?) AND stream.name LIKE 'run:%'),"
        " (SELECT session.principal FROM session"
        "   WHERE session.session_id = substr(stream.name, ?) AND stream.name LIKE 'session:%'))"
        " ORDER BY ev.g DESC",
        (floor, top, ModelDelta.kind, principal, len(RUN_STREAM) + 1, len(SESSION_STREAM) + 1),
    ):
        yield TapeRow(*row)


_FACTS = msgspec.json.Decoder(
    tuple[str | None, str | None, str | None, str | None, str | None, str | None, Usage | None]
)
_FOLDED = f"""
    SELECT ev.stream, ev.kind, ev.at_ms >= :from_ms AND ev.at_ms < :to_ms, json_extract(
      CAST(ev.body AS TEXT), '$.call_id', '$.call.call_id', '$.call.tool', '$.outcome', '$.error', '$.state', '$.usage')
    FROM run JOIN stream ON stream.name = 'run:' || run.run_id JOIN ev ON ev.stream = stream.id
    WHERE run.principal = :principal AND run.created_ms < :to_ms
      AND (run.updated_ms >= :from_ms OR run.state NOT IN ('done', 'failed', 'cancelled'))
      AND ev.kind IN ({Input.kind}, {RunFinished.kind}, {ModelTurn.kind}, {ToolProposed.kind}, {PolicyDecision.kind},
        {ApprovalDecided.kind}, {ToolFinished.kind}) AND ev.body IS NOT NULL
    ORDER BY run.rowid, ev.seq"""


def used(db: sqlite3.Connection, principal: Principal, from_ms: int, to_ms: int) -> Used:
    """Return what a principal's runs used from `from_ms` up to `to_ms`, exclusive. Erased rows do not count."""
    counted: Counter[int] = Counter()
    ended: Counter[RunState] = Counter()
    calls: dict[str, Counter[str]] = {}
    tool_of: dict[tuple[int, str | None], str] = {}
    spent = Usage()
    for stream, kind, in_span, facts in db.execute(
        _FOLDED, {"principal": principal, "from_ms": from_ms, "to_ms": to_ms}
    ):
        call_id, proposed_id, tool, outcome, error, state, usage = _FACTS.decode(facts)
        if kind == ToolProposed.kind:
            tool_of[stream, proposed_id] = tool or ""
        if not in_span:
            continue
        counted[kind] += 1
        if state is not None:
            ended[RunState(state)] += 1
        if usage is not None:
            spent += usage
        if came_to := _came_to(kind, outcome, error):
            calls.setdefault(tool_of.get((stream, call_id or proposed_id), ""), Counter())[came_to] += 1
    tools = tuple(ToolUsage(tool, **calls[tool]) for tool in sorted(calls))
    return Used(counted[Input.kind], dict(ended), counted[ModelTurn.kind], spent, tools)


def _came_to(kind: int, outcome: str | None, error: str | None) -> str:
    """Return what an event says of its call, as a field of ToolUsage; empty where it says nothing final."""
    if kind == ToolProposed.kind:
        return "proposed"
    if kind == ToolFinished.kind:
        return "failed" if error else "succeeded"
    if kind == PolicyDecision.kind and outcome == "deny":
        return "denied_by_policy"
    if kind == ApprovalDecided.kind and outcome != "granted":
        return "not_approved"
    return ""
