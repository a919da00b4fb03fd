"""The PolicyService as a client meets it: what is in force, why something was decided, and how that is changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import RequestContext
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.guard.posture import Posture
from palyra_trio.pb import policy_pb2, runs_pb2
from palyra_trio.transports.policy_service import posture, posture_message, scope_number
from tests.fakes import FakeProvider, echo, fake_tool, says
from tests.transports.served import ALICE, Served, code_of, open_served

GOOD = '@id("mine")\n@reason("not today")\nforbid (principal, action, resource) when { context.common.tool.name == "fake.write" };'
WRITES = fake_tool("fake.write", echo, read_only=False)


async def ask(served: Served, method: str, request: Any, who: str = "alice") -> Any:
    return await served.call(f"PolicyService/{method}", request, who)


def write(served: Served, text: str) -> None:
    served.runtime.state.policies_dir.mkdir(exist_ok=True)
    (served.runtime.state.policies_dir / "mine.cedar").write_text(text)


async def test_what_is_in_force_is_told_with_its_text(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        before = await ask(served, "GetPolicies", policy_pb2.GetPoliciesRequest())
        assert (before.preset, list(before.files)) == ("default", [])
        write(served, GOOD)
        reloaded = await ask(served, "ReloadPolicies", policy_pb2.ReloadPoliciesRequest())
        assert reloaded.changed
        now = await ask(served, "GetPolicies", policy_pb2.GetPoliciesRequest())
        assert now.hash == reloaded.hash != before.hash
        assert list(now.files) == [policy_pb2.PolicyFile(name="mine.cedar", text=GOOD)]
        assert not (await ask(served, "ReloadPolicies", policy_pb2.ReloadPoliciesRequest())).changed


async def test_a_faulty_file_is_refused_with_its_line_and_the_old_set_stays(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        before = await ask(served, "GetPolicies", policy_pb2.GetPoliciesRequest())
        write(served, f"{GOOD}\npermit")
        with pytest.raises(GRPCError) as refused:
            await ask(served, "ReloadPolicies", policy_pb2.ReloadPoliciesRequest())
        assert (refused.value.status, code_of(refused.value)) == (Status.FAILED_PRECONDITION, "config_invalid")
        assert "mine.cedar:4: " in str(refused.value.message)
        assert await ask(served, "GetPolicies", policy_pb2.GetPoliciesRequest()) == before


async def test_a_call_that_nobody_made_is_explained(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        request = policy_pb2.ExplainCallRequest(tool="files.write", facts_json='{"path": ".env"}')
        found = await ask(served, "ExplainCall", request)
        assert (found.outcome, found.standing) == ("ask", False)
        assert [(each.approval, each.allowed) for each in found.passes] == [
            ("none", False),
            ("once", True),
            ("standing", False),
        ]
        (policy,) = found.passes[0].policies
        assert (policy.id, policy.file) == ("sensitive-path", "preset default")
        assert policy.text.startswith('@id("sensitive-path")')
        for tool, facts in (
            ("files.write", ""),
            ("files.write", "[]"),
            ("files.write", "{"),
            ("nope", '{"path": "a"}'),
        ):
            with pytest.raises(GRPCError) as refused:
                await ask(served, "ExplainCall", policy_pb2.ExplainCallRequest(tool=tool, facts_json=facts))
            assert code_of(refused.value) == "invalid_argument"


async def test_why_a_call_was_decided_is_told_from_the_tape(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("w", "fake.write", {"value": "x"})), says("done"))
    async with open_served(tmp_path, provider, tools=[WRITES]) as served:
        start = runs_pb2.StartRun(text="go", workspace=str(served.runtime.workspace), attended=True)
        async with served.talk("GatewayService/RunStream") as talk:
            await talk.say(runs_pb2.RunStreamRequest(start=start))
            run_id = (await talk.hear()).accepted.run_id
            asked = await served.runtime.until(run_id, ApprovalRequested, 1, RequestContext(ALICE))
            await served.call(
                "GatewayService/DecideApproval",
                runs_pb2.DecideApprovalRequest(
                    decision=runs_pb2.Decision(approval_id=asked.approval_id, granted=True, reason="go on")
                ),
            )
            await talk.rest()
        found = await ask(served, "WhyCall", policy_pb2.WhyCallRequest(run_id="last"))
        (call,) = found.calls
        assert (found.run_id, call.call_id, call.tool, json.loads(call.arguments_json)) == (
            run_id,
            "w",
            "fake.write",
            {"value": "x"},
        )
        assert [(each.outcome, each.policies[0].id) for each in call.decisions] == [
            ("ask", "write-in-workspace"),
            ("allow", "write-in-workspace"),
        ]
        assert call.decisions[0].policies[0].line == 20
        assert not call.decisions[0].changed_since
        (answer,) = call.answers
        assert (answer.outcome, answer.by, answer.reason, answer.scope) == ("granted", ALICE, "go on", "once")
        assert (call.started, call.grant_id, call.error) == (True, asked.approval_id, "")
        write(served, GOOD)
        await ask(served, "ReloadPolicies", policy_pb2.ReloadPoliciesRequest())
        (call,) = (await ask(served, "WhyCall", policy_pb2.WhyCallRequest(run_id=run_id, call_id="w"))).calls
        assert call.decisions[0].changed_since
        with pytest.raises(GRPCError) as refused:
            await ask(served, "WhyCall", policy_pb2.WhyCallRequest(run_id=run_id, call_id="x"))
        assert code_of(refused.value) == "not_found"


async def test_a_posture_is_said_listed_and_taken_back(tmp_path: Path) -> None:
    said = policy_pb2.Posture(tool="files.*", verdict=policy_pb2.POSTURE_VERDICT_DISABLE)
    async with open_served(tmp_path) as served:
        await ask(served, "SetPosture", policy_pb2.SetPostureRequest(posture=said))
        listed = await ask(served, "ListPostures", policy_pb2.ListPosturesRequest())
        said.scope = policy_pb2.POSTURE_SCOPE_GLOBAL
        assert list(listed.postures) == [said]
        explained = await ask(
            served, "ExplainCall", policy_pb2.ExplainCallRequest(tool="files.read", facts_json='{"path": "a"}')
        )
        assert (explained.outcome, explained.reason) == ("deny", "files.* is disabled")
        await ask(served, "RemovePosture", policy_pb2.RemovePostureRequest(tool="files.*"))
        assert not (await ask(served, "ListPostures", policy_pb2.ListPosturesRequest())).postures
        for wrong in (
            policy_pb2.Posture(tool="files.*"),
            policy_pb2.Posture(tool="", verdict=policy_pb2.POSTURE_VERDICT_ASK),
        ):
            with pytest.raises(GRPCError) as refused:
                await ask(served, "SetPosture", policy_pb2.SetPostureRequest(posture=wrong))
            assert code_of(refused.value) == "invalid_argument"


@pytest.mark.parametrize(
    "each",
    [
        Posture("files.*", "ask"),
        Posture("a", "allow", "workspace", "/work", 1),
        Posture("a", "disable", "agent", "helper"),
        Posture("a", "disable", "session", "01H"),
    ],
)
def test_a_posture_survives_the_wire(each: Posture) -> None:
    assert posture(posture_message(each)) == each
    assert posture_message(each).scope == scope_number(each.scope)
