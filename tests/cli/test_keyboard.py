import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.cli.keyboard import LINE_BYTES, LineReader
from tests.processes import PATIENCE_S, ROOT

OBEYING = """
import sys
import trio
from palyra_trio.cli.keyboard import obey_signals

async def interrupt():
    print("interrupted", flush=True)
    {interrupt}

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey_signals, interrupt, lambda: print("terminated", flush=True))
        await trio.testing.wait_all_tasks_blocked()
        print("ready", flush=True)

import trio.testing
trio.run(main)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[LineReader, int]]:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb", buffering=0) as end:
        yield LineReader(reading), end.fileno()


@pytest.fixture
def terminal() -> Iterator[tuple[LineReader, int]]:
    master, slave = pty.openpty()
    with open(slave, "rb", buffering=0), open(master, "wb", buffering=0):
        yield LineReader(slave), master


Pipe = tuple[LineReader, int]


def close(descriptor: int) -> None:
    """Close what is behind a descriptor; its number stays taken, so that its owner can close it too."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)


async def test_lines_come_one_by_one_however_they_arrive(pipe: Pipe) -> None:
    reader, end = pipe
    os.write(end, b"one\ntwo\n\nth")
    assert [await reader.line() for _ in range(3)] == ["one", "two", ""]
    os.write(end, b"ree\n")
    assert await reader.line() == "three"


async def test_a_last_line_without_an_end_is_a_line_and_then_there_are_none(pipe: Pipe) -> None:
    reader, end = pipe
    os.write(end, b"one\nrest")
    assert await reader.line() == "one"
    close(end)
    assert [await reader.line() for _ in range(3)] == ["rest", None, None]


async def test_a_cancelled_read_loses_nothing(pipe: Pipe, autojump_clock: trio.testing.MockClock) -> None:
    reader, end = pipe
    os.write(end, b"hel")
    with trio.move_on_after(1) as scope:
        await reader.line()
    assert scope.cancelled_caught
    os.write(end, b"lo\n")
    assert await reader.line() == "hello"


async def test_a_read_that_would_not_wait_can_be_cancelled_too(pipe: Pipe) -> None:
    reader, end = pipe
    os.write(end, b"a\nb\n")
    assert await reader.line() == "a"
    with trio.CancelScope() as scope:
        scope.cancel()
        await reader.line()
    assert scope.cancelled_caught
    assert await reader.line() == "b"


async def test_bytes_that_are_not_utf_8_are_kept(pipe: Pipe) -> None:
    reader, end = pipe
    os.write(end, b"\xff\xfe\n")
    line = await reader.line()
    assert line is not None
    assert line.encode("utf-8", "surrogateescape") == b"\xff\xfe"


async def test_a_line_without_end_is_bounded(pipe: Pipe) -> None:
    reader, end = pipe
    lines: list[str | None] = []

    async def write() -> None:
        os.set_blocking(end, False)
        await trio.lowlevel.FdStream(os.dup(end)).send_all(b"x" * (3 * LINE_BYTES))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        lines += [await reader.line() for _ in range(2)]
    assert all(line is not None and LINE_BYTES <= len(line) < 2 * LINE_BYTES for line in lines)


async def test_a_terminal_gives_lines_and_ctrl_d_ends_them(terminal: Pipe) -> None:
    reader, keys = terminal
    os.write(keys, b"yes\n")
    assert await reader.line() == "yes"
    os.write(keys, b"\x04")
    assert await reader.line() is None


async def test_what_was_typed_before_can_be_discarded_at_a_terminal(terminal: Pipe) -> None:
    reader, keys = terminal
    os.write(keys, b"one\ny\n")
    assert await reader.line() == "one"
    reader.discard()
    os.write(keys, b"n\n")
    assert await reader.line() == "n"


async def test_what_was_piped_in_is_not_discarded(pipe: Pipe) -> None:
    reader, end = pipe
    os.write(end, b"one\ntwo\n")
    assert await reader.line() == "one"
    reader.discard()
    assert await reader.line() == "two"


async def test_a_terminal_that_is_gone_is_at_its_end(terminal: Pipe) -> None:
    reader, keys = terminal
    lines: list[str | None] = ["not yet"]

    async def read() -> None:
        lines.append(await reader.line())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        close(keys)
    assert lines[-1] is None


def obeying(*signals: signal.Signals, interrupt: str = "") -> tuple[int, list[str]]:
    """Send signals to a process that obeys them, each after it has said something; return its end and what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", OBEYING.format(interrupt=interrupt or "await trio.lowlevel.checkpoint()")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for number in signals:
            said.append(process.stdout.readline().strip())
            process.send_signal(number)
        try:
            rest, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, [*said, *rest.split()]


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")], ids=["SIGINT", "SIGTERM"]
)
def test_the_first_signal_is_heard_and_the_second_ends_the_process(number: signal.Signals, word: str) -> None:
    assert obeying(number, number) == (128 + number, ["ready", word])


def test_the_second_signal_is_obeyed_while_the_first_is_still_being_recorded() -> None:
    ended = obeying(signal.SIGINT, signal.SIGINT, interrupt="await trio.sleep_forever()")
    assert ended == (130, ["ready", "interrupted"])


def test_a_signal_of_another_kind_is_no_second_one() -> None:
    ended = obeying(signal.SIGINT, signal.SIGTERM, signal.SIGTERM)
    assert ended == (143, ["ready", "interrupted", "terminated"])
