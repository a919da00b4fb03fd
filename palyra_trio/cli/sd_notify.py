"""Telling systemd how the daemon stands, by the protocol of sd_notify(3): ready, reloading, stopping, and alive.

Alive is said by a task of the daemon's own loop, so that a loop that hangs falls silent, and systemd ends it.
"""

import os
import socket
import time
from collections.abc import Mapping

import trio

USEC = 1_000_000


class ServiceManager:
    """Whoever reads the socket that NOTIFY_SOCKET names; nobody where it is not set. One that does not listen is no error."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        own = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / USEC if own else 0.0

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is being read; `ready` ends that."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    async def stay_alive(self) -> None:
        """Say that the loop runs, at half the time that the manager waits for it. Returns at once where it does not watch."""
        while self._address and self._watchdog_s > 0:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._watchdog_s / 2)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto(text.encode(), self._address)
            except OSError:
                return
