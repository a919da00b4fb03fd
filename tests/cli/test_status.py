import json
import os
import time
from pathlib import Path

import pytest

from palyra_trio import __version__
from palyra_trio.journal.store import lock_state_dir
from tests.cli.conftest import Home, Palyra
from tests.processes import Shell


def test_without_a_daemon_there_is_a_status_of_its_own_and_a_remedy(palyra: Palyra, home: Home) -> None:
    result = palyra("status")
    assert (result.exit_code, result.stdout) == (69, "")
    assert "nobody answers" in result.stderr
    assert "`palyra-trio serve` starts a daemon" in result.stderr
    assert not home.state_dir.exists()


def test_waiting_ends_when_its_time_has_passed(palyra: Palyra) -> None:
    before = time.monotonic()
    assert palyra("status", "--wait", "0.3").exit_code == 69
    assert time.monotonic() - before >= 0.2


@pytest.mark.parametrize("seconds", ["-1", "601", "soon"])
def test_a_wait_is_a_bounded_number_of_seconds(palyra: Palyra, seconds: str) -> None:
    assert palyra("status", "--wait", seconds).exit_code == 2


def test_a_holder_that_serves_nobody_is_no_daemon(palyra: Palyra, home: Home) -> None:
    lock = lock_state_dir(home.state_dir)
    try:
        assert palyra("status").exit_code == 69
    finally:
        os.close(lock)


def test_waiting_ends_when_the_daemon_is_ready_and_both_forms_tell_who_it_is(shell: Shell, tmp_path: Path) -> None:
    with shell.process("serve", "--port", "0") as daemon:
        told = shell.run("status", "--wait", "15", "--json")
        assert told.returncode == 0, told.stderr
        status = json.loads(told.stdout)
        assert (status["pid"], status["version"]) == (daemon.pid, __version__)
        assert (status["live_runs"], status["draining"]) == (0, False)
        assert status["journal_g"] > 0
        text = shell.run("status").stdout
    unix, tcp = status["addresses"]
    assert (unix, tcp[:17]) == (f"unix:{shell.state_dir / 'socket'}", "grpc://127.0.0.1:")
    assert (status["quic_port"], status["authority_sha256"]) == (0, "")
    assert text.splitlines() == [
        f"ready: process {daemon.pid}, version {__version__}",
        f"listens at {unix}",
        f"listens at {tcp}",
        f"live runs 0, boot {status['boot_id']}",
        f"policy default, your files {status['policy_hash'][:12]}",
        *status["sandbox_report"],
    ]
    assert status["sandbox_tier"] in range(5)
