"""What a principal's runs did lately and what they used: questions over many tapes, for a `Reader` to be asked.

Nothing is counted in advance: a commit pays nothing for these, and who asks pays for what is read.
"""

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

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
    RoutingDecision,
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
class ModelUsage:
    """What the turns of a model used. It is named as runs are routed, `provider/model`."""

    model: str
    turns: int = 0
    usage: Usage = Usage()


@attrs.frozen
class Used:
    """What was used in a span of time. `ended` counts the runs that ended in it, by how they ended."""

    runs: int
    ended: dict[RunState, int]
    model_turns: int
    usage: Usage
    tools: tuple[ToolUsage, ...]
    models: tuple[ModelUsage, ...] = ()


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


class _Proposed(msgspec.Struct, frozen=True):
    call_id: str = ""
    tool: str = ""


class _Facts(msgspec.Struct, frozen=True):
    """What of a body is counted; the rest of it is passed over."""

    call_id: str = ""
    call: _Proposed = _Proposed()
    outcome: str = ""
    error: str = ""
    state: str = ""
    provider: str = ""
    model: str = ""
    usage: Usage = Usage()


_decode = msgspec.json.Decoder(_Facts).decode
_COUNTED = f"""
    SELECT ev.stream, ev.kind, ev.at_ms, ev.body
    FROM run JOIN stream ON stream.name = 'run:' || run.run_id JOIN ev ON ev.stream = stream.id
    WHERE run.principal = :principal AND run.created_ms < :to_ms
      AND (run.updated_ms >= :from_ms OR run.state NOT IN ('done', 'failed', 'cancelled'))
      AND ev.kind IN ({Input.kind}, {RunFinished.kind}, {ModelTurn.kind}, {ToolProposed.kind}, {PolicyDecision.kind},
        {ApprovalDecided.kind}, {ToolFinished.kind}, {RoutingDecision.kind}) AND ev.body IS NOT NULL
    ORDER BY run.rowid, ev.seq"""


def used(db: sqlite3.Connection, principal: Principal, bounds: Sequence[int]) -> tuple[Used, ...]:
    """Return what a principal's runs used in each span between two neighbours of `bounds`, Unix milliseconds that ascend.

    A span ends before its second bound. Erased rows do not count. 100,000 events take about 0.1 s.
    """
    spans = len(bounds) - 1
    tool_of: dict[tuple[int, str], str] = {}
    model_of: dict[int, str] = {}
    tallies = [Counter[tuple[str, str]]() for _ in range(spans)]  # what happened, to which tool or state
    turns = [dict[str, list[int]]() for _ in range(spans)]  # of a model: turns, tokens in, cached, out
    from_ms, to_ms = bounds[0], bounds[-1]
    for stream, kind, at_ms, body in db.execute(_COUNTED, {"principal": principal, "from_ms": from_ms, "to_ms": to_ms}):
        facts = _decode(body)
        call_id = facts.call_id or facts.call.call_id
        if kind == ToolProposed.kind:
            tool_of[stream, call_id] = facts.call.tool
        elif kind == RoutingDecision.kind:
            model_of[stream] = f"{facts.provider}/{facts.model}"
        if not from_ms <= at_ms < to_ms:
            continue
        span = bisect_right(bounds, at_ms) - 1
        if kind == ModelTurn.kind:
            model = model_of.get(stream, facts.model)
            sums, usage = turns[span].setdefault(model, [0, 0, 0, 0]), facts.usage
            sums[0] += 1
            sums[1] += usage.input_tokens
            sums[2] += usage.cached_input_tokens
            sums[3] += usage.output_tokens
        elif kind == Input.kind:
            tallies[span]["runs", ""] += 1
        elif kind == RunFinished.kind:
            tallies[span]["ended", facts.state] += 1
        elif came_to := _came_to(kind, facts):
            tallies[span][came_to, tool_of.get((stream, call_id), "")] += 1
    return tuple(map(_used, tallies, turns))


def _used(tally: Mapping[tuple[str, str], int], turns: Mapping[str, Sequence[int]]) -> Used:
    runs, ended, calls = 0, dict[RunState, int](), dict[str, dict[str, int]]()
    for (what, name), count in tally.items():
        if what == "runs":
            runs = count
        elif what == "ended":
            ended[RunState(name)] = count
        else:
            calls.setdefault(name, {})[what] = count
    models = tuple(ModelUsage(model, sums[0], Usage(*sums[1:])) for model, sums in sorted(turns.items()))
    return Used(
        runs,
        ended,
        sum(each.turns for each in models),
        sum((each.usage for each in models), Usage()),
        tuple(ToolUsage(tool, **calls[tool]) for tool in sorted(calls)),
        models,
    )


def _came_to(kind: int, facts: _Facts) -> str:
    """Return what an event says of its call, as a field of ToolUsage; empty where it says nothing final."""
    if kind == ToolProposed.kind:
        return "proposed"
    if kind == ToolFinished.kind:
        return "failed" if facts.error else "succeeded"
    if kind == PolicyDecision.kind and facts.outcome == "deny":
        return "denied_by_policy"
    if kind == ApprovalDecided.kind and facts.outcome != "granted":
        return "not_approved"
    return ""
