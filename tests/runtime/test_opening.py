"""A session by id or key: found, opened, opened anew, or refused."""

from pathlib import Path

import pytest
import trio

from palyra_trio.core.commands import ArchiveSession, OpenSession, SessionResolved
from palyra_trio.core.errors import InvalidArgument, NotFound, SessionConflict, StateConflict
from palyra_trio.core.identity import RequestContext, SessionId
from palyra_trio.core.session import SessionRef
from tests.fakes import ME, OTHER, SECRET, FakeProvider, Runtime, open_fake_runtime, says


async def resolve(runtime: Runtime, context: RequestContext = ME, title: str = "", reset: bool = False, **ref: object) -> SessionResolved:  # fmt: skip
    command = OpenSession(SessionRef(**ref), title, reset)  # type: ignore[arg-type]
    reply = await runtime.gateway.submit(command, context)
    assert isinstance(reply, SessionResolved)
    return reply


async def test_a_session_is_opened_once_and_then_found(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        opened = await resolve(runtime, key="k", title=f"  my {SECRET}\nthing ")
        assert opened.created
        assert (opened.session.key, opened.session.principal) == ("k", ME.principal)
        assert opened.session.title.startswith("my ")
        assert SECRET not in opened.session.title
        for ref in ({"key": "k"}, {"session_id": opened.session.session_id}, {"key": "k", "require_existing": True}):
            found = await resolve(runtime, title="another", **ref)
            assert found == SessionResolved(opened.session, created=False)
        other = await resolve(runtime, OTHER, key="k")
        assert other.created
        assert other.session.session_id != opened.session.session_id


async def test_without_a_name_a_session_is_a_new_one(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        first, second = await resolve(runtime), await resolve(runtime)
        assert first.created
        assert second.created
        assert first.session.session_id != second.session.session_id


async def test_many_who_open_the_same_key_at_once_get_one_session(tmp_path: Path) -> None:
    found = []
    async with open_fake_runtime(tmp_path) as runtime:

        async def one() -> None:
            found.append(await resolve(runtime, key="k"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
    assert len({each.session.session_id for each in found}) == 1
    assert sum(each.created for each in found) == 1


async def test_a_reset_archives_the_session_and_gives_its_key_to_a_new_one(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        old = (await resolve(runtime, key="k")).session
        for ref in ({"key": "k"}, {"key": "k", "require_existing": True}):
            new = await resolve(runtime, reset=True, **ref)
            assert new.created
            assert new.session.key == "k"
            assert new.session.session_id != old.session_id
            gone = await runtime.gateway.ask(lambda reader, name=old.session_id: reader.session(name))
            assert gone is not None
            assert gone.archived_ms is not None
            old = new.session
        by_id = await resolve(runtime, reset=True, session_id=old.session_id)
        assert by_id.session.key == "k"
        fresh = await resolve(runtime, reset=True, key="never seen")
        assert fresh.created


async def test_a_session_with_a_live_run_is_not_reset(tmp_path: Path) -> None:
    go_on = trio.Event()
    async with open_fake_runtime(tmp_path, FakeProvider([go_on.wait, *says("x")])) as runtime:
        accepted = await runtime.start(session=SessionRef(key="k"))
        with pytest.raises(StateConflict, match="has a live run"):
            await resolve(runtime, reset=True, key="k")
        assert not (await resolve(runtime, key="k")).created
        go_on.set()
        await runtime.ended(accepted.run_id)


async def test_what_names_no_session_of_the_callers_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        mine = (await resolve(runtime, key="k")).session
        with pytest.raises(NotFound):
            await resolve(runtime, OTHER, session_id=mine.session_id, reset=True)
        with pytest.raises(SessionConflict):
            await resolve(runtime, session_id=mine.session_id, key="another")
        with pytest.raises(NotFound):
            await resolve(runtime, session_id=SessionId("01ARZ3NDEKTSV4RRFFQ69G5FAV"))
        with pytest.raises(NotFound):
            await resolve(runtime, key="another", require_existing=True)
        with pytest.raises(InvalidArgument):
            await resolve(runtime, key="x" * 201)
        await runtime.do(ArchiveSession(mine.session_id))
        with pytest.raises(StateConflict, match="archived"):
            await resolve(runtime, session_id=mine.session_id)


async def test_a_session_gets_no_key_with_a_secret_in_it(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(InvalidArgument, match="session key holds a secret"):
            await resolve(runtime, key=SECRET)
        with pytest.raises(InvalidArgument, match="session key holds a secret"):
            await runtime.start(session=SessionRef(key=SECRET))
        assert await runtime.gateway.ask(lambda reader: reader.sessions(ME.principal)) == ()
