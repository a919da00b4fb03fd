"""Three hosts on this machine: network namespaces for a client, a router and a daemon, with wires between them.

What the hosts say to each other crosses real interfaces and nothing else's. They are gone when the block is left.
"""

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio

CLONE_NEWNET = 0x40000000  # setns(2)
# RFC 5737: addresses that nobody has, in two networks
CLIENT, MOVED, CLIENT_ROUTER = "192.0.2.2", "192.0.2.3", "192.0.2.1"
DAEMON, DAEMON_ROUTER = "192.0.2.130", "192.0.2.129"
PREFIX = 25
INTERFACE = "eth0"
COMMAND = ("ip",)


def missing() -> tuple[str, str] | None:
    """Return why it cannot be shown here, and a remedy; None when it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's", "run it on Linux"
    if os.geteuid() != 0:
        return (
            "network namespaces are made by root only",
            "run it as root, in a container or virtual machine of your own",
        )
    if shutil.which("ip") is None:
        return "there is no `ip`", "install iproute2"
    return None


@attrs.frozen
class Hosts:
    """The namespaces, by name."""

    client: str
    router: str
    daemon: str

    def on_daemon(self, *words: str) -> list[str]:
        """Return the command that runs another one where the daemon is."""
        return ["ip", "netns", "exec", self.daemon, *words]

    async def move_client(self, address: str) -> None:
        """Take the client's address away and give it another one, as happens between two networks."""
        await _ip("-n", self.client, "addr", "flush", "dev", INTERFACE)
        await _settle(self.client, address, CLIENT_ROUTER)

    async def block_udp(self) -> None:
        """Let the router drop what is UDP, both ways, and tell nobody."""
        await _ip("-n", self.router, "rule", "add", "ipproto", "udp", "blackhole")

    async def connect(self) -> None:
        """Lay the wires, and give everybody an address and a way to the others."""
        for name, wire, address, gateway in (
            (self.client, "client", CLIENT, CLIENT_ROUTER),
            (self.daemon, "daemon", DAEMON, DAEMON_ROUTER),
        ):
            await _ip("link", "add", INTERFACE, "netns", name, "type", "veth", "peer", wire, "netns", self.router)
            await _ip("-n", self.router, "addr", "add", f"{gateway}/{PREFIX}", "dev", wire)
            await _ip("-n", self.router, "link", "set", wire, "up")
            await _ip("-n", name, "link", "set", INTERFACE, "up")
            await _settle(name, address, gateway)
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        await _ip("netns", "exec", self.router, "sh", "-c", forward)


async def _settle(name: str, address: str, gateway: str) -> None:
    await _ip("-n", name, "addr", "add", f"{address}/{PREFIX}", "dev", INTERFACE)
    await _ip("-n", name, "route", "replace", "default", "via", gateway)


async def _ip(*words: str) -> None:
    await trio.run_process([*COMMAND, *words], capture_stderr=True)


@asynccontextmanager
async def three_hosts() -> AsyncGenerator[Hosts, None]:
    """Make the hosts for the length of the block. Raises CalledProcessError when this machine does not allow it."""
    tag = secrets.token_hex(3)
    names = [f"pt-{tag}-{each}" for each in ("client", "router", "daemon")]
    made = []
    try:
        for name in names:
            await _ip("netns", "add", name)
            made.append(name)
        hosts = Hosts(*names)
        await hosts.connect()
        yield hosts
    finally:
        with trio.CancelScope(shield=True):
            for name in made:
                await trio.run_process(["ip", "netns", "del", name], check=False, capture_stderr=True)


@contextmanager
def on_host(name: str) -> Generator[None]:
    """Let what this thread opens within the block belong to a host."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{name}", "rb") as there:
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
