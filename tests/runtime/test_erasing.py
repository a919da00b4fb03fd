"""A value that leaked goes while the runtime goes on: from the files, from what followers are told, and for good."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from palyra_trio.core.errors import Busy, InvalidArgument, NotFound, StateConflict
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.system_events import BodiesErased
from palyra_trio.core.tape import SYSTEM_STREAM, FinalAnswer, ModelDelta, ToolProposed
from palyra_trio.core.view import RunView, fold_rows
from palyra_trio.core.why import waits_of
from palyra_trio.journal import erasure
from palyra_trio.journal.check import check_file
from palyra_trio.journal.queries import whole_tape
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.erasing import Erased, place_of
from tests.fakes import ME, OTHER, FakeProvider, Runtime, in_session, open_fake_runtime, says

LEAKED = "hunter2-hunter2-hunter2"
TELLS = says(f"it is {LEAKED}, as you said")


async def erase(runtime: Runtime, run: RunId, seq: int = 1, part: str = LEAKED, reason: str = "it leaked") -> Erased:
    return await runtime.gateway.erase(run, seq, "text", part, reason, ME)


@asynccontextmanager
async def verified(folder: Path) -> AsyncGenerator[Runtime, None]:
    """Open a runtime whose model tells the value, and verify the chain of what it leaves."""
    async with open_fake_runtime(folder, FakeProvider(TELLS), checked=False) as runtime:
        yield runtime
    assert check_file(folder / "state" / FILE_NAME).faults == ()


def files_with(folder: Path, text: str = LEAKED) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_it_goes_from_every_file_while_other_runs_go_on(tmp_path: Path) -> None:
    held_up = trio.Event()
    slow = FakeProvider(["first", held_up.wait, *says(" last")])
    async with verified(tmp_path) as runtime:
        live = await runtime.start("something else", slow)
        await runtime.until(live.run_id, ModelDelta)
        leaky = await runtime.start(f"use {LEAKED}")
        await runtime.ended(leaky.run_id)
        assert files_with(runtime.state_dir)
        erased = await erase(runtime, leaky.run_id)
        assert erased.done.rows >= 4
        assert (erased.left_in, erased.again) == ((), False)
        assert files_with(runtime.state_dir) == []
        held_up.set()
        assert (await runtime.ended(live.run_id)).end == (RunState.DONE, "final_answer")
        assert (await runtime.run("and another")).one(FinalAnswer).text


async def test_its_run_is_still_told_and_its_session_goes_on(tmp_path: Path) -> None:
    call = ToolCall("", "files.list", {"path": LEAKED})
    async with verified(tmp_path) as runtime:
        (runtime.workspace / LEAKED).mkdir()
        leaky = await runtime.start("what is there", FakeProvider(says("", call), says("nothing")))
        proposed = await runtime.until(leaky.run_id, ToolProposed)
        tape = await runtime.ended(leaky.run_id)
        (row,) = [row for row in tape.rows if row.event() == proposed]
        place = (leaky.run_id, row.seq, "call.arguments.path")
        await runtime.gateway.erase(*place, LEAKED, "it leaked", ME)
        rows = await runtime.gateway.ask(lambda reader: whole_tape(reader, leaky.run_id))
        assert any(each.body is None for each in rows)
        assert fold_rows(RunView(), rows).state is RunState.DONE
        assert waits_of(rows) == ()
        goes_on = await runtime.run("and now", session=in_session(leaky))
    assert goes_on.end == (RunState.DONE, "final_answer")


async def test_who_follows_is_told_of_an_erased_row_from_memory_and_from_the_journal(tmp_path: Path) -> None:
    async with verified(tmp_path) as runtime:
        leaky = await runtime.start(f"use {LEAKED}")
        tape = await runtime.ended(leaky.run_id)
        whole = [row.seq for row in tape.rows if LEAKED.encode() not in (row.body or b"")]
        behind = await runtime.gateway.follow(leaky.run_id, whole[0] - 1, ME)
        await erase(runtime, leaky.run_id)
        rows = await behind.next_rows()
        assert [row.seq for row in rows] == [*range(whole[0], len(tape.rows) + 1)]
        assert [row.seq for row in rows if row.body is not None] == whole
        runtime.state.journal.feed._streams.clear()
        again = await runtime.gateway.follow(leaky.run_id, whole[0] - 1, ME)
        assert await again.next_rows() == rows


async def test_the_erasure_is_told_to_who_watches_the_system(tmp_path: Path) -> None:
    async with verified(tmp_path) as runtime:
        leaky = await runtime.start(f"use {LEAKED}")
        await runtime.ended(leaky.run_id)
        feed, seen = runtime.state.journal.feed, runtime.state.journal.feed.g
        await erase(runtime, leaky.run_id)
        await feed.wait_for_kind(BodiesErased.kind, seen)
        rows = feed.recent(SYSTEM_STREAM, await runtime.gateway.ask(lambda r: r.last_seq(SYSTEM_STREAM)) - 1, 1)
        assert rows is not None
        event = rows[0].event()
        assert isinstance(event, BodiesErased)
        assert (event.by, event.reason, rows[0].g) == (ME.principal, "it leaked", feed.g)


async def test_it_is_refused_while_a_run_holds_it_or_goes_on_from_it(tmp_path: Path) -> None:
    never = FakeProvider(["well, ", trio.sleep_forever])
    async with verified(tmp_path) as runtime:
        leaky = await runtime.start(f"use {LEAKED}")
        await runtime.ended(leaky.run_id)
        live = await runtime.start("go on", never, session=in_session(leaky))
        await runtime.until(live.run_id, ModelDelta)
        with pytest.raises(StateConflict, match=f"run {live.run_id} goes on from run {leaky.run_id}"):
            await erase(runtime, leaky.run_id)
        assert files_with(runtime.state_dir)


async def test_what_cannot_be_meant_is_refused_and_the_journal_goes_on(tmp_path: Path) -> None:
    async with verified(tmp_path) as runtime:
        leaky = await runtime.start(f"use {LEAKED}")
        await runtime.ended(leaky.run_id)
        with pytest.raises(InvalidArgument, match="does not stand in text"):
            await erase(runtime, leaky.run_id, part="something else")
        with pytest.raises(InvalidArgument, match="found in too much"):
            await erase(runtime, leaky.run_id, part="use")
        with pytest.raises(InvalidArgument, match="would record the value again"):
            await erase(runtime, leaky.run_id, reason=f"because of {LEAKED}")
        with pytest.raises(NotFound, match="has no row 99"):
            await erase(runtime, leaky.run_id, 99)
        with pytest.raises(NotFound, match="there is no run"):
            await runtime.gateway.erase(leaky.run_id, 1, "text", "", "", OTHER)
        assert (await runtime.run("still here")).one(FinalAnswer).text


async def test_to_do_it_again_writes_the_file_anew(tmp_path: Path) -> None:
    async with verified(tmp_path) as runtime:
        leaky = await runtime.start(f"use {LEAKED}")
        await runtime.ended(leaky.run_id)
        await erase(runtime, leaky.run_id)
        assert await erase(runtime, leaky.run_id) == Erased(erasure.Erasure(0, 0, ()), (), again=True)


async def test_a_reader_that_keeps_the_bytes_is_told_of_and_runs_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "WAIT_S", 0.01)
    async with verified(tmp_path) as runtime:
        leaky = await runtime.start(f"use {LEAKED}")
        await runtime.ended(leaky.run_id)
        with closing(sqlite3.connect(runtime.state_dir / FILE_NAME, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM ev").fetchone()
            with pytest.raises(Busy, match=r"cannot be rebuilt|keeps the erased bytes"):
                await erase(runtime, leaky.run_id)
            assert (await runtime.run("meanwhile")).one(FinalAnswer).text
            reader.execute("COMMIT")
        assert (await erase(runtime, leaky.run_id)).again
        assert files_with(runtime.state_dir, f"use {LEAKED}") == []


async def test_a_session_s_tape_is_the_caller_s(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        accepted = await runtime.start("hello")
        await runtime.ended(accepted.run_id)
        stream = f"session:{accepted.session_id}"
        place = await runtime.gateway.ask(lambda reader: place_of(reader, stream, 1, "title", ME))
        assert (place.stream, place.seq) == (stream, 1)
        with pytest.raises(NotFound):
            await runtime.gateway.ask(lambda reader: place_of(reader, stream, 1, "title", OTHER))
