"""The account of a run's calls: what decided, who answered, what came of it, and whether that would be decided so now."""

from pathlib import Path

import pytest

from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import NotFound
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.runtime.call_accounts import call_accounts
from tests.fakes import ME, FakeProvider, echo, fake_tool, open_fake_runtime, says

WRITES = fake_tool("fake.write", echo, read_only=False)
MINE = '@id("mine") permit (principal, action, resource) when { false };'


async def test_a_call_is_told_with_the_policies_that_decided_the_answer_and_what_came_of_it(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("w", "fake.write", {"value": "x"})), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES]) as runtime:
        started = await runtime.start(attended=True)
        asked = await runtime.until(started.run_id, ApprovalRequested)
        await runtime.do(DecideApproval(asked.approval_id, granted=True, reason="go on"))
        await runtime.ended(started.run_id)
        found = await call_accounts(runtime.gateway, "last", "", ME)
        (call,) = found.calls
        assert (found.run_id, call.call_id, call.tool, call.arguments) == (
            started.run_id,
            "w",
            "fake.write",
            {"value": "x"},
        )
        assert [(each.outcome, each.changed_since) for each in call.decisions] == [("ask", False), ("allow", False)]
        assert [(place.id, place.file) for place in call.decisions[0].policies] == [
            ("write-in-workspace", "preset default")
        ]
        (answer,) = call.answers
        assert (answer.outcome, answer.by, answer.reason, answer.scope) == ("granted", ME.principal, "go on", "once")
        assert (call.started, call.grant_id, call.error) == (True, asked.approval_id, "")

        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "mine.cedar").write_text(MINE)
        assert await runtime.gateway.policies.reload(ME.principal)
        (call,) = (await call_accounts(runtime.gateway, started.run_id, "w", ME)).calls
        assert all(each.changed_since for each in call.decisions)
        with pytest.raises(NotFound, match="no call 'x'"):
            await call_accounts(runtime.gateway, started.run_id, "x", ME)
