"""A job in words, and the pieces that an output is read in."""

import typing

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.jobs import SessionJob, code_in_words, piece_of, state_of
from palyra_trio.core.session_events import JobEnded, JobEnding, JobStarted

STARTED = JobStarted("J1", "R1", "c1", "/bin/cat", ("cat",), "/work", 4, "mark", 0)
JOB = SessionJob("S1", "user:me", 0, STARTED)


@given(st.text(max_size=60), st.integers(0, 70), st.integers(-80, 80), st.integers(1, 90))
def test_a_piece_is_what_stands_there_as_far_as_it_is_kept(text: str, keep: int, since: int, most: int) -> None:
    whole = text.encode()
    kept = whole[-keep:] if keep else b""
    piece = piece_of(kept, len(whole), since, most, ended=True)
    assert whole[piece.offset : piece.after] == piece.data
    assert len(piece.data) <= most
    assert piece.offset >= min(since, len(whole))
    assert piece.ended == (piece.after == len(whole))


@given(st.text(min_size=1, max_size=60), st.integers(1, 9))
def test_pieces_that_follow_each_other_are_the_whole(text: str, most: int) -> None:
    whole, read, since = text.encode(), b"", 0
    while since < len(whole):
        piece = piece_of(whole, len(whole), since, most, ended=True)
        assert piece.offset == since
        read, since = read + piece.data, piece.after
    assert read == whole


def test_what_begins_in_the_middle_begins_with_a_whole_character() -> None:
    whole = "aé…".encode()
    assert piece_of(whole, len(whole), -2, 10, ended=False).data == b""
    assert piece_of(whole, len(whole), -4, 10, ended=False).data == "…".encode()
    assert piece_of(whole[2:], len(whole), 0, 10, ended=False).offset == 3


@pytest.mark.parametrize("ending", typing.get_args(JobEnding))
def test_every_ending_has_words(ending: JobEnding) -> None:
    ended = JobEnded("J1", ending, 0, "user:me", "no such file")
    assert state_of(attrs.evolve(JOB, ended=ended)) not in ("", "running")


def test_a_state_tells_the_receipt() -> None:
    assert state_of(JOB) == "running"
    exited = JobEnded("J1", "exited", 139)
    assert state_of(attrs.evolve(JOB, ended=exited)) == "exited with code 139 (SIGSEGV)"
    stopped = JobEnded("J1", "stopped", by="user:me", pids_seen=4, elapsed_ms=7)
    assert state_of(attrs.evolve(JOB, ended=stopped)) == "stopped by user:me (4 processes killed in 7 ms)"
    survived = attrs.evolve(stopped, survivors=1)
    assert state_of(attrs.evolve(JOB, ended=survived)).endswith("in 7 ms, 1 are still alive)")


def test_a_code_has_the_name_of_its_signal() -> None:
    assert [code_in_words(each) for each in (0, 3, 128, 137, 255)] == ["0", "3", "128", "137 (SIGKILL)", "255"]
