"""Sessions over the API."""

from pathlib import Path

import trio

from palyra_trio.core.commands import ArchiveSession
from palyra_trio.core.identity import Scope
from palyra_trio.core.session import SessionRef
from tests.fakes import FakeProvider, says
from tests.transports.api.asking import DOCUMENT, read, say
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


async def test_a_session_is_renamed_by_who_owns_it_and_may_run(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE, session=SessionRef(key="a"))
        before = (await read(served, "/sessions/a")).said
        for _ in range(2):
            renamed = await say(served, "/sessions/a/rename", {"title": "The fence\nand more"})
            assert (renamed.status, renamed.said) == (200, {**before, "title": "The fence"})
        assert (await read(served, "/sessions/a")).said == renamed.said
        assert (await say(served, "/sessions/a/rename", {"title": " "})).code == "invalid_argument"
        assert (await say(served, "/sessions/a/rename", {"title": "his"}, who="bob")).code == "not_found"
        reader = await served.token("user:alice", Scope.READ)
        headers = {"authorization": f"Bearer {reader.secret}"}
        refused = await say(served, "/sessions/a/rename", {"title": "x"}, who=None, headers=headers)
        assert refused.code == "denied"
        assert (await read(served, "/sessions/a")).said["title"] == "The fence"


async def test_archived_sessions_are_shown_when_asked_for(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE, session=SessionRef(key="a"))
        found = (await read(served, "/sessions/a")).said
        await served.runtime.do(ArchiveSession(found["session_id"]), BY_ALICE)
        assert (await read(served, "/sessions")).said["sessions"] == []
        (shown,) = (await read(served, "/sessions?archived=true")).said["sessions"]
        assert shown["archived_ms"] >= found["created_ms"]


async def test_a_session_is_put_away_and_again_says_the_same(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(("thinking", trio.sleep_forever))) as served:
        body = {"text": "hello", "workspace": str(served.runtime.workspace), "session_key": "a"}
        run_id = (await say(served, "/runs", body)).said["run_id"]
        assert (await say(served, "/sessions/a/archive", who="bob")).code == "not_found"
        assert (await say(served, "/sessions/a/archive")).code == "state_conflict"
        await say(served, f"/runs/{run_id}/cancel")
        await served.runtime.ended(run_id, BY_ALICE)
        done = await say(served, "/sessions/a/archive")
        assert done.said["key"] is None
        assert done.said["archived_ms"] >= done.said["created_ms"]
        assert (await say(served, f"/sessions/{done.said['session_id']}/archive")).said == done.said
        assert (await say(served, "/sessions/a/archive")).code == "not_found"  # the key is free


async def test_a_session_is_searched_by_who_owns_it_page_by_page(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("A green fence."))) as served:
        await served.runtime.run("Paint the fence", context=BY_ALICE, session=SessionRef(key="a"))
        first = (await read(served, "/sessions/a/search?q=FENCE&page_size=1")).said
        rest = (await read(served, f"/sessions/a/search?q=FENCE&page_token={first['next_page_token']}")).said
        assert [hit["part"] for hit in (*first["hits"], *rest["hits"])] == ["answer", "prompt"]
        assert rest["hits"][0]["excerpt"] == [
            {"text": "Paint the ", "found": False},
            {"text": "fence", "found": True},
        ]
        assert rest["next_page_token"] == ""
        assert (await read(served, "/sessions/a/search?q=fence", who="bob")).code == "not_found"
        for query in ("", "?q=", "?q=%20", f"?q={'x' * 201}", "?q=x&page_token=y", "?q=x&q=y", "?words=x"):
            assert (await read(served, f"/sessions/a/search{query}")).code == "invalid_argument"


def test_what_a_search_must_say_is_published() -> None:
    said = DOCUMENT["paths"]["/api/v1/sessions/{session}/search"]["get"]["parameters"]
    assert {each["name"] for each in said if each["required"]} == {"session", "q"}
