import os
import signal
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest

from palyra_trio.tools import processes
from palyra_trio.tools.confined import Confinement
from palyra_trio.tools.job import Job, SandboxFailed
from palyra_trio.tools.process_tree import Exit
from tests.tools.zoo import Keeper, is_ready


def spawner_of(keeper: Keeper) -> int:
    popen = keeper.spawner._popen
    assert popen is not None
    return popen.pid


async def test_one_spawner_serves_all_jobs_and_is_started_again_if_it_has_ended() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(3)
        await cage.run(cage.script("pass"), None)
        first = spawner_of(keeper)
        await cage.run(cage.script("pass"), None)
        assert spawner_of(keeper) == first
        keeper.spawner.close()
        seen = await cage.run(cage.script("print(1)"), None)
        assert seen.output == b"1\n"
        assert spawner_of(keeper) != first


async def test_a_job_outlives_the_spawner_and_is_still_killed() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(3)

        def when(out: bytes) -> bool:
            if is_ready(out):
                os.kill(spawner_of(keeper), signal.SIGKILL)
            return is_ready(out)

        seen = await cage.run(cage.job("double fork"), when, delay_s=0.05)
    assert seen.alive == 0
    assert seen.receipts[0].survivors == 0


@pytest.mark.parametrize("tier", [3, 2])
async def test_a_program_cannot_kill_its_supervisor(tier: int) -> None:
    with Keeper() as keeper:
        cage = keeper.cage(tier)
        attempt = "import os\ntry: os.kill(os.getppid(), 9)\nexcept PermissionError: print('refused')"
        assert (await cage.run(cage.script(attempt), None)).output == b"refused\n"


async def test_a_supervisor_that_was_killed_is_told_and_its_tree_hunted() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(2, abi=0)
        job = cage.script("import os, select\nif os.fork(): os.kill(os.getppid(), 9)\nselect.select([], [], [], 60)")
        with pytest.raises(SandboxFailed, match="supervisor of the program was killed"):
            await cage.run(job, None)
        assert not processes.marked(job.token)


async def test_a_program_that_cannot_be_started_says_why() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(3)
        job = Job("/usr/bin/no-such", ("no-such",), cage.workspace, cage.workspace, "token")
        with pytest.raises(SandboxFailed, match=r"/usr/bin/no-such: .*No such file"):
            await cage.run(job, None)


async def test_a_job_of_any_length_is_handed_over() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(3)
        job = cage.script("import sys; print(sum(map(len, sys.argv[1:])))")
        seen = await cage.run(attrs.evolve(job, argv=(*job.argv, *["x" * 100_000] * 8)), None)
        assert seen.output == b"800000\n"


async def test_the_scratch_folder_is_its_own_and_is_removed() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(3)
        script = (
            "import os; home = os.environ['HOME']; open(home + '/x', 'w'); print(home, os.environ['TMPDIR'], end='')"
        )
        seen = await cage.run(cage.script(script), None)
        home, temporary = map(Path, seen.output.decode().split())
        for each in processes.tree(spawner_of(keeper)):  # its supervisor removes it after the answer
            if each.pid != spawner_of(keeper):
                with suppress(ProcessLookupError), closing(Exit(each.pid)) as supervisor:
                    await supervisor.wait()
        assert home == temporary
        assert not home.exists()


def test_only_the_confined_tier_holds_files_and_sockets() -> None:
    with Keeper() as keeper:
        confined, contained = keeper.cage(3).launcher, keeper.cage(2).launcher
        job = Job("/bin/true", ("true",), "/w", "/w", "token")
        assert isinstance(confined, Confinement)
        assert isinstance(contained, Confinement)
        assert confined._message(job)["seccomp"]
        assert not contained._message(job)["seccomp"]
        assert ("/w", 0x7FFF) in confined._message(job)["ruleset"]["paths"]
        assert contained._message(job)["ruleset"] == contained._message(job)["fence"]
