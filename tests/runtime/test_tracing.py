"""What spans a tape has: a tree that is whole, times and ids that are the tape's, and no content unless it is wanted."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.codec import KIND_NAMES, TapeRow, encode
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    FinalAnswer,
    ProviderAttempt,
    ProviderError,
    RunFinished,
    RunInterrupted,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    run_stream,
)
from palyra_trio.runtime.tracing import (
    ERROR,
    KINDS,
    NAME_CHARACTERS,
    SCHEMA_URL,
    TEXT_CHARACTERS,
    RunTrace,
    Span,
    span_id,
    trace_id,
)
from tests.core.tapes import (
    ASSEMBLED,
    CANCELLED,
    FAILED,
    FINISHED,
    PARKED,
    RESUMED,
    ROUTED,
    RUNNING,
    STARTED,
    asked_for,
    asks,
    begun,
    decided,
    gated,
    legal_tapes,
    proposed,
    request,
    result,
    said,
)

RUN_ID = "01K742SG000000000000000002"
AT_MS = 1_760_000_000_000
GOLDEN = Path(__file__).parents[1] / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "traces.md"
BEGINNING = (asked_for("the prompt"), STARTED, ROUTED, ASSEMBLED)
KIND_OF = {name: kind for kind, name in KIND_NAMES.items()}


def rows_of(events: Iterable[TapeEvent]) -> list[TapeRow]:
    """Return a tape on which each event comes 10 ms after the one before it."""
    return [
        TapeRow(seq, run_stream(RUN_ID), seq, event.kind, AT_MS + 10 * seq, encode(event), b"")
        for seq, event in enumerate(events, 1)
    ]


def spans_of(rows: Sequence[TapeRow], *, content: bool = False) -> list[Span]:
    trace = RunTrace(RUN_ID, content=content)
    return [span for row in rows if row.kind in KINDS for span in trace.take(row)]


def traced(*events: TapeEvent, content: bool = False) -> dict[str, Span]:
    """Return the spans of a run that begins as all do, by name."""
    return {span.name: span for span in spans_of(rows_of((*BEGINNING, *events)), content=content)}


def assert_tree(spans: Sequence[Span]) -> None:
    """Check what holds of every trace: one root, which ends last and spans all others, its children."""
    *children, root = spans
    assert (root.trace_id, root.span_id, root.parent_id) == (trace_id(RUN_ID), span_id(RUN_ID, 1), b"")
    assert len({span.span_id for span in spans}) == len(spans)
    for span in children:
        assert (span.trace_id, span.parent_id) == (root.trace_id, root.span_id)
        assert root.start_ms <= span.start_ms <= span.end_ms <= root.end_ms
        assert all(span.start_ms <= moment.at_ms <= span.end_ms for moment in span.moments)


# --- the tree ---


def test_the_id_of_a_trace_is_its_runs_and_can_be_looked_up_by_it() -> None:
    assert trace_id("00000000000000000000000001").hex() == "0" * 31 + "1"
    assert trace_id("7ZZZZZZZZZZZZZZZZZZZZZZZZZ").hex() == "f" * 32
    assert trace_id(RUN_ID).hex() == "0199c82cc00000000000000000000002"


def test_spans_begin_and_end_with_the_rows_that_tell_of_it() -> None:
    spans = traced(request(), said("", calls=1), proposed("c"), gated("c"), begun("c"), result("c"), FINISHED)
    assert {name: (span.start_ms - AT_MS, span.end_ms - AT_MS) for name, span in spans.items()} == {
        "chat m": (50, 60),
        "execute_tool files.read": (70, 100),
        "invoke_agent default": (10, 110),
    }
    assert [name for name, span in spans.items() if span.calls_out] == ["chat m"]


@given(legal_tapes())
def test_every_tape_is_a_tree_with_a_span_for_each_call_of_a_model_and_of_a_tool(tape: list[TapeEvent]) -> None:
    spans = spans_of(rows_of(tape))
    assert_tree(spans)
    names = [span.name.partition(" ")[0] for span in spans]
    assert names.count("execute_tool") == sum(isinstance(event, ToolProposed) for event in tape)
    assert names.count("chat") == sum(type(event) is type(request()) for event in tape)


@given(legal_tapes(), st.data())
def test_a_tape_of_which_anything_was_erased_is_a_tree_all_the_same(tape: list[TapeEvent], data: st.DataObject) -> None:
    rows = rows_of(tape)
    gone = data.draw(st.sets(st.integers(0, len(rows) - 2)))
    assert_tree(spans_of([row._replace(body=None) if index in gone else row for index, row in enumerate(rows)]))


def test_time_that_went_backwards_makes_no_span_of_a_negative_length() -> None:
    rows = rows_of((*BEGINNING, request(), said("x"), FINISHED))
    assert_tree(spans_of([row._replace(at_ms=AT_MS) if row.seq == 6 else row for row in rows]))


def golden_rows(path: Path) -> list[TapeRow]:
    lines = map(json.loads, path.read_text("utf-8").splitlines())
    return [
        TapeRow(
            seq, run_stream(RUN_ID), seq, KIND_OF[line["kind"]], AT_MS + seq, json.dumps(line["body"]).encode(), b""
        )
        for seq, line in enumerate(lines, 1)
    ]


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*runs/*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_recorded_runs_of_today_and_of_before_are_trees(path: Path) -> None:
    rows = golden_rows(path)
    spans = spans_of(rows)
    assert_tree(spans)
    ended = json.loads(rows[-1].body or b"")
    assert spans[-1].attributes["palyra.run.state"] == ended["state"]
    assert spans[-1].attributes.get(ERROR, "final_answer") == ended["reason"]


# --- what a span tells ---


def test_a_run_tells_who_did_it_with_what_and_what_it_used() -> None:
    spans = traced(request(), said("a"), request(2), said("b", 2), FINISHED)
    assert dict(spans["invoke_agent default"].attributes) == {
        "palyra.run.id": RUN_ID,
        "palyra.run.state": "done",
        "palyra.run.reason": "final_answer",
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "default",
        "gen_ai.conversation.id": "S",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.output_tokens": 4,
    }


def test_a_model_call_tells_which_model_why_it_stopped_and_what_it_used() -> None:
    span = traced(request(), said("a"), FINISHED)["chat m"]
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "S",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
    }


def test_a_tool_call_tells_its_tool_and_what_happened_to_it_before_it_started() -> None:
    waited = (gated("c", "ask"), asks("c"), PARKED, decided("c", "granted"), RESUMED, gated("c"))
    span = traced(proposed("c"), *waited, begun("c"), result("c"), FINISHED)["execute_tool files.read"]
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.conversation.id": "S",
        "gen_ai.provider.name": "scripted",
        "gen_ai.tool.name": "files.read",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "c",
    }
    assert [(each.name, each.at_ms - AT_MS, dict(each.attributes)) for each in span.moments] == [
        ("palyra.policy", 60, {"palyra.outcome": "ask", "palyra.rule": "rule"}),
        ("palyra.approval.requested", 70, {}),
        ("palyra.approval.decided", 90, {"palyra.outcome": "granted"}),
        ("palyra.policy", 110, {"palyra.outcome": "allow", "palyra.rule": "rule"}),
        ("palyra.tool.started", 120, {"palyra.sandbox_tier": 0}),
    ]


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([gated("c", "deny")], "denied"),
        ([gated("c", "ask"), asks("c"), decided("c", "denied", "no")], "denied"),
        ([gated("c", "ask"), asks("c"), decided("c", "expired")], "expired"),
        ([gated("c"), begun("c"), ToolFinished("c", "it is not there", 3, "not_found")], "not_found"),
        ([gated("c"), begun("c")], "cancelled"),
    ],
)
def test_a_tool_call_that_came_to_nothing_failed_and_says_how(events: list[TapeEvent], error: str) -> None:
    spans = traced(proposed("c"), *events, RunFinished(RUNNING, CANCELLED, "cancelled", "by user:alice"))
    assert spans["execute_tool files.read"].attributes[ERROR] == error
    assert spans["invoke_agent default"].attributes[ERROR] == "cancelled"


def test_a_model_call_that_failed_says_how_and_how_often_it_was_tried() -> None:
    tried = ProviderAttempt(1, 1, "overloaded", "no room", 500)
    failed = (ProviderError(1, "auth", "the key is wrong"), RunFinished(RUNNING, FAILED, "provider_auth"))
    spans = traced(request(), tried, *failed)
    assert spans["chat m"].attributes[ERROR] == "auth"
    assert spans["invoke_agent default"].attributes[ERROR] == "provider_auth"
    (retry,) = spans["chat m"].moments
    assert (retry.name, dict(retry.attributes)) == (
        "palyra.provider.retry",
        {ERROR: "overloaded", "palyra.wait_ms": 500},
    )


def test_a_model_call_that_an_end_of_the_process_cut_off_failed_and_the_run_that_goes_on_did_not() -> None:
    spans = spans_of(rows_of((*BEGINNING, request(), RunInterrupted("boot-2"), request(1), said("x"), FINISHED)))
    assert [span.attributes.get(ERROR) for span in spans] == ["interrupted", None, None]


@pytest.mark.parametrize(("last", "idle"), [(STARTED, False), (PARKED, True), (RESUMED, False), (FINISHED, True)])
def test_nothing_needs_to_be_kept_of_a_run_that_waits_or_has_ended(last: TapeEvent, idle: bool) -> None:
    trace = RunTrace(RUN_ID, content=False)
    for row in rows_of((asked_for(), last)):
        trace.take(row)
    assert trace.idle is idle


# --- content ---

CONFIDENTIAL = "hush"
TOLD = (
    asked_for(f"{CONFIDENTIAL} prompt"),
    STARTED,
    ROUTED,
    ASSEMBLED,
    request(),
    said(f"{CONFIDENTIAL} text", calls=2),
    ToolProposed(ToolCall("c", "files.read", {"path": f"{CONFIDENTIAL}.txt"})),
    ToolProposed(ToolCall("d", "files.read", malformed=f"{CONFIDENTIAL} no JSON")),
    gated("c"),
    begun("c"),
    result("c", f"{CONFIDENTIAL} result"),
    gated("d", "ask"),
    asks("d"),
    decided("d", "denied", f"{CONFIDENTIAL} reason"),
    request(2),
    ProviderAttempt(2, 1, "overloaded", f"{CONFIDENTIAL} no room", 500),
    ProviderError(2, "auth", f"{CONFIDENTIAL} message"),
    FinalAnswer(f"{CONFIDENTIAL} answer", "scripted", "m"),
    RunFinished(RUNNING, FAILED, "provider_auth", f"{CONFIDENTIAL} detail"),
)


def test_no_word_of_a_person_a_model_or_a_tool_is_told_unless_it_is_wanted() -> None:
    assert CONFIDENTIAL not in repr(spans_of(rows_of(TOLD)))


def test_all_of_it_is_told_where_it_is_wanted() -> None:
    chat, read, refused, failed, run = spans_of(rows_of(TOLD), content=True)
    assert run.attributes["gen_ai.input.messages"] == (
        '[{"parts":[{"content":"hush prompt","type":"text"}],"role":"user"}]'
    )
    assert json.loads(str(run.attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hush answer"}], "finish_reason": "stop"}
    ]
    assert json.loads(str(chat.attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hush text"}], "finish_reason": "tool_calls"}
    ]
    assert read.attributes["gen_ai.tool.call.arguments"] == '{"path":"hush.txt"}'
    assert read.attributes["gen_ai.tool.call.result"] == "hush result"
    assert refused.attributes["gen_ai.tool.call.arguments"] == "hush no JSON"
    assert [span.why for span in (chat, read, refused, failed, run)] == [
        "",
        "",
        "hush reason",
        "hush message",
        "hush detail",
    ]


def test_a_long_content_is_cut() -> None:
    long = "x" * (2 * TEXT_CHARACTERS)
    events = (asked_for(long), proposed("c"), begun("c"), result("c", long), RunFinished(RUNNING, FAILED, "f", long))
    for span in spans_of(rows_of(events), content=True):
        assert "x" * TEXT_CHARACTERS in repr(span)
        assert "x" * (TEXT_CHARACTERS + 1) not in repr(span)


def test_a_long_name_that_a_model_made_up_is_cut() -> None:
    call = ToolProposed(ToolCall("c" * 1000, "t" * 1000))
    *_, span, _run = traced(call, RunFinished(RUNNING, FAILED, "f")).values()
    assert span.name == f"execute_tool {'t' * NAME_CHARACTERS}"
    assert {len(str(span.attributes[f"gen_ai.tool.{key}"])) for key in ("name", "call.id")} == {NAME_CHARACTERS}


# --- the conventions ---


def test_the_page_about_traces_names_the_version_and_every_attribute() -> None:
    page = DOCS.read_text("utf-8")
    spans = spans_of(rows_of(TOLD), content=True) + spans_of(rows_of((*BEGINNING, request(), said("x"), FINISHED)))
    names = {name for span in spans for name in span.attributes}
    names |= {name for span in spans for moment in span.moments for name in (moment.name, *moment.attributes)}
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert SCHEMA_URL in page
    assert f"{TEXT_CHARACTERS:,} characters" in page
    assert RunState.CANCELLED in page
