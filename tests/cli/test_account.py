import attrs

from palyra_trio.cli.account import Account, account_of
from palyra_trio.cli.open import principal, reading
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    ApprovalDecided,
    ApprovalRequested,
    FileChange,
    ModelTurn,
    PolicyDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolProposed,
    ToolStarted,
)
from tests.cli.conftest import AT_MS, RUN, SESSION, STARTED, Home


def account(home: Home, state: str = "done") -> Account:
    with reading() as reader:
        return account_of(reader, reader.find_run(RUN, principal()), state)


def test_a_run_is_told_in_order_and_its_answer_last(home: Home) -> None:
    home.record_whole_run()
    assert list(account(home).lines(AT_MS + 60_000)) == [
        f"run      {RUN}",
        f"session  {SESSION}, agent default",
        "asked    do it",
        f"by       {principal()} over cli, 1 min ago",
        f"in       {home.folder}",
        "state    done",
        "model    openai/m: it was asked for by name",
        'call     files.write {"path":"a.txt"} finished after 12 ms',
        "call     files.edit {} Refused by policy: files.edit is disabled",
        "usage    2 turns, 1,210 tokens in (100 cached), 35 out",
        "file     a.txt was changed",
        "\nIt is done.",
    ]


def test_the_same_as_plain_values(home: Home) -> None:
    home.record_whole_run()
    plain = account(home).plain()
    assert plain["run"]["state"] == "done"
    assert plain["asked"]["text"] == "do it"
    assert plain["model"] == {"provider": "openai", "model": "m", "why": "it was asked for by name"}
    assert [(call["tool"], call["state"], call["elapsed_ms"]) for call in plain["calls"]] == [
        ("files.write", "finished", 12),
        ("files.edit", "denied", None),
    ]
    assert (plain["turns"], plain["answer"]) == (2, "It is done.")
    assert plain["usage"] == {"input_tokens": 1210, "cached_input_tokens": 100, "output_tokens": 35}
    assert plain["finished"] == {"reason": "final_answer", "detail": ""}


def state_line(home: Home, state: str, *events: TapeEvent) -> str:
    home.record_run(*events)
    return next(line for line in account(home, state).lines(AT_MS) if line.startswith("state"))


def test_a_failure_is_told_with_its_reason(home: Home) -> None:
    failed = RunFinished(RunState.RUNNING, RunState.FAILED, "limit_turns", "it reached its limit of 50 turns")
    said = state_line(home, "failed", *STARTED, failed)
    assert said == "state    failed, limit_turns: it reached its limit of 50 turns"


def test_a_waiting_run_says_for_what(home: Home) -> None:
    waits = StatusChange(RunState.RUNNING, RunState.WAITING, "approval")
    assert state_line(home, "waiting", *STARTED, waits) == "state    waiting, for approval"


def test_a_run_that_was_left_behind_says_so_and_how_far_its_calls_came(home: Home) -> None:
    turn = ModelTurn(1, "", "tool_calls", Usage(), "m", 3)
    calls = [
        ToolCall("c1", "files.read", {"path": "\x1b"}),
        ToolCall("c2", "x", malformed="{"),
        ToolCall("c3", "clock.now"),
    ]
    assert state_line(
        home,
        "interrupted",
        *STARTED,
        turn,
        *map(ToolProposed, calls),
        ToolStarted("c1", "k"),
        ToolStarted("c3", "k"),
        ToolFinished("c3", "no", 3, "not_found"),
    ) == ("state    interrupted")
    assert [line for line in account(home).lines(AT_MS) if line.startswith("call")] == [
        'call     files.read {"path":"\\u001b"} started',
        "call     x { proposed",
        "call     clock.now {} failed, not_found, after 3 ms",
    ]


def test_what_happened_to_a_file_is_told_from_its_two_ends(home: Home) -> None:
    started = ToolStarted("c1", "k", (FileChange("new", None, "aa"), FileChange("gone", "aa", None)))
    home.record_run(*STARTED, ToolProposed(ToolCall("c1", "t")), PolicyDecision("c1", "allow", "", "", ""), started)
    lines = list(account(home).lines(AT_MS))
    assert [line for line in lines if line.startswith("file")] == [
        "file     new was created",
        "file     gone was removed",
    ]
    told = {"path": "new", "before": None, "after": "aa", "before_mode": 0, "after_mode": 0, "kept": True}
    assert attrs.asdict(account(home).changes[0]) == told


def test_what_a_run_waits_for_is_named(home: Home) -> None:
    home.record_run(
        *STARTED,
        ModelTurn(1, "", "tool_calls", Usage(), "m", 2),
        *(ToolProposed(ToolCall(call_id, "files.write")) for call_id in "ab"),
        *(ApprovalRequested(f"approval {call_id}", call_id, "May it?", tool="files.write") for call_id in "ab"),
        StatusChange(RunState.RUNNING, RunState.WAITING, "approval"),
        ApprovalDecided("approval a", "a", "granted", "me"),
    )
    told = account(home, "waiting")
    assert [line for line in told.lines(AT_MS) if line.startswith("waits")] == [
        "waits    files.write, approval approval b"
    ]
    assert told.plain()["waits_for"] == [{"approval_id": "approval b", "tool": "files.write"}]
