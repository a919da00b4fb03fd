"""What would change under other policies: the calls that tapes recorded, judged once by each of two sets.

Each call counts once, as it was first judged: what a person said of it afterwards is no matter of policy.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import attrs

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.policy import CallFacts, Decision, PolicyEngine, Subject, decide_tool_call, facts_from
from palyra_trio.core.tape import Input, PolicyDecision


@attrs.frozen
class RecordedCall:
    """A call that was judged in a run, with all that the policies knew of it then."""

    run_id: str
    call_id: str
    subject: Subject
    facts: CallFacts


@attrs.frozen
class Change:
    """A call that two sets judge differently."""

    call: RecordedCall
    old: Decision
    new: Decision


@attrs.frozen
class Difference:
    """How many calls were judged, and those whose outcome is another one."""

    judged: int
    changes: tuple[Change, ...]

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how often an outcome became which other."""
        return Counter((outcome_words(each.old), outcome_words(each.new)) for each in self.changes)


def recorded_calls(run_id: str, rows: Iterable[TapeRow]) -> Iterator[RecordedCall]:
    """Yield the calls of a run's tape that policies were asked about.

    A call that failed before (no such tool, wrong arguments) is none; nor is one whose record was erased.
    """
    asked: Input | None = None
    seen: set[str] = set()
    for row in rows:
        event = row.event()
        if isinstance(event, Input):
            asked = event
        elif not isinstance(event, PolicyDecision) or event.facts is None or asked is None:
            continue
        elif event.call_id not in seen:
            seen.add(event.call_id)
            subject = Subject(asked.session_id, asked.principal, asked.agent.name, event.tainted)
            yield RecordedCall(run_id, event.call_id, subject, facts_from(event.facts, event.arguments_digest))


def compare(calls: Iterable[RecordedCall], old: PolicyEngine, new: PolicyEngine) -> Difference:
    """Judge every call by both sets. An `ask` that could be answered for longer differs from one that could not."""
    judged = 0
    changes = []
    for call in calls:
        judged += 1
        before, after = (decide_tool_call(call.subject, call.facts, engine) for engine in (old, new))
        if outcome_words(before) != outcome_words(after):
            changes.append(Change(call, before, after))
    return Difference(judged, tuple(changes))


def outcome_words(decision: Decision) -> str:
    """Return `allow`, `deny`, `ask`, or `ask every time` where a yes cannot hold for longer than one call."""
    return "ask every time" if decision.outcome == "ask" and not decision.standing else decision.outcome
