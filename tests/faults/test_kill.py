"""`kill -9` in the middle of a hundred runs: nothing that was acknowledged is lost, and no run is live for ever."""

import random
from contextlib import closing
from pathlib import Path

import pytest
import trio

from palyra_trio.core.config import Config
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.tape import RunInterrupted, run_stream
from palyra_trio.daemon import Setup, open_runtime
from palyra_trio.journal.check import check_file
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.providers.choose import ModelSettings
from tests.fakes import assert_journal
from tests.faults.driver import RUNS
from tests.faults.process import running, stays_alive


def _acknowledged(folder: Path) -> dict[str, int]:
    """Return the newest seq of each run that the driver was told of."""
    seqs: dict[str, int] = {}
    for line in (folder / "acknowledged").read_text("ascii").splitlines(keepends=True):
        if line.endswith("\n"):
            run_id, seq = line.split()
            seqs[run_id] = max(int(seq), seqs.get(run_id, 0))
    return seqs


def _kill_and_check(folder: Path, after_s: float) -> int:
    """Kill a storm of runs after a time, and return how many of them were live."""
    with running("storm", folder) as process:
        assert stays_alive(process, after_s)
        process.kill()
        process.wait()
    journal = folder / "state" / FILE_NAME
    assert check_file(journal).faults == ()
    seqs = _acknowledged(folder)
    assert seqs
    with closing(Reader(journal)) as reader:
        live = {run.run_id for run in reader._runs("state = 'running'", (), -1)}
        lost = {run_id: seq for run_id, seq in seqs.items() if reader.last_seq(run_stream(run_id)) < seq}
    assert lost == {}
    assert len(live) <= RUNS

    async def boot() -> dict[str, tuple[RunState, str]]:
        async with open_runtime(Setup(Config(), ModelSettings(), folder / "state")) as gateway:
            runs = await gateway.ask(lambda reader: list(reader._runs("TRUE", (), -1)))
            return {run.run_id: (run.state, run.reason) for run in runs}

    states = trio.run(boot)
    assert {states[run_id] for run_id in live} <= {(RunState.WAITING, "interrupted")}
    assert {state for state, _ in states.values()} <= TERMINAL | {RunState.WAITING, RunState.QUEUED}
    tapes = assert_journal(folder / "state", frozenset({RunState.WAITING, RunState.QUEUED}))
    assert all(tapes[run_id].of(RunInterrupted) for run_id in live)
    return len(live)


def test_three_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    assert sum(_kill_and_check(tmp_path, chance.uniform(0, 1)) for _ in range(3)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("series", range(10))
def test_fifty_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, series: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed} of series {series}")
    chance = random.Random(seed)
    assert sum(_kill_and_check(tmp_path, chance.uniform(0, 2)) for _ in range(5)) > 0
