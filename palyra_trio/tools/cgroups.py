"""A bound on how many processes a job may have, held by a control group, where this process may make one.

Version 2 where its controllers are here to use, which also bounds memory; else the `pids` controller of version 1. The
limits of setrlimit(2) hold besides, but not for root (measured), which is why root needs this. See cgroups(7).
"""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from palyra_trio.tools.job import Job

_NAME = "palyra-trio"


@attrs.frozen
class JobGroup:
    """The group of one job. Whoever is added takes along all that it starts afterwards."""

    folder: Path

    def add(self, pid: int) -> None:
        """Raises ProcessLookupError."""
        (self.folder / "cgroup.procs").write_text(str(pid))


@attrs.frozen
class Cgroup:
    """A folder of groups of this process's own, and whether there is a bound on memory too."""

    folder: Path
    memory: bool
    _left: set[Path] = attrs.field(factory=set, eq=False)

    @contextmanager
    def job(self, job: Job) -> Generator[JobGroup]:
        """Give a group with the job's bounds, which is removed when all in it are dead.

        A kernel may hold on to it for a moment after that (Linux 6.18 does); then a later job removes it.
        """
        folder = self.folder / job.token
        folder.mkdir()
        try:
            (folder / "pids.max").write_text(str(job.bounds.pids))
            if self.memory:
                (folder / "memory.max").write_text(str(job.bounds.memory_bytes))
            yield JobGroup(folder)
        finally:
            self._left.add(folder)
            for each in tuple(self._left):
                with suppress(OSError):
                    each.rmdir()
                    self._left.remove(each)

    def close(self) -> None:
        _remove(self.folder)


def make() -> Cgroup | None:
    """Make the folder of this process's groups, and remove those that processes now dead have left; None if not allowed."""
    for above, memory in _places():
        with suppress(OSError):
            _remove_left(above)
            if memory:
                (above / "cgroup.subtree_control").write_text("+pids +memory")
            folder = above / f"{_NAME}-{os.getpid()}"
            folder.mkdir(exist_ok=True)
            if memory:
                (folder / "cgroup.subtree_control").write_text("+pids +memory")
            return Cgroup(folder, memory)
    return None


def _places() -> Generator[tuple[Path, bool]]:
    """Give the folders of this process's own groups: version 2 first."""
    mounted = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for kind, controller in (("cgroup2", ""), ("cgroup", "pids")):
        for fields in mounted:
            dash = fields.index("-")
            if fields[dash + 1] == kind and (not controller or controller in fields[-1].split(",")):
                for _, controllers, path in own:
                    if controller in controllers.split(","):
                        place = Path(fields[4], path.lstrip("/"))
                        if kind == "cgroup" or "pids" in _words(place / "cgroup.controllers"):
                            yield place, kind == "cgroup2"


def _words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().split()
    return []


def _remove_left(above: Path) -> None:
    for folder in above.glob(f"{_NAME}-*"):
        if not Path("/proc", folder.name.rpartition("-")[2]).exists():
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder of groups, as far as nobody lives in them."""
    with suppress(OSError):
        for each in (*(child for child in folder.iterdir() if child.is_dir()), folder):
            with suppress(OSError):
                each.rmdir()
