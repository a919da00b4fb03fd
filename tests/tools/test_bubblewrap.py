import os
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.tools import bubblewrap
from palyra_trio.tools.bubblewrap import Isolation, arguments, candidates, environment, find
from palyra_trio.tools.job import Job, KillReceipt, SandboxFailed
from palyra_trio.tools.overlay import Layer
from palyra_trio.tools.process_tree import carry_out
from palyra_trio.tools.view import View
from tests.tools.zoo import Keeper, view

VIEW = View(
    ("/usr",), (("/bin", "usr/bin"),), ("/etc/ssl/certs",), ("/opt/tools",), ("/opt/tools/bin", "/usr/bin"), "/home/me"
)
JOB = Job("/usr/bin/ls", ("ls", "-l"), "/home/me/work", "/home/me/work/src", "token", {"CI": "1"})


def words() -> list[str]:
    return arguments(VIEW, JOB, {"seccomp": 5, "block-fd": 6, "json-status-fd": 7}, {"/etc/passwd": 8})


def test_every_wall_is_asked_for() -> None:
    namespaces = {
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
    }
    others = {"--disable-userns", "--new-session", "--die-with-parent", "--clearenv"}
    assert namespaces | others <= set(words())
    text = " ".join(words())
    for option in ("--cap-drop ALL", "--seccomp 5", "--block-fd 6", "--json-status-fd 7", "--proc /proc", "--dev /dev"):
        assert option in text


def test_only_the_workspace_can_be_changed() -> None:
    text = " ".join(words())
    assert [word for word in words() if word == "--bind"] == ["--bind"]
    assert "--bind /home/me/work /home/me/work" in text
    for option in (
        "--ro-bind /usr /usr",
        "--symlink usr/bin /bin",
        "--ro-bind /opt/tools /opt/tools",
        "--remount-ro /",
    ):
        assert option in text


def test_a_job_with_a_layer_writes_there_and_nowhere_else() -> None:
    job = attrs.evolve(JOB, layer=Layer("/state/layers/x/upper", "/state/layers/x/work", 0))
    text = " ".join(arguments(VIEW, job, {"seccomp": 5, "block-fd": 6, "json-status-fd": 7}, {"/etc/passwd": 8}))
    assert "--bind" not in text.split()
    layer = "--overlay-src /home/me/work --overlay /state/layers/x/upper /state/layers/x/work /home/me/work"
    assert f" {layer} --remount-ro / " in text


def test_the_home_folder_is_hidden_before_anything_in_it_is_shown() -> None:
    text = " ".join(words())
    assert text.index("--tmpfs /home/me ") < text.index("--ro-bind /opt/tools") < text.index("--bind /home/me/work")


def test_the_program_is_the_last_word_with_its_arguments() -> None:
    assert words()[-3:] == ["--", "/usr/bin/ls", "-l"]


def test_the_environment_is_on_no_command_line() -> None:
    assert "--setenv" not in words()
    options = environment(VIEW, JOB).split("\0")
    assert options[-7:] == ["--setenv", "CI", "1", "--setenv", "PALYRA_TRIO_JOB", "token", ""]


def test_it_is_found_by_an_absolute_path_without_links() -> None:
    found = list(candidates())
    assert found
    assert find() == found[0]
    for each in found:
        assert each == each.resolve()
        assert os.access(each, os.X_OK)


async def test_a_bubblewrap_that_lies_in_the_workspace_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "bwrap").touch()
    job = Job("/bin/true", ("true",), str(tmp_path), str(tmp_path), "token")
    with pytest.raises(SandboxFailed, match="lies in the workspace"):
        await run(Isolation(tmp_path / "bwrap", view()), job)


def test_it_tells_its_version() -> None:
    found = find()
    assert found is not None
    assert bubblewrap.version(found)[0].isdigit()


async def run(launcher: Isolation, job: Job) -> tuple[str, list[KillReceipt]]:
    said = bytearray()
    receipts: list[KillReceipt] = []
    with trio.fail_after(20):
        await carry_out(launcher, job, lambda stream, data: said.extend(data), receipts.append)
    return said.decode(), receipts


async def test_a_sandbox_that_cannot_be_made_is_a_failure_and_runs_nothing() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(4)
        assert isinstance(cage.launcher, Isolation)
        job = Job("/usr/bin/touch", ("touch", "made"), cage.workspace, f"{cage.workspace}/missing", "token")
        with pytest.raises(SandboxFailed, match="nothing was run"):
            await run(cage.launcher, job)
        assert os.listdir(cage.workspace) == []


async def test_a_bubblewrap_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    work = tmp_path / "work"
    job = Job("/bin/true", ("true",), str(work), str(work), "token")
    with pytest.raises(SandboxFailed, match="could not be started"):
        await run(Isolation(tmp_path / "bwrap", view()), job)


async def test_a_healthy_program_outlives_an_idle_worker_thread() -> None:
    """The ten-second trap: had a thread of Trio's started it, it would die with that thread."""
    with Keeper() as keeper:
        cage = keeper.cage(4)
        seen = await cage.run(cage.script("import signal; signal.sigtimedwait([], 0.1); print('alive')"), None)
        assert seen.output == b"alive\n"
        with pytest.raises(AssertionError):
            await trio.to_thread.run_sync(lambda: trio.run(cage.run, cage.script("pass"), None))
