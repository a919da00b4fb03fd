import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.tools import canaries
from palyra_trio.tools.job import Job, Stream
from palyra_trio.tools.process_tree import Launcher
from palyra_trio.tools.sandbox import SandboxSettings, SandboxTooWeak, open_sandbox
from tests.tools.zoo import NOBODY, ROOT, system_python

SETTINGS = SandboxSettings(user=str(NOBODY))
HOME = Path("/home/me")
DENY = """
echo 0 >/proc/sys/user/max_user_namespaces
exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$0" -P -m tests.tools.zoo 0 - report
"""


async def test_each_tier_is_proven_and_the_strongest_is_in_force() -> None:
    async with open_sandbox(attrs.evolve(SETTINGS, bare=True), HOME) as sandbox:
        report = sandbox.report
    assert [each.tier for each in report.tiers if each.available] == [4, 3, 2, 1]
    assert sandbox.tier == 4
    assert report.in_force.startswith("sandbox tier 4 isolated (bubblewrap ")
    assert not any(each.reason or each.remedy for each in report.tiers)


async def test_the_bare_tier_is_off_unless_configured() -> None:
    async with open_sandbox(SETTINGS, HOME) as sandbox:
        assert not sandbox.report.of(1).available


async def test_without_bubblewrap_and_with_an_old_landlock_it_falls_and_says_so(tmp_path: Path) -> None:
    async with open_sandbox(SETTINGS, HOME, abi=4, bwrap=tmp_path / "bwrap") as sandbox:
        report = sandbox.report
    assert [each.available for each in report.tiers] == [False, False, True, False]
    assert sandbox.tier == 2
    assert "bubblewrap said: " in report.of(4).reason
    assert "Landlock ABI 4, and 6 is needed" in report.of(3).reason
    assert "Linux 6.12" in report.of(3).remedy
    assert "no fence for signals" in report.in_force


async def test_a_bubblewrap_that_lets_everything_through_is_found_out(tmp_path: Path) -> None:
    """It says all that bubblewrap would say, and runs the program without any wall."""
    fake = tmp_path / "bwrap"
    fake.write_text(
        f"""#!{sys.executable} -IS
import json, os, sys
if sys.argv[1:] == ["--version"]: print("bubblewrap 9.9"); sys.exit()
words = sys.argv[1:]
fd, block = (int(words[words.index(each) + 1]) for each in ("--json-status-fd", "--block-fd"))
if os.fork():
    os.wait(); os.write(fd, b'{{"exit-code": 0}}'); sys.exit()
os.write(fd, json.dumps({{"child-pid": os.getpid()}}).encode())
os.read(block, 1)
os.chdir(words[words.index("--chdir") + 1])
rest = words[words.index("--") + 1 :]
os.execv(rest[0], rest)
"""
    )
    fake.chmod(0o755)
    for each in (tmp_path, *tmp_path.parents[:3]):
        each.chmod(0o755)
    settings = SETTINGS if os.access("/usr/bin/python3", os.X_OK) else pytest.skip("unavailable: no system Python")
    fake.write_text(fake.read_text().replace(sys.executable, "/usr/bin/python3"))
    async with open_sandbox(settings, HOME, bwrap=fake) as sandbox:
        assert not sandbox.report.of(4).available
        assert "read a file outside" in sandbox.report.of(4).reason
        assert sandbox.tier == 3


def test_where_namespaces_are_denied_it_falls_and_names_the_remedy() -> None:
    site = next(each for each in sys.path if each.endswith("site-packages"))
    denied = subprocess.run(
        ["unshare", "-U", f"--map-user={NOBODY}", "--keep-caps", "sh", "-c", DENY, system_python()],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{site}",
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    lines = denied.stdout.splitlines()
    assert lines[0].startswith("sandbox tier 3 confined (")
    assert lines[1].startswith("not available: 4 isolated: user namespaces are switched off; bubblewrap said: ")
    assert lines[2] == "  sysctl -w user.max_user_namespaces=15000"


@pytest.mark.skipif(os.geteuid() != 0, reason="unavailable: this is about root")
async def test_root_runs_no_program_unless_somebody_else_is_named() -> None:
    async with open_sandbox(SandboxSettings(), HOME) as sandbox:
        assert sandbox.tier == 0
        assert "sandbox.user" in sandbox.report.of(4).remedy
        assert {each.reason for each in sandbox.report.tiers} == {
            "the daemon runs as root, and no program is run as root"
        }


@pytest.mark.skipif(os.geteuid() != 0, reason="unavailable: this is about root")
@pytest.mark.parametrize("user", ["root", "0", "no-such-user"])
async def test_root_cannot_name_itself_or_nobody_there(user: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"sandbox\.user"):
        async with open_sandbox(SandboxSettings(user=user), HOME):
            pass


async def test_a_call_is_never_run_in_a_weaker_tier(tmp_path: Path) -> None:
    said: list[tuple[Stream, bytes]] = []
    tmp_path.chmod(0o777)
    job = Job("/usr/bin/touch", ("touch", "made"), str(tmp_path), str(tmp_path), "token")
    async with open_sandbox(SETTINGS, HOME, bwrap=tmp_path / "bwrap") as sandbox:
        for tier in (4, 0):
            with pytest.raises(SandboxTooWeak, match=f"tier {tier}, and there is only 3"):
                await sandbox.run(job, tier, lambda stream, data: said.append((stream, data)), lambda receipt: None)
    assert list(tmp_path.iterdir()) == []
    assert said == []


# --- when the canaries are let loose ---


async def test_before_it_was_proven_there_is_no_tier_and_that_is_said() -> None:
    async with open_sandbox(SETTINGS, HOME, proven=False) as sandbox:
        assert (sandbox.tier, sandbox.report.known) == (0, False)
        assert sandbox.report.lines() == ("the sandbox is probed before the first program runs",)
        with pytest.raises(SandboxTooWeak, match="there is only 0 now"):
            sandbox.check(2)
        report = await sandbox.prove()
        assert (report.known, sandbox.tier) == (True, 4)


async def test_of_several_who_ask_one_lets_the_canaries_loose(monkeypatch: pytest.MonkeyPatch) -> None:
    let_loose, flown = canaries.let_loose, list[str]()

    async def counted(launcher: Launcher, aviary: canaries.Aviary, python: str) -> canaries.Finding:
        flown.append(type(launcher).__name__)
        return await let_loose(launcher, aviary, python)

    monkeypatch.setattr(canaries, "let_loose", counted)
    async with open_sandbox(SETTINGS, HOME, proven=False) as sandbox, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        assert flown == []
        for _ in range(5):
            nursery.start_soon(sandbox.prove)
    assert sorted(flown) == ["Confinement", "Confinement", "Isolation"]


async def test_who_gives_up_waiting_leaves_it_to_the_next() -> None:
    async with open_sandbox(SETTINGS, HOME, proven=False) as sandbox:
        with trio.move_on_after(0.01):
            await sandbox.prove()
        assert not sandbox.report.known
        assert (await sandbox.prove()).tier == 4
