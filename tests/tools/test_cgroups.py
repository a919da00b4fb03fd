from pathlib import Path

import attrs
import pytest

from palyra_trio.tools import cgroups
from palyra_trio.tools.cgroups import Cgroup
from palyra_trio.tools.job import Bounds, Job

JOB = Job("/bin/true", ("true",), "/w", "/w", "abc", bounds=Bounds(pids=7, memory_bytes=99))


@pytest.mark.parametrize("memory", [False, True])
def test_a_job_gets_a_group_with_its_bounds(tmp_path: Path, memory: bool) -> None:
    with Cgroup(tmp_path, memory).job(JOB) as group:
        group.add(1234)
        written = {each.name: each.read_text() for each in group.folder.iterdir()}
        assert written == {"pids.max": "7", "cgroup.procs": "1234"} | ({"memory.max": "99"} if memory else {})
        for each in group.folder.iterdir():  # the files of a real group need not be removed
            each.unlink()
    assert not list(tmp_path.iterdir())


def test_a_group_that_is_still_held_is_removed_with_a_later_one(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path, False)
    with cgroup.job(JOB) as first:
        pass  # its files stay, as a process would
    assert first.folder.exists()
    (first.folder / "pids.max").unlink()
    with cgroup.job(attrs.evolve(JOB, token="other")) as second:
        (second.folder / "pids.max").unlink()
    assert not first.folder.exists()
    assert not second.folder.exists()


def test_the_groups_of_the_dead_are_removed() -> None:
    own = cgroups.make()
    if own is None:
        pytest.skip("unavailable: no cgroup of this process may be changed")
    left = own.folder.with_name("palyra-trio-4194305")  # above the largest process number
    (left / "job").mkdir(parents=True)
    again = cgroups.make()
    assert again == own
    assert not left.exists()
    assert own.folder.exists()
    own.close()
    assert not own.folder.exists()
