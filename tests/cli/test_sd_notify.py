"""What the service manager hears, over a real socket: ready, alive while the loop runs, reloading, stopping."""

import os
import signal
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
import trio

from palyra_trio.cli.sd_notify import ServiceManager
from tests.processes import PATIENCE_S, Shell


@pytest.fixture
def manager(tmp_path: Path) -> Generator[socket.socket, None, None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(os.fspath(tmp_path / "notify"))
        listening.settimeout(PATIENCE_S)
        yield listening


def test_the_life_of_a_daemon_is_told(manager: socket.socket, shell: Shell, tmp_path: Path) -> None:
    watched = {"NOTIFY_SOCKET": os.fspath(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    heard = list[str]()

    def until(beginning: str) -> None:
        while not heard or not heard[-1].startswith(beginning):
            heard.append(manager.recv(4096).decode())

    with shell.process("serve", "--port", "0", environ=watched) as daemon:
        until("READY=1")
        assert "STATUS=serving unix:" in heard[-1]
        until("WATCHDOG=1")
        daemon.send_signal(signal.SIGHUP)
        until("RELOADING=1")
        assert "MONOTONIC_USEC=" in heard[-1]
        until("READY=1")
        daemon.send_signal(signal.SIGTERM)
        until("STOPPING=1")
        assert daemon.wait(PATIENCE_S) == 0


async def test_alive_is_said_at_half_the_time(manager: socket.socket, tmp_path: Path, autojump_clock: object) -> None:
    said = ServiceManager({"NOTIFY_SOCKET": os.fspath(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})
    with trio.move_on_after(31):
        await said.stay_alive()
    manager.setblocking(False)
    assert [manager.recv(64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        manager.recv(64)


async def test_an_abstract_address_is_understood_and_another_process_is_not_watched() -> None:
    name = f"palyra-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        other = ServiceManager({"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
        other.stopping()
        await other.stay_alive()
        listening.setblocking(False)
        assert listening.recv(64) == b"STOPPING=1"
        with pytest.raises(BlockingIOError):
            listening.recv(64)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_nobody_who_listens_is_no_error(environ: dict[str, str]) -> None:
    ServiceManager(environ).ready("serving")
