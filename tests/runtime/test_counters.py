"""Counters are exactly what the tape says, whatever the runs did."""

from collections import Counter
from pathlib import Path

from palyra_trio.core.codec import KIND_NAMES
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import PolicyDecision, RunFinished, ToolFinished
from palyra_trio.journal.feed import Feed
from palyra_trio.runtime.counters import Counters
from tests.fakes import FakeProvider, assert_journal, echo, fake_tool, open_fake_runtime, says


async def test_they_agree_with_the_tape(tmp_path: Path) -> None:
    counters = Counters()
    provider = FakeProvider(
        says("", ToolCall("a", "fake.read", {"value": "x"}), ToolCall("b", "none", {})), says("done")
    )
    feed = Feed(watch=counters.take)
    async with open_fake_runtime(tmp_path, provider, tools=[fake_tool("fake.read", echo)], feed=feed) as runtime:
        for _ in range(3):
            await runtime.run()
    events = [event for tape in assert_journal(tmp_path / "state").values() for event in tape.events]
    of_runs = Counter(KIND_NAMES[each.kind] for each in events)
    assert {name: counters.events[name] for name in of_runs} == of_runs
    assert counters.runs_ended == Counter(each.state for each in events if isinstance(each, RunFinished))
    assert counters.tool_results == Counter(each.error or "ok" for each in events if isinstance(each, ToolFinished))
    assert counters.policy_decisions == Counter(each.outcome for each in events if isinstance(each, PolicyDecision))
    assert counters.policy_decisions["deny"] == 1
