"""A socket that listens inside of a sandbox's network, held by the daemon outside: the one door that a program can knock at.

A socket belongs to the network that it was made in, so a helper process goes there, makes it, hands it over and ends; in
the sandbox nothing runs for it. Needs to be whoever made the sandbox, and no privilege.
"""

import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import trio

from palyra_trio.tools.job import SandboxFailed, Standard
from palyra_trio.tools.process_tree import spawn

_SCRIPT = Path(__file__).with_name("inner_listener_helper.py")
HELPER_S = 10.0  # it takes 20 ms
_WORDS_BYTES = 4096


async def listener_in(pid: int, port: int, user: int | None) -> socket.socket:
    """Return a socket that listens on 127.0.0.1 and `port` in the network of process `pid`, which must not end meanwhile.

    `user` is whom that runs as, where that is not the daemon's own user. Raises SandboxFailed. On the main thread only; if
    cancelled, the helper is killed.
    """
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        with theirs, _helper(theirs, pid, port, user):
            theirs.close()
            with trio.move_on_after(HELPER_S):
                await trio.lowlevel.wait_readable(ours)
                said, fds, _, _ = socket.recv_fds(ours, _WORDS_BYTES, 1)
                if fds:
                    return socket.socket(fileno=fds[0])
                raise SandboxFailed(
                    f"no way out could be made for the program: {said.decode() or 'its helper died'}",
                    remedy="a container must allow setns(2) for that; without `network` the program can be run all the same",
                )
    raise SandboxFailed(f"no way out could be made for the program within {HELPER_S} s")


@contextmanager
def _helper(channel: socket.socket, pid: int, port: int, user: int | None) -> Generator[None]:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        become = [] if user is None else [str(user)]
        words = [sys.executable, "-I", "-S", str(_SCRIPT), *map(str, (channel.fileno(), pid, port)), *become]
        popen = spawn(words, Standard(null, null, null), env={}, cwd="/", pass_fds=[channel.fileno()])
    except OSError as error:
        raise SandboxFailed(f"no way out could be made for the program: {error}") from error
    finally:
        os.close(null)
    try:
        yield
    finally:
        popen.kill()
        popen.wait()
