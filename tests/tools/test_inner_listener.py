"""A socket that listens in another process's network is had from outside, and heard by nobody else."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import trio

from palyra_trio.tools import inner_listener, processes
from palyra_trio.tools.inner_listener import listener_in
from palyra_trio.tools.job import SandboxFailed

PORT = 3128


ELSEWHERE = """
import ctypes, time
assert ctypes.CDLL(None).unshare(0x50000000) == 0  # CLONE_NEWUSER, CLONE_NEWNET
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The id of a process that has a user namespace and a network of its own."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ELSEWHERE], stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        if not popen.stdout.readline():
            pytest.skip("unavailable: no user namespace can be made here")
        yield popen.pid
        popen.kill()


def left() -> tuple[set[str], set[int]]:
    """Return the descriptors of this process, and its tree."""
    return set(os.listdir("/proc/self/fd")), {each.pid for each in processes.tree(os.getpid())}


async def test_it_listens_there_and_not_here(elsewhere: int) -> None:
    with await listener_in(elsewhere, PORT, None) as found:
        assert found.getsockname() == ("127.0.0.1", PORT)
        with await listener_in(elsewhere, PORT + 1, None):
            pass
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", PORT)


async def test_it_leaves_no_process_and_no_descriptor(elsewhere: int) -> None:
    gc.collect()  # what other tests left open is not closed meanwhile
    descriptors, pids = left()
    (await listener_in(elsewhere, PORT, None)).close()
    after = left()
    assert after[0] <= descriptors
    assert after[1] <= pids


async def test_where_it_cannot_be_made_that_is_said(elsewhere: int) -> None:
    with await listener_in(elsewhere, PORT, None):
        with pytest.raises(SandboxFailed, match=r"no way out could be made for the program: .*Address already in use"):
            await listener_in(elsewhere, PORT, None)
    with pytest.raises(SandboxFailed, match="No such file or directory"):
        await listener_in(2**22 + 1, PORT, None)


async def test_a_helper_that_does_not_answer_is_not_waited_for(
    elsewhere: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path_factory.mktemp("x") / "helper.py"
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(inner_listener, "_SCRIPT", script)
    monkeypatch.setattr(inner_listener, "HELPER_S", 0.1)
    began = time.monotonic()
    with pytest.raises(SandboxFailed, match=r"within 0\.1 s"):
        await listener_in(elsewhere, PORT, None)
    assert time.monotonic() - began < 10
