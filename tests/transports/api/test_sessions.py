"""Sessions and agents over the API."""

from pathlib import Path

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import ArchiveSession, DefineAgent
from palyra_trio.core.session import SessionRef
from tests.transports.api.asking import read
from tests.transports.served import open_served
from tests.transports.test_run_events import BY_ALICE


async def test_sessions_are_listed_searched_and_found(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        for key, text in (("a", "water the plants"), ("b", "feed the cat"), ("c", "cut the grass")):
            await served.runtime.run(text, context=BY_ALICE, session=SessionRef(key=key))
        first = (await read(served, "/sessions?page_size=2")).said
        assert [each["key"] for each in first["sessions"]] == ["c", "b"]
        rest = (await read(served, f"/sessions?page_size=2&page_token={first['next_page_token']}")).said
        assert ([each["key"] for each in rest["sessions"]], rest["next_page_token"]) == (["a"], "")
        assert [each["key"] for each in (await read(served, "/sessions?containing=CAT")).said["sessions"]] == ["b"]
        assert (await read(served, "/sessions/b")).said == first["sessions"][1]
        assert (await read(served, "/sessions/b", who="bob")).code == "not_found"
        assert (await read(served, "/sessions", who="bob")).said["sessions"] == []


async def test_archived_sessions_are_shown_when_asked_for(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE, session=SessionRef(key="a"))
        found = (await read(served, "/sessions/a")).said
        await served.runtime.do(ArchiveSession(found["session_id"]), BY_ALICE)
        assert (await read(served, "/sessions")).said["sessions"] == []
        (shown,) = (await read(served, "/sessions?archived=true")).said["sessions"]
        assert shown["archived_ms"] >= found["created_ms"]


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
