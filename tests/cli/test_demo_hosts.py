"""The hosts of the demonstration: what crosses between them, what does not, and that nothing of them stays."""

import os
import shutil
import socket
from pathlib import Path

import pytest
import trio

from palyra_trio.cli import demo_hosts
from palyra_trio.cli.demo_hosts import CLIENT, DAEMON, MOVED, missing, on_host, three_hosts

needs_namespaces = pytest.mark.skipif(missing() is not None, reason=f"NOT RUN: {missing()}")
SILENCE_S = 0.3


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    absent = missing()
    assert absent is not None
    assert "root only" in absent[0]


def test_without_iproute2_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing() == ("there is no `ip`", "install iproute2")


def test_elsewhere_than_on_linux_it_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_hosts.sys, "platform", "darwin")
    absent = missing()
    assert absent is not None
    assert "Linux" in absent[0]


def _udp(host: str, address: str = "") -> socket.socket:
    with on_host(host):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((address, 0))
    opened.settimeout(SILENCE_S)
    return opened


@needs_namespaces
async def test_a_client_that_moves_is_seen_at_its_new_address() -> None:
    async with three_hosts() as hosts:
        with _udp(hosts.daemon, DAEMON) as there, _udp(hosts.client) as here:
            here.sendto(b"one", there.getsockname())
            assert there.recvfrom(9)[1][0] == CLIENT
            await hosts.move_client(MOVED)
            here.sendto(b"two", there.getsockname())
            assert there.recvfrom(9)[1][0] == MOVED


@needs_namespaces
async def test_when_udp_is_blocked_it_is_lost_without_a_word_and_tcp_is_not() -> None:
    async with three_hosts() as hosts:
        with _udp(hosts.daemon, DAEMON) as there, _udp(hosts.client) as here:
            await hosts.block_udp()
            here.sendto(b"one", there.getsockname())
            with pytest.raises(TimeoutError):
                there.recv(9)
        with on_host(hosts.daemon):
            listener = socket.create_server((DAEMON, 0))
        with listener, on_host(hosts.client):
            socket.create_connection(listener.getsockname(), SILENCE_S).close()


@needs_namespaces
async def test_the_hosts_are_gone_after_the_block_however_it_ends() -> None:
    names: list[str] = []
    with trio.move_on_after(10) as scope:
        async with three_hosts() as hosts:
            names += [hosts.client, hosts.router, hosts.daemon]
            assert all((Path("/run/netns") / name).exists() for name in names)
            scope.cancel()
            await trio.sleep_forever()
    assert len(names) == 3
    assert not any((Path("/run/netns") / name).exists() for name in names)


@needs_namespaces
async def test_this_thread_is_at_home_again_after_the_block() -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    async with three_hosts() as hosts:
        with on_host(hosts.client):
            assert os.readlink("/proc/thread-self/ns/net") != home
        assert os.readlink("/proc/thread-self/ns/net") == home
