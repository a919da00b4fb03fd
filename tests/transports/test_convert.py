"""Between messages and values: there and back is where it began, and what a message may not say is refused."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.agents import DEFAULT_INSTRUCTIONS, AgentSpec, Limits
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.codec import KIND_NAMES, TapeRow
from palyra_trio.core.commands import NewAttachment, StartRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, RunId, Scope, SessionId
from palyra_trio.core.messages import Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.session import Session, SessionRef, WhenBusy
from palyra_trio.core.tape import FileChange
from palyra_trio.core.tokens import Token
from palyra_trio.journal.queries import PAGE_BYTES, RunSummary
from palyra_trio.journal.usage import ToolUsage, Used
from palyra_trio.pb import agents_pb2, runs_pb2, tape_pb2, tokens_pb2
from palyra_trio.runtime.agents import Answering, KnownAgent
from palyra_trio.transports.convert import (
    RECENT_BODY_BYTES,
    agent_message,
    agent_of_message,
    agent_spec,
    answering_message,
    binding_place,
    change_message,
    cut,
    fill_page,
    journal_row,
    put_row,
    run_message,
    run_states,
    scopes,
    session_message,
    session_ref,
    start_run,
    state_number,
    token_message,
    usage_message,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=3)
RUN = "01RUN"


def row(seq: int, body: bytes | None, kind: int = 20) -> TapeRow:
    return TapeRow(seq + 100, f"run:{RUN}", seq, kind, 5, body, bytes([seq % 256]) * 32)


def joined(items: list[tape_pb2.TapeItem]) -> list[tuple[int, bytes | None]]:
    """Return seq and body of each row, with the parts of a body put together."""
    found: list[tuple[int, bytes | None]] = []
    more = False
    for item in items:
        body = item.body if item.HasField("body") else None
        if more:
            seq, before = found.pop()
            assert seq == item.seq
            assert before is not None
            assert body is not None
            body = before + body
        found.append((item.seq, body))
        more = item.more
    assert not more
    return found


# --- enumerations ---


@pytest.mark.parametrize(
    ("numbers", "values"),
    [
        (runs_pb2.RunState, RunState),
        (runs_pb2.WhenBusy, WhenBusy),
        (tokens_pb2.Scope, Scope),
    ],
    ids=["RunState", "WhenBusy", "Scope"],
)
def test_an_enumeration_has_every_value_of_ours_and_no_other(numbers: Any, values: Any) -> None:
    assert {name.rpartition("_")[2].lower() for name in numbers.keys()} - {"unspecified"} == set(values)  # ruff: ignore[in-dict-keys]


def test_every_state_goes_there_and_back() -> None:
    assert run_states(map(state_number, RunState)) == tuple(RunState)


def test_every_scope_goes_there_and_back() -> None:
    every = tokens_pb2.Scope.values()[1:]
    assert scopes(every) == tuple(Scope)


@pytest.mark.parametrize("number", [0, 99])
def test_a_number_without_a_meaning_is_refused(number: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"{number} is no RunState"):
        run_states([number])
    with pytest.raises(InvalidArgument, match=f"{number} is no Scope"):
        scopes([number])
    with pytest.raises(InvalidArgument, match="99 is no WhenBusy"):
        start_run(runs_pb2.StartRun(when_busy=99))  # type: ignore[arg-type]


def test_every_target_has_a_field_and_a_rule() -> None:
    assert binding_place(agents_pb2.BindingTarget(session_id="S")) == BindingPlace(Target.SESSION, "S")
    assert binding_place(agents_pb2.BindingTarget(channel="c")) == BindingPlace(Target.CHANNEL, "c")
    assert binding_place(agents_pb2.BindingTarget(principal="p")) == BindingPlace(Target.PRINCIPAL, "p")
    agent = KnownAgent(AgentSpec("a"), Limits(), is_default=True)
    rules = {answering_message(Answering(agent, target)).rule for target in (None, *Target)}
    assert rules == set(agents_pb2.AgentRule.values()) - {0}
    with pytest.raises(InvalidArgument, match="the target is missing"):
        binding_place(agents_pb2.BindingTarget())


# --- commands ---


def test_a_prompt_says_all_that_a_command_can_say() -> None:
    message = runs_pb2.StartRun(
        text="do it",
        run_id="R",
        session=runs_pb2.SessionRef(session_id="S", key="k", require_existing=True),
        agent="a",
        model="p/m",
        workspace="/w",
        attachments=[runs_pb2.Attachment(name="n", media_type="text/plain", data=b"\x00")],
        attended=True,
        detached=True,
        allowed_tools=["t"],
        when_busy=runs_pb2.WHEN_BUSY_INTERRUPT,
    )
    command = StartRun(
        text="do it",
        run_id=RunId("R"),
        session=SessionRef(SessionId("S"), "k", require_existing=True),
        agent="a",
        model="p/m",
        workspace="/w",
        attachments=(NewAttachment("n", "text/plain", b"\x00"),),
        attended=True,
        detached=True,
        allowed_tools=("t",),
        when_busy=WhenBusy.INTERRUPT,
    )
    assert start_run(message) == command
    assert {field.name for field in message.DESCRIPTOR.fields} == {field.name for field in attrs.fields(StartRun)}
    assert {field.name for field, _ in message.ListFields()} == {field.name for field in attrs.fields(StartRun)}


def test_an_empty_prompt_names_nothing_and_nobody_is_there() -> None:
    assert start_run(runs_pb2.StartRun()) == StartRun("", attended=False)
    assert session_ref("", "", False) == SessionRef()


@given(
    st.builds(
        AgentSpec,
        name=TEXT,
        model=TEXT,
        instructions=TEXT.filter(bool),
        tools=st.none() | st.lists(TEXT, max_size=3, unique=True).map(tuple),
        limits=st.builds(Limits, *[st.integers(0, 2**32 - 1)] * 4),
        answer_schema=st.none() | JSON,
    ),
    st.booleans(),
)
def test_an_agent_goes_there_and_back(spec: AgentSpec, is_default: bool) -> None:
    agent = KnownAgent(spec, spec.limits.narrowed(Limits()), is_default)
    assert agent_of_message(agents_pb2.Agent.FromString(agent_message(agent).SerializeToString())) == agent


def test_what_an_agent_leaves_out_has_its_default() -> None:
    spec = agent_spec(agents_pb2.AgentSpec(name="a", limits=agents_pb2.Limits(turns=7)))
    assert spec == AgentSpec("a", instructions=DEFAULT_INSTRUCTIONS, tools=None, limits=Limits(7, 0, 0, 0))
    assert agent_spec(agents_pb2.AgentSpec(name="a", tools=agents_pb2.ToolNames())).tools == ()


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "null", '{"items":' * 20_000], ids=range(5))
def test_a_schema_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no JSON object"):
        agent_spec(agents_pb2.AgentSpec(name="a", answer_schema_json=text))


# --- rows ---


@given(st.lists(st.none() | st.integers(0, 2 * PAGE_BYTES).map(lambda size: b"x" * size), min_size=1, max_size=6))
def test_pages_hold_every_row_byte_for_byte_and_none_is_too_large(bodies: list[bytes | None]) -> None:
    rows = [row(seq, body) for seq, body in enumerate(bodies, 1)]
    items: list[tape_pb2.TapeItem] = []
    after, offset = 0, 0
    while after < len(rows):
        page = tape_pb2.ReadTapeResponse(run_id=RUN)
        fill_page(page, rows[after:], offset)
        assert sum(len(item.body) for item in page.items) <= PAGE_BYTES
        items += page.items
        last = page.items[-1]
        after, offset = (last.seq - 1, offset + len(last.body)) if last.more else (last.seq, 0)
    assert joined(items) == list(enumerate(bodies, 1))


def told(row: TapeRow, begin: int = 0) -> tape_pb2.TapeItem:
    item = tape_pb2.TapeItem()
    assert put_row(item, RUN, row, begin) == len(item.body)
    return item


def test_a_row_is_told_whole() -> None:
    item = told(row(7, b"{}"))
    assert (item.run_id, item.seq, item.g, item.at_ms, item.kind_number) == (RUN, 7, 107, 5, 20)
    assert (item.kind, item.hash, item.body, item.more) == (KIND_NAMES[20], b"\x07" * 32, b"{}", False)


def test_a_kind_that_is_not_known_is_named_by_its_number() -> None:
    assert told(row(1, b"{}", kind=999)).kind == "999"


@pytest.mark.parametrize("body", [None, b"", b"abc"])
def test_a_part_that_begins_beyond_the_body_is_refused(body: bytes | None) -> None:
    with pytest.raises(InvalidArgument, match="does not reach byte 3"):
        told(row(1, body), 3)


def test_a_large_body_is_left_out_of_a_journal_row() -> None:
    assert journal_row(row(1, b"x" * RECENT_BODY_BYTES)).HasField("body")
    assert not journal_row(row(1, b"x" * (RECENT_BODY_BYTES + 1))).HasField("body")
    assert not journal_row(row(1, None)).HasField("body")


# --- what else is told ---


def test_a_run_is_told_whole() -> None:
    run = RunSummary(
        RunId("R"), SessionId("S"), Principal("p:p"), "a", "/w", "t", RunState.WAITING, "approval", "B", 1, 2
    )
    message = run_message(run)
    for field in attrs.fields(RunSummary):
        expected = runs_pb2.RUN_STATE_WAITING if field.name == "state" else getattr(run, field.name)
        assert getattr(message, field.name) == expected
    assert {field.name for field in message.DESCRIPTOR.fields} == {field.name for field in attrs.fields(RunSummary)}


def test_a_session_says_whether_it_has_a_key_and_whether_it_is_archived() -> None:
    open_one = session_message(Session(SessionId("S"), Principal("p:p"), "k", "t", 1))
    assert (open_one.key, open_one.HasField("archived_ms")) == ("k", False)
    archived = session_message(Session(SessionId("S"), Principal("p:p"), None, "t", 1, 0))
    assert (archived.key, archived.HasField("archived_ms"), archived.archived_ms) == ("", True, 0)


def test_a_change_says_where_there_is_no_file() -> None:
    created = change_message(FileChange("x", None, "aa"))
    assert (created.path, created.HasField("before"), created.after) == ("x", False, "aa")


def test_a_token_is_told_without_its_hash() -> None:
    token = Token("T", "n", Principal("p:p"), (Scope.RUN, Scope.ADMIN), "00ff" * 16, 9, 1, "p:q", 3)
    message = token_message(token)
    assert b"00ff" not in message.SerializeToString()
    assert list(message.scopes) == [tokens_pb2.SCOPE_RUN, tokens_pb2.SCOPE_ADMIN]
    assert (message.token_id, message.name, message.principal, message.created_by) == ("T", "n", "p:p", "p:q")
    assert (message.created_ms, message.expires_ms, message.revoked_ms) == (1, 9, 3)


def test_what_was_used_is_told_whole() -> None:
    ended = {RunState.DONE: 1, RunState.FAILED: 2, RunState.CANCELLED: 3}
    message = usage_message("p:p", Used(9, ended, 8, Usage(5, 6, 7), (ToolUsage("t", 1, 2, 3, 4, 5),)))
    assert (message.runs, message.runs_done, message.runs_failed, message.runs_cancelled) == (9, 1, 2, 3)
    assert (message.model_turns, message.input_tokens, message.cached_input_tokens) == (8, 5, 6)
    assert (message.output_tokens, message.principal) == (7, "p:p")
    (tool,) = message.tool_calls
    assert (tool.tool, tool.proposed, tool.succeeded, tool.failed) == ("t", 1, 2, 3)
    assert (tool.denied_by_policy, tool.not_approved) == (4, 5)


@given(TEXT, st.integers(0, 40))
def test_a_text_is_cut_between_characters(text: str, most: int) -> None:
    kept, is_cut = cut(text, most)
    assert text.startswith(kept)
    assert len(kept.encode()) <= most
    assert is_cut == (kept != text)
    assert not is_cut or len(text[: len(kept) + 1].encode()) > most
