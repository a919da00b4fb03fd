"""Hosts on this machine: network namespaces that a test makes, with veth pairs between them, and that are gone after it.

A program runs on a host by `Host.command`; what the test itself opens within `Host.entered` belongs to that host too. It
needs root and iproute2, and `missing` says so.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache

import attrs

from palyra_trio.cli.demo_hosts import on_host
from tests.faults.link import Badness
from tests.processes import ROOT

NEAR, FAR = "192.0.2.1", "192.0.2.2"  # RFC 5737: addresses that nobody has
ENDING_S = 10.0


@cache
def missing() -> str | None:
    """Return why no namespace can be made here, or None when one can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root only"
    if shutil.which("ip") is None:
        return "there is no `ip`: install iproute2"
    probe = f"ptprobe{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


@attrs.frozen
class Host:
    """A namespace with one interface, on which it has `address`/24."""

    name: str
    interface: str
    address: str

    def ip(self, *words: str) -> None:
        """Configure the host as `ip` does. Raises CalledProcessError."""
        subprocess.run(["ip", "-n", self.name, *words], check=True, capture_output=True)

    def command(self, *words: str) -> list[str]:
        """Return the command that runs another one on this host."""
        return ["ip", "netns", "exec", self.name, *words]

    def move_to(self, address: str) -> None:
        """Give the host another address and take away the one it had last, as happens to a phone between two networks."""
        self.ip("addr", "flush", "dev", self.interface)
        self.ip("addr", "add", f"{address}/24", "dev", self.interface)

    def entered(self) -> AbstractContextManager[None]:
        """Let what this thread opens and starts within the block belong to the host."""
        return on_host(self.name)


@attrs.define
class Link:
    """The wire between two hosts. `done` counts what it did with frames, once it has ended."""

    _process: "subprocess.Popen[str]"
    done: dict[str, int] = attrs.Factory(dict)

    def become(self, badness: Badness) -> None:
        """Be so bad from now on, both ways."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(attrs.asdict(badness))}\n")
        self._process.stdin.flush()


@contextmanager
def _namespace(name: str) -> Generator[None]:
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _host(name: str, interface: str, address: str) -> Host:
    host = Host(name, interface, address)
    host.ip("addr", "add", f"{address}/24", "dev", interface)
    host.ip("link", "set", interface, "up")
    return host


@contextmanager
def two_hosts() -> Generator[tuple[Host, Host]]:
    """Make a near host and a far one with a good wire between them."""
    tag = secrets.token_hex(3)
    near, far = f"pt{tag}n", f"pt{tag}f"
    with ExitStack() as stack:
        for name in (near, far):
            stack.enter_context(_namespace(name))
        _veth((near, "eth0"), (far, "eth0"))
        yield _host(near, "eth0", NEAR), _host(far, "eth0", FAR)


@contextmanager
def two_hosts_apart(seed: int = 0) -> Generator[tuple[Host, Host, Link]]:
    """Make a near host and a far one with a wire between them that can be bad."""
    tag = secrets.token_hex(3)
    near, middle, far = f"pt{tag}n", f"pt{tag}m", f"pt{tag}f"
    with ExitStack() as stack:
        for name in (near, middle, far):
            stack.enter_context(_namespace(name))
        _veth((near, "eth0"), (middle, "left"))
        _veth((far, "eth0"), (middle, "right"))
        for interface in ("left", "right"):
            subprocess.run(["ip", "-n", middle, "link", "set", interface, "up"], check=True)
        hosts = _host(near, "eth0", NEAR), _host(far, "eth0", FAR)
        command = [sys.executable, "-m", "tests.faults.link", "left", "right", str(seed)]
        with subprocess.Popen(
            ["ip", "netns", "exec", middle, *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                link = Link(process)
                yield *hosts, link
                said, _ = process.communicate(timeout=ENDING_S)
                link.done.update(json.loads(said))
            finally:
                process.kill()


def _veth(one: tuple[str, str], other: tuple[str, str]) -> None:
    (here, first), (there, second) = one, other
    ends = ["type", "veth", "peer", "name", second, "netns", there]
    subprocess.run(["ip", "link", "add", first, "netns", here, *ends], check=True, capture_output=True)
