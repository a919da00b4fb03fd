"""What another set of policies would have decided of the calls that tapes recorded."""

from collections import Counter
from collections.abc import Iterable

import attrs

from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import CallFacts, Decision, PathResource, Subject, plain_facts
from palyra_trio.core.tape import Input, PolicyDecision, TapeEvent, ToolProposed
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_diff import RecordedCall, compare, outcome_words, recorded_calls
from palyra_trio.guard.posture import Posture, posture_file
from palyra_trio.guard.presets import preset
from tests.guard.calls import call

ASKED = Input("01HSESSION", "user:me", "device", "cli", "do it", "digest")
DEFAULT, STRICT = (CedarEngine([preset(name)]) for name in ("default", "strict"))
ME = Subject("01HSESSION", "user:me", "default")


def rows(*events: TapeEvent) -> list[TapeRow]:
    return [TapeRow(seq, "run:r", seq, event.kind, 0, encode(event), b"") for seq, event in enumerate(events, 1)]


def decided(call_id: str, facts: CallFacts | None, outcome: str = "ask", *, tainted: bool = False) -> PolicyDecision:
    plain = plain_facts(facts) if facts is not None else None
    return PolicyDecision(call_id, outcome, "rule", "reason", "5e" * 32, "hash", plain, tainted)


def recorded(*facts: CallFacts, tainted: bool = False) -> Iterable[RecordedCall]:
    subject = attrs.evolve(ME, tainted=tainted)
    return [RecordedCall("r", f"c{number}", subject, each) for number, each in enumerate(facts)]


def test_a_call_counts_once_with_all_that_was_known_when_it_was_first_judged() -> None:
    write, read = call("fs.write"), call("fs.read", PathResource("/etc/passwd", inside_workspace=False))
    tape = rows(
        ASKED,
        ToolProposed(ToolCall("c1", "files.write", {})),
        decided("c1", write),
        decided("c2", read, "deny", tainted=True),
        decided("c3", None, "deny"),
        decided("c1", write, "allow"),
    )
    assert list(recorded_calls("r", tape)) == [
        RecordedCall("r", "c1", ME, write),
        RecordedCall("r", "c2", attrs.evolve(ME, tainted=True), read),
    ]


def test_calls_of_a_run_whose_beginning_was_erased_cannot_be_judged() -> None:
    erased = rows(ASKED)[0]._replace(body=None)
    assert list(recorded_calls("r", [erased, *rows(decided("c1", call("fs.write")))])) == []


def test_only_the_calls_whose_outcome_changes_are_listed_and_counted() -> None:
    calls = recorded(call("fs.read"), call("fs.write"), call("fs.delete"), call("run.local"))
    found = compare(calls, DEFAULT, STRICT)
    assert found.judged == 4
    assert [each.call.facts.action for each in found.changes] == ["fs.write", "fs.delete"]
    assert found.counts() == Counter({("ask", "ask every time"): 2})
    assert compare(calls, DEFAULT, DEFAULT).changes == ()


def test_a_change_says_what_each_set_decides_and_why() -> None:
    disabled = CedarEngine([preset("default"), posture_file([Posture("files.write", "disable")])])
    (change,) = compare(recorded(call("fs.write")), DEFAULT, disabled).changes
    assert (change.old.outcome, change.new.outcome) == ("ask", "deny")
    assert change.new.policies == ("posture:disable:global:files.write",)
    assert change.new.reason == "files.write is disabled"


def test_what_a_tainted_session_did_is_judged_as_a_tainted_sessions() -> None:
    allowed = CedarEngine([preset("trusted-workspace")])
    assert [c.new.outcome for c in compare(recorded(call("fs.write")), DEFAULT, allowed).changes] == ["allow"]
    assert compare(recorded(call("fs.write"), tainted=True), DEFAULT, allowed).changes == ()


def test_an_ask_that_cannot_be_answered_for_longer_is_another_outcome() -> None:
    assert outcome_words(Decision("ask", (), "", standing=True)) == "ask"
    assert outcome_words(Decision("ask", (), "")) == "ask every time"
    assert outcome_words(Decision("deny", (), "")) == "deny"
