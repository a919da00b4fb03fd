"""The output of a job: what is kept, what goes to the tape, and what a secret becomes on the way."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.job_output import KEPT_BYTES, WATCHED_CHARACTERS, RedactedOutput
from palyra_trio.tools.job import Stream
from tests.fakes import SECRET


class Tape:
    """Records what it is given, and says so when it is asked to."""

    def __init__(self) -> None:
        self.rows: list[tuple[Stream, str]] = []
        self.commits: list[Callable[[], None]] = []

    def record(self, stream: Stream, text: str, then: Callable[[], None]) -> None:
        self.rows.append((stream, text))
        self.commits.append(then)

    def commit(self) -> None:
        self.commits.pop(0)()


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def output(tape: Tape) -> RedactedOutput:
    return RedactedOutput(Redactor(), tape.record)


def test_the_tape_gets_what_gathered_while_the_row_before_was_written(tape: Tape, output: RedactedOutput) -> None:
    output.take("stdout", b"one ")
    output.take("stdout", b"two ")
    output.take("stderr", b"oops ")
    output.take("stdout", b"three ")
    output.take("stdout", b"four ")
    assert tape.rows == [("stdout", "one ")]
    tape.commit()
    tape.commit()
    assert tape.rows[1:] == [("stdout", "two "), ("stderr", "oops ")]
    output.end()
    assert tape.rows[3:] == [("stdout", "three four ")]
    assert output.kept == b"one two oops three four "


def test_the_beginning_goes_to_the_tape_and_the_end_is_kept(tape: Tape, output: RedactedOutput) -> None:
    for number in range(64):
        output.take("stdout", b"%02d" % number * 2**15)
        while tape.commits:
            tape.commit()
    output.end()
    assert sum(len(text) for _, text in tape.rows) == WATCHED_CHARACTERS
    assert output.size == 2**22
    assert output.kept == b"".join(b"%02d" % number * 2**15 for number in range(48, 64))
    assert len(output.kept) == KEPT_BYTES
    assert output.piece(0, 2**30).offset <= 2**22 - KEPT_BYTES


@given(st.lists(st.integers(1, 30), max_size=20), st.binary(max_size=60))
def test_however_it_is_cut_no_secret_and_no_other_byte_is_lost(cuts: list[int], noise: bytes) -> None:
    tape = Tape()
    output = RedactedOutput(Redactor(), tape.record)
    data = noise + f" key {SECRET} end ünd\n".encode()
    for cut in cuts:
        output.take("stdout", data[:cut])
        data = data[cut:]
    output.take("stdout", data)
    output.end()
    text = "".join(text for _, text in tape.rows)
    assert text.encode() == output.kept
    assert SECRET not in text
    assert text.endswith(" end ünd\n")


def test_who_waits_is_woken_by_more(output: RedactedOutput) -> None:
    changed = output.changed
    output.take("stdout", b"")
    assert not changed.is_set()
    output.take("stdout", b"x\n")
    assert changed.is_set()
    assert not output.changed.is_set()
