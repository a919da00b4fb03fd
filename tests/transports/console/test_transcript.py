"""The blocks of a run: what each event makes of them, and that changes come to what a reload shows."""

from collections.abc import Sequence

import attrs
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    CancelRequested,
    Correction,
    FileChange,
    FinalAnswer,
    Input,
    LimitReached,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderAttempt,
    ProviderError,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.transports.console.transcript import Asked, Call, End, Grown, Note, RunStory, Said

RUN = "01RUN"
ASKED = Input("01SESSION", "user:me", "", "test", "do <b>it</b>", "", agent=AgentSpec("default"))


def rows(*events: TapeEvent) -> list[TapeRow]:
    return [
        TapeRow(seq, f"run:{RUN}", seq, each.kind, seq * 1000, encode(each), b"") for seq, each in enumerate(events, 1)
    ]


def call(name: str = "c1", tool: str = "files.write") -> ToolProposed:
    return ToolProposed(ToolCall(name, tool, {"path": "a", "text": "<script>"}))


def turn(number: int, text: str, calls: int = 0) -> ModelTurn:
    return ModelTurn(number, text, "tool_calls" if calls else "stop", Usage(10, 0, 5), "m", calls)


WHOLE: Sequence[TapeEvent] = (
    ASKED,
    StatusChange(RunState.QUEUED, RunState.RUNNING),
    RoutingDecision("fake", "model", "said so"),
    ProviderRequest(1, 0, (), "t"),
    ProviderAttempt(1, 1, "timeout", "it was slow", 500),
    ModelDelta(1, "Let me "),
    ModelDelta(1, "<look>"),
    turn(1, "Let me <look>", 2),
    call("c1"),
    call("c2", "process.run"),
    PolicyDecision("c1", "ask", "r", "it writes", "d"),
    PolicyDecision("c2", "allow", "r", "it reads", "d"),
    ApprovalRequested("a1", "c1", "files.write asks: why\n  file  a (new)\n+x", 0, "files.write"),
    ToolStarted("c2", "k", sandbox_tier=4),
    ToolOutput("c2", "stdout", "one\n"),
    ToolOutput("c2", "stdout", "two\n"),
    OutputKept("c2", "00", 8),
    ToolFinished("c2", "one\ntwo\n", 12),
    StatusChange(RunState.RUNNING, RunState.WAITING, "approval"),
    ApprovalDecided("a1", "c1", "granted", "user:me"),
    StatusChange(RunState.WAITING, RunState.RUNNING),
    ToolStarted("c1", "k", (FileChange("a", None, "00"),), "a1"),
    ToolFinished("c1", "wrote a", 3),
    ProviderRequest(2, 0, (), "t"),
    ModelDelta(2, "{"),
    turn(2, "{", 0),
    Correction("be JSON"),
    ProviderRequest(3, 0, (), "t"),
    ModelDelta(3, "Done "),
    ModelDelta(3, "now."),
    turn(3, "Done now."),
    FinalAnswer("Done now.", "fake", "model"),
    RunFinished(RunState.RUNNING, RunState.DONE, "final_answer"),
)


def story(*events: TapeEvent) -> RunStory:
    return RunStory(RUN).add_all(rows(*events))


def of(kind: type, told: RunStory) -> list:  # type: ignore[type-arg]
    return [each for each in told.blocks.values() if isinstance(each, kind)]


def test_a_run_is_told_in_the_order_of_its_tape() -> None:
    told = story(*WHOLE)
    kinds = [type(each).__name__ for each in told.blocks.values()]
    assert kinds == ["Asked", "Note", "Said", "Call", "Call", "Said", "Note", "Said"]
    assert (told.end.word, told.end.turns, told.end.usage, told.end.changed) == ("done", 3, Usage(30, 0, 15), True)
    assert told.end.ended_ms - told.end.began_ms == (len(WHOLE) - 1) * 1000


def test_a_call_says_how_it_stands() -> None:
    def word(upto: int, index: int) -> tuple[str, str]:
        found: Call = of(Call, story(*WHOLE[:upto]))[index]
        return found.word, found.said

    kinds = [type(each).__name__ for each in WHOLE]
    assert word(kinds.index("ToolProposed") + 1, 0) == ("proposed", "proposed")
    assert word(kinds.index("ApprovalRequested") + 1, 0) == ("asked", "waits for you")
    assert word(kinds.index("ToolStarted") + 1, 1) == ("running", "running")
    assert word(kinds.index("ToolFinished") + 1, 1) == ("done", "12 ms")
    assert word(kinds.index("ApprovalDecided") + 1, 0) == ("asked", "allowed")


def test_a_call_that_was_refused_says_by_whom_and_why() -> None:
    begun = (*WHOLE[:4], turn(1, "", 1), call())
    (refused,) = of(Call, story(*begun, PolicyDecision("c1", "deny", "r", "never", "d")))
    assert (refused.word, refused.said, refused.preview) == ("denied", "refused", "never")
    asked = (*begun, PolicyDecision("c1", "ask", "r", "why", "d"), ApprovalRequested("a1", "c1", "p"))
    (denied,) = of(Call, story(*asked, ApprovalDecided("a1", "c1", "denied", "user:me", "not now")))
    assert (denied.word, denied.said, denied.preview, denied.question) == ("denied", "denied", "not now", None)


def test_a_failed_call_says_so() -> None:
    kinds = [type(each).__name__ for each in WHOLE]
    until = WHOLE[: kinds.index("ToolFinished")]
    (_, failed) = of(Call, story(*until, ToolFinished("c2", "no", 1500, "timeout")))
    assert (failed.word, failed.said) == ("failed", "failed (timeout) after 1.5 s")


def test_all_of_a_result_is_offered_only_where_a_part_is_shown() -> None:
    _, kept = of(Call, story(*WHOLE))
    assert kept.size_bytes == 8
    first, _ = of(Call, story(*WHOLE))
    assert first.size_bytes == 0


def test_troubles_are_noted() -> None:
    told = story(
        *WHOLE[:4],
        ProviderError(1, "auth", "no key", "set one"),
        LimitReached("turns", 5),
        CancelRequested("user:me", "enough"),
    )
    notes: list[Note] = of(Note, told)
    assert [(each.kind, each.text, each.remedy) for each in notes] == [
        ("bad", "no key", "set one"),
        ("bad", "Limit reached: 5 turns", ""),
        ("info", "Stopped by user:me: enough", ""),
    ]


def test_a_run_that_is_being_stopped_says_so() -> None:
    stopping = (*WHOLE[:7], CancelRequested("user:me"))
    assert story(*stopping).end.stopping
    ended = RunFinished(RunState.RUNNING, RunState.CANCELLED, "cancelled")
    assert not story(*stopping, ended).end.stopping


def test_what_was_erased_is_said_to_be() -> None:
    whole = rows(*WHOLE)
    told = RunStory(RUN).add_all([*whole[:2], whole[2]._replace(body=None)])
    assert [each.text for each in of(Note, told)] == ["A part of this was erased."]


def test_text_that_grows_is_sent_alone() -> None:
    told = story(*WHOLE[:6])
    assert [type(each) for each in told.take_changes()] == [Asked, Note, Said, End]
    told.add(rows(*WHOLE)[6])
    assert [*told.take_changes()] == [Grown(f"said-{RUN}-1-text", "<look>")]
    assert [*told.take_changes()] == []


def test_a_turn_that_broke_off_is_known_to_be_unfinished() -> None:
    assert story(*WHOLE[:7]).unfinished_turn
    assert not story(*WHOLE[:8]).unfinished_turn
    assert not story(*WHOLE).unfinished_turn


@given(st.integers(1, len(WHOLE)))
def test_deltas_of_whole_turns_make_no_difference(upto: int) -> None:
    every = rows(*WHOLE[:upto])
    with_all = RunStory(RUN).add_all(every)
    without = RunStory(RUN).add_all(row for row in every if row.kind != ModelDelta.kind)
    if not with_all.unfinished_turn:
        assert list(with_all.blocks) == list(without.blocks)
        assert all(with_all.blocks[each] == without.blocks[each] for each in without.blocks)


def test_why_a_run_failed_is_told_once() -> None:
    trouble = ProviderError(1, "auth", "no key", "set one")
    told = story(*WHOLE[:4], trouble, RunFinished(RunState.RUNNING, RunState.FAILED, "provider_auth", "no key"))
    assert (told.end.word, told.end.reason, told.end.detail) == ("failed", "provider_auth", "")
    other = story(*WHOLE[:4], trouble, RunFinished(RunState.RUNNING, RunState.FAILED, "internal", "it broke"))
    assert other.end.detail == "it broke"
    assert [each.text for each in of(Note, told)] == ["no key"]


def test_all_of_a_prompt_is_offered_only_where_a_part_is_shown() -> None:
    short, long = (Asked("a", attrs.evolve(ASKED, text="ä" * count), 0) for count in (4000, 4001))
    assert (len(short.shown), short.size_bytes) == (4000, 0)
    assert (len(long.shown), long.size_bytes) == (4000, 8002)
