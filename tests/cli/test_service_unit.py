"""The unit as systemd reads it, and that what it forbids does not weaken the sandbox of the tools."""

import shutil
import subprocess
from pathlib import Path

import pytest

from palyra_trio.cli.service_unit import MARGIN_S, unit_text
from tests.processes import PATIENCE_S
from tests.tools.zoo import NOBODY, as_user, environment, system_python

COMMAND = ("/opt/a b/python", "-m", "palyra_trio", "serve")
BREAKS_NESTED_SANDBOXES = (
    "ProtectKernelTunables", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset", "PrivateUsers",
    "RestrictNamespaces", "PrivateDevices", "RootDirectory", "SystemCallFilter", "ProtectHome", "InaccessiblePaths",
)  # fmt: skip


def directives(text: str) -> list[tuple[str, str]]:
    return [(name, value) for line in text.splitlines() if "=" in line for name, _, value in [line.partition("=")]]


@pytest.mark.parametrize("run_as", ["", "palyra"])
def test_it_tells_when_it_is_ready_is_watched_and_has_longer_to_stop_than_the_drain(run_as: str) -> None:
    said = dict(directives(unit_text(COMMAND, 12.5, run_as=run_as)))
    assert said["Type"] == "notify"
    assert int(said["WatchdogSec"]) > 0
    assert said["TimeoutStopSec"] == str(13 + MARGIN_S)
    assert (said["Delegate"], said["NoNewPrivileges"], said["UMask"]) == ("yes", "yes", "0077")
    assert said.get("User", "") == run_as
    assert said["WantedBy"] == ("multi-user.target" if run_as else "default.target")


@pytest.mark.parametrize("run_as", ["", "palyra"])
def test_nothing_in_it_keeps_programs_from_a_sandbox_of_their_own(run_as: str) -> None:
    assert not {name for name, _ in directives(unit_text(COMMAND, 1, run_as=run_as))} & set(BREAKS_NESTED_SANDBOXES)


def test_words_come_back_as_they_were() -> None:
    text = unit_text(('/a"b', "50%", "$HOME", "back\\slash"), 1, path="/a b:/c")
    assert r'ExecStart="/a\"b" "50%%" "$$HOME" "back\\slash"' in text
    assert 'Environment="PATH=/a b:/c"' in text
    with pytest.raises(ValueError, match="cannot stand in a unit"):
        unit_text(("/bin/x\nExecStartPre=/bin/evil",), 1)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    unit = tmp_path / "palyra-trio.service"
    unit.write_text(unit_text(("/bin/true", "serve"), 10, run_as="daemon", path="/usr/bin"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


HARDENED = (
    "mount --bind /usr /usr && mount -o remount,bind,ro /usr && mount -t tmpfs tmpfs /var/tmp && umask 077 && "
    'exec setpriv --reuid={uid} --regid={uid} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"'
)  # ProtectSystem, PrivateTmp, UMask, User, NoNewPrivileges and CapabilityBoundingSet, as systemd does them


def test_the_sandbox_is_as_strong_in_the_service_as_by_hand() -> None:
    python = system_python()
    with as_user(python, "0", "-", "report", user=NOBODY) as by_hand:
        expected, _ = by_hand.communicate(timeout=PATIENCE_S)
    report = [python, "-P", "-m", "tests.tools.zoo", "0", "-", "report"]
    inside = ["unshare", "--mount", "sh", "-c", HARDENED.format(uid=NOBODY), "sh", *report]
    done = subprocess.run(
        inside, env=environment(), cwd="/", capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sandbox tier" in expected
    assert done.stdout == expected
