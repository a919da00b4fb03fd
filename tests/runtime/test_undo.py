"""Taking back a run: what it changed, who may, when not, and the record of it."""

from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.commands import Accepted, UndoRun
from palyra_trio.core.config import WorkspacesConfig
from palyra_trio.core.errors import NotFound, StateConflict, WorkspaceRefused
from palyra_trio.core.identity import RunId
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session_events import RunUndone
from palyra_trio.core.tape import SESSION_STREAM, FileChange, ProviderRequest
from palyra_trio.runtime.undo import changes_of
from tests.fakes import ME, OTHER, FakeProvider, Runtime, allowing, open_fake_runtime, says, scripted

CONFIG = allowing("files.*")


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
    assert [change.path for change in changes] == ["a.txt", "deep/b.txt", "a.txt"]


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
