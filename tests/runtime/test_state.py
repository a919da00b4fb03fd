"""The bundle of services: it cannot be changed, and names what it makes by its own clock and chance."""

import threading
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.identity import mint_ulid
from palyra_trio.tools.workspace import Workspace
from tests.fakes import open_fake_runtime


async def test_ids_come_from_its_clock_and_its_chance(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, now_s=lambda: 1_700_000_000.5, random=lambda size: bytes(size)) as runtime:
        name = runtime.state.new_id()
    assert name == mint_ulid(1_700_000_000_500, bytes(10))


async def test_it_is_frozen(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(attrs.exceptions.FrozenError):
            runtime.state.boot_id = "another"  # type: ignore[misc]


async def test_a_disk_that_does_not_answer_holds_up_nobody_else_and_is_given_up_by_a_cancel(tmp_path: Path) -> None:
    answers, looked = threading.Event(), list[bool]()
    async with open_fake_runtime(tmp_path) as runtime:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.state.look, lambda: looked.append(answers.wait(5)))
                await wait_all_tasks_blocked()
                await runtime.run()
                scope.cancel()
        assert looked == []
        answers.set()


async def test_a_folder_is_opened_in_a_thread_and_a_cancel_leaves_it_to_whoever_asked(tmp_path: Path) -> None:
    threads, entered = list[threading.Thread](), list[Path]()

    async with open_fake_runtime(tmp_path) as runtime:
        open_now = runtime.state.open_workspace

        def slowly(folder: str) -> Workspace:
            threads.append(threading.current_thread())
            trio.from_thread.run_sync(scope.cancel)
            return open_now(folder)

        state = attrs.evolve(runtime.state, open_workspace=slowly)
        with trio.CancelScope() as scope:
            with await state.enter(str(runtime.workspace)) as workspace:
                entered.append(workspace.root)
    assert entered == [runtime.workspace]
    assert threading.main_thread() not in threads
