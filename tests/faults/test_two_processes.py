"""One state directory, one process: the second is told who holds it, and the journal is never touched by two."""

from pathlib import Path
from subprocess import Popen

import pytest
import trio

from palyra_trio.core.config import Config
from palyra_trio.core.errors import StateLocked
from palyra_trio.daemon import Setup, open_runtime
from palyra_trio.journal.check import check_file
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.providers.choose import ModelSettings
from tests.faults.process import running, start


def _open(state_dir: Path) -> None:
    async def main() -> None:
        async with open_runtime(Setup(Config(), ModelSettings(), state_dir)):
            pass

    trio.run(main)


def test_the_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with running("idle", tmp_path) as process, pytest.raises(StateLocked, match=f"process {process.pid}"):
        _open(tmp_path / "state")
    _open(tmp_path / "state")
    assert check_file(tmp_path / "state" / FILE_NAME).faults == ()


def test_the_second_process_harms_none_of_the_firsts_runs(tmp_path: Path) -> None:
    with running("storm", tmp_path) as process:
        for _ in range(10):
            with pytest.raises(StateLocked):
                _open(tmp_path / "state")
        assert process.poll() is None
    assert check_file(tmp_path / "state" / FILE_NAME).faults == ()


def test_of_many_that_open_at_once_one_gets_in(tmp_path: Path) -> None:
    processes = [start("idle", tmp_path) for _ in range(4)]
    try:
        losers = [process for process in processes if _lost(process)]
        assert len(losers) == len(processes) - 1
        (winner,) = set(processes) - set(losers)
        for loser in losers:
            assert f"is in use by process {winner.pid}" in loser.communicate()[1]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    _open(tmp_path / "state")
    assert check_file(tmp_path / "state" / FILE_NAME).faults == ()


def _lost(process: Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() != "ready\n"
