"""Agents over the API: listed, defined once, made the default one, removed."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import DefineAgent
from palyra_trio.core.identity import Scope
from tests.fakes import CONFIG, SECRET
from tests.transports.api.asking import Answer, ask, read, say
from tests.transports.served import Served, open_served

WRITER: dict[str, Any] = {"name": "writer", "instructions": "Write.", "tools": ["clock.now"], "limits": {"turns": 3}}


async def remove(served: Served, name: str, **rest: Any) -> Answer:
    return await ask(served, "DELETE", f"/api/v1/agents/{name}", **rest)


async def test_agents_are_listed_in_order_of_name(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        for name in ("writer", "auditor"):
            await served.runtime.do(DefineAgent(AgentSpec(name, tools=("clock.now",))))
        first = (await read(served, "/agents?page_size=2")).said
        assert [each["spec"]["name"] for each in first["agents"]] == ["auditor", "default"]
        rest = (await read(served, f"/agents?page_token={first['next_page_token']}")).said
        assert [each["spec"]["name"] for each in rest["agents"]] == ["writer"]
        assert (await read(served, "/agents/writer")).said == rest["agents"][0]
        assert (await read(served, "/agents/none")).code == "not_found"


async def test_an_agent_is_defined_once_and_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        made = await say(served, "/agents", WRITER)
        assert made.status == 200
        assert made.said["spec"]["limits"] == {"turns": 3, "tool_calls": 0, "active_s": 0, "tool_s": 0}
        assert made.said["limits"] == attrs.asdict(attrs.evolve(CONFIG.limits, turns=3))
        assert (await say(served, "/agents", WRITER)).said == made.said == (await read(served, "/agents/writer")).said
        other = {**WRITER, "instructions": "Draw."}
        assert (await say(served, "/agents", other)).code == "state_conflict"
        assert (await say(served, "/agents", {**other, "replace": True})).said["spec"]["instructions"] == "Draw."


async def test_a_secret_in_instructions_is_masked_and_the_same_again_is_no_conflict(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        pasted = {**WRITER, "instructions": f"Write with {SECRET}."}
        made = await say(served, "/agents", pasted)
        assert made.said["spec"]["instructions"] == "Write with [redacted:openai_key]."
        assert (await say(served, "/agents", pasted)).said == made.said


@pytest.mark.parametrize(
    "wrong", [{"name": "a b"}, {"tools": ["no.tool"]}, {"limits": {"turns": -1}}, {"limits": {"turn": 1}}, {"answer_schema": {"type": 7}}]
)  # fmt: skip
async def test_what_is_no_agent_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with open_served(tmp_path) as served:
        assert (await say(served, "/agents", {**WRITER, **wrong})).code == "invalid_argument"


async def test_the_default_one_is_chosen_and_removed(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await say(served, "/agents", WRITER)
        for _ in range(2):
            assert (await say(served, "/agents/writer/set-default")).said["is_default"] is True
        assert (await read(served, "/agents/default")).said["is_default"] is False
        assert (await remove(served, "writer")).status == 204
        assert (await remove(served, "writer")).code == "not_found"
        assert (await say(served, "/agents/writer/set-default")).code == "not_found"
        refused = await remove(served, "default")
        assert refused.code == "state_conflict"
        assert "comes with the program" in refused.said["detail"]
        assert refused.said["remedy"]
        assert (await read(served, "/agents/default")).said["is_default"] is True


async def test_only_an_admin_changes_agents(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        token = await served.token("user:alice", Scope.READ, Scope.RUN, Scope.APPROVE)
        nobody: dict[str, Any] = {"who": None, "headers": {"authorization": f"Bearer {token.secret}"}}
        assert (await say(served, "/agents", WRITER, **nobody)).code == "denied"
        assert (await say(served, "/agents/default/set-default", **nobody)).code == "denied"
        assert (await remove(served, "default", **nobody)).code == "denied"
