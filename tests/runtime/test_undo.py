"""Taking back a run: what it changed, who may, when not, and the record of it."""

import os
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.codec import TapeRow, encode
from palyra_trio.core.commands import Accepted, CancelRun, UndoRun
from palyra_trio.core.config import WorkspacesConfig
from palyra_trio.core.errors import NotFound, StateConflict, WorkspaceRefused
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import RunUndone
from palyra_trio.core.tape import (
    SESSION_STREAM,
    FileChange,
    ProviderRequest,
    ToolFinished,
    ToolOutput,
    ToolStarted,
)
from palyra_trio.journal.queries import whole_tape
from palyra_trio.runtime.undo import changes_in, changes_of
from palyra_trio.tools.sandbox import SandboxSettings, open_sandbox
from palyra_trio.tools.undo import diff
from tests.fakes import ME, OTHER, FakeProvider, Runtime, allowing, open_fake_runtime, says, scripted
from tests.tools.layered import NOBODY, for_all

CONFIG = allowing("files.*")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that another user can get to at all times, which those of pytest are not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _write(path: str, text: str) -> ToolCall:
    return ToolCall("", "files.write", {"path": path, "text": text})


async def _changed(runtime: Runtime) -> Accepted:
    """Return a run that changed a.txt twice and created deep/b.txt."""
    (runtime.workspace / "a.txt").write_text("before\n")
    calls = _write("a.txt", "between\n"), _write("deep/b.txt", "new\n"), _write("a.txt", "after\n")
    accepted = await runtime.start("change", FakeProvider(says("", *calls), says("done")))
    assert (await runtime.ended(accepted.run_id)).end == (RunState.DONE, "final_answer")
    return accepted


async def _undone(runtime: Runtime, accepted: Accepted) -> list[RunUndone]:
    rows = await runtime.gateway.ask(lambda reader: [*reader.tape(SESSION_STREAM + accepted.session_id)])
    return [event for row in rows if isinstance(event := row.event(), RunUndone)]


async def test_an_undo_puts_back_what_was_and_says_so_on_the_sessions_stream(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        accepted = await _changed(runtime)
        await runtime.do(UndoRun(accepted.run_id))
        undone = await _undone(runtime, accepted)
    assert (tmp_path / "work" / "a.txt").read_text() == "before\n"
    assert not (tmp_path / "work" / "deep" / "b.txt").exists()
    assert [(event.run_id, event.by) for event in undone] == [(accepted.run_id, ME.principal)]
    assert undone[0].changes == (
        FileChange("deep/b.txt", digest(b"new\n"), None),
        FileChange("a.txt", digest(b"after\n"), digest(b"before\n")),
    )


async def test_the_changes_of_a_run_are_those_that_its_calls_set_out_to_make(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        accepted = await _changed(runtime)
        changes = await runtime.gateway.ask(lambda reader: changes_of(reader, accepted.run_id))
    assert [change.path for change in changes.told] == ["a.txt", "deep/b.txt", "a.txt"]


async def test_last_means_the_last_run(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        await _changed(runtime)
        await runtime.do(UndoRun(RunId("last")))
    assert (tmp_path / "work" / "a.txt").read_text() == "before\n"


async def test_what_somebody_else_changed_since_is_not_overwritten(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        accepted = await _changed(runtime)
        (tmp_path / "work" / "a.txt").write_text("somebody else's\n")
        with pytest.raises(StateConflict, match=r"changed since by somebody else: a\.txt"):
            await runtime.do(UndoRun(accepted.run_id))
        assert await _undone(runtime, accepted) == []
    assert (tmp_path / "work" / "a.txt").read_text() == "somebody else's\n"
    assert (tmp_path / "work" / "deep" / "b.txt").read_text() == "new\n"


async def test_what_was_erased_since_is_told_in_the_diff_and_cannot_be_undone(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG, checked=False) as runtime:
        (runtime.workspace / "a.txt").write_text("a value that leaked\n")
        provider = FakeProvider(says("", _write("a.txt", "new\n"), _write("b.txt", "other\n")), says("done"))
        accepted = await runtime.start("take out a value that leaked", provider)
        await runtime.ended(accepted.run_id)
        await runtime.gateway.erase(accepted.run_id, 1, "text", "a value that leaked", "it leaked", ME)
        shown = await runtime.gateway.ask(lambda reader: diff(changes_of(reader, accepted.run_id).told, reader.blob))
        assert "File a.txt differs (its content is not on the tape" in shown
        assert "+other" in shown
        with pytest.raises(StateConflict, match=r"not on the tape.*: a\.txt; nothing was undone"):
            await runtime.do(UndoRun(accepted.run_id))
        assert (runtime.workspace / "a.txt").read_text() == "new\n"


async def test_a_live_run_is_not_undone(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"hang": True}), left=[RunState.WAITING]) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        with pytest.raises(StateConflict, match="is running"):
            await runtime.do(UndoRun(accepted.run_id))


async def test_another_principals_run_is_not_undone(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        accepted = await _changed(runtime)
        with pytest.raises(NotFound):
            await runtime.do(UndoRun(accepted.run_id), OTHER)
    assert (tmp_path / "work" / "a.txt").read_text() == "after\n"


async def test_an_undo_that_is_cancelled_is_recorded_if_it_was_done(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        for checkpoints in range(12):
            accepted = await _changed(runtime)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.do, UndoRun(accepted.run_id))
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            done = (tmp_path / "work" / "a.txt").read_text() == "before\n"
            assert len(await _undone(runtime, accepted)) == done
            (tmp_path / "work" / "deep" / "b.txt").unlink(missing_ok=True)


async def test_from_elsewhere_only_a_run_in_a_folder_of_ones_own_is_taken_back(tmp_path: Path) -> None:
    remote = attrs.evolve(ME, local=False)
    config = attrs.evolve(CONFIG, workspaces=WorkspacesConfig({ME.principal: (str(tmp_path / "work" / "deep"),)}))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        accepted = await _changed(runtime)
        with pytest.raises(WorkspaceRefused, match="beneath none"):
            await runtime.do(UndoRun(accepted.run_id), remote)
        assert await _undone(runtime, accepted) == []
    assert (tmp_path / "work" / "a.txt").read_text() == "after\n"
    config = attrs.evolve(CONFIG, workspaces=WorkspacesConfig({ME.principal: (str(tmp_path / "work"),)}))
    async with open_fake_runtime(tmp_path, config=config, boot_id="boot-2") as runtime:
        await runtime.do(UndoRun(accepted.run_id), remote)
    assert (tmp_path / "work" / "a.txt").read_text() == "before\n"


# --- what programs do ---

PROGRAMS = allowing("process.run")


def _run(*argv: str, **others: object) -> ToolCall:
    return ToolCall("", "process.run", {"argv": list(argv), **others})


@asynccontextmanager
async def _running(folder: Path, layers: tuple[Path, ...] | None = None) -> AsyncGenerator[Runtime]:
    (folder / "work").mkdir()
    (folder / "work" / "a.txt").write_text("before\n")
    for_all(folder / "work")
    settings = SandboxSettings(user=str(NOBODY) if os.geteuid() == 0 else "")
    layers = (folder / "layers",) if layers is None else layers
    async with (
        open_sandbox(settings, Path("/home/me"), layers_in=layers) as sandbox,
        open_fake_runtime(folder, config=PROGRAMS, sandbox=sandbox) as runtime,
    ):
        yield runtime


async def test_what_a_program_did_is_on_the_tape_before_its_result_and_can_be_undone(tmp_path: Path) -> None:
    async with _running(tmp_path) as runtime:
        results, ids = list[str](), list[RunId]()
        for call in (_run("mv", "a.txt", "b.txt"), _run("install", "-D", "-m", "750", "b.txt", "new/c.txt")):
            tape = await runtime.run("change", FakeProvider(says("", call), says("done")))
            assert tape.kinds.index("FilesChanged") < tape.kinds.index("ToolFinished")
            results += tape.one(ToolFinished).text.partition("[workspace]\n")[2].splitlines()
            ids.append(RunId(tape.rows[0].stream.removeprefix("run:")))
        assert results == ["deleted a.txt", "created b.txt", "created folder new", "created new/c.txt"]
        for run_id in reversed(ids):
            changes = await runtime.gateway.ask(partial(changes_of, run_id=run_id))
            assert changes.notes() == ()
            await runtime.do(UndoRun(run_id))
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["a.txt"]
    assert (tmp_path / "work" / "a.txt").read_text() == "before\n"


async def test_a_program_of_a_cancelled_run_has_changed_nothing_and_the_tape_says_so(tmp_path: Path) -> None:
    async with _running(tmp_path) as runtime:
        endless = _run("dd", "if=/dev/zero", "of=a.txt", "bs=1", "count=1000000000", "status=progress")
        accepted = await runtime.start("change", FakeProvider(says("", endless)))
        await runtime.until(accepted.run_id, ToolOutput)
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
        changes = await runtime.gateway.ask(lambda reader: changes_of(reader, accepted.run_id))
    assert (tmp_path / "work" / "a.txt").read_text() == "before\n"
    assert tape.one(FilesChanged).discarded == 1
    assert changes.told == ()


async def test_where_nothing_is_captured_the_intent_the_diff_and_the_undo_say_so(tmp_path: Path) -> None:
    async with _running(tmp_path, ()) as runtime:
        tape = await runtime.run("change", FakeProvider(says("", _run("touch", "b.txt")), says("done")))
        run_id = RunId(tape.rows[0].stream.removeprefix("run:"))
        changes = await runtime.gateway.ask(lambda reader: changes_of(reader, run_id))
    assert tape.one(ToolStarted).uncaptured == "this process keeps no layers"
    assert changes.told == ()
    (note,) = changes.notes()
    assert note.endswith("did to files was not captured: this process keeps no layers")


async def test_what_the_tape_does_not_hold_is_not_undone_by_half(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=CONFIG) as runtime:
        accepted = await _changed(runtime)
        event = FilesChanged("call", missed="7 more changes of the program")
        told = TapeRow(99, "run:x", 99, event.kind, 0, encode(event), bytes(32))
        rows = await runtime.gateway.ask(lambda reader: [*whole_tape(reader, accepted.run_id), told])
    changes = changes_in(rows)
    assert changes.notes() == ("not shown: 7 more changes of the program (call call)",)
    with pytest.raises(StateConflict, match="does not hold all that the run did"):
        changes.check_whole()


async def test_changes_that_were_recorded_and_then_thrown_away_did_not_happen() -> None:
    change = FileChange("a", None, digest(b""))
    events = FilesChanged("one", (change,)), FilesChanged("two", (change,)), FilesChanged("two", discarded=1)
    rows = [TapeRow(at, "run:x", at, each.kind, 0, encode(each), bytes(32)) for at, each in enumerate(events, start=1)]
    assert changes_in(rows).told == (change,)
