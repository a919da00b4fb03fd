"""The scan that whole texts and streams share: what it is sure of, and where it waits for more."""

from palyra_trio.guard.redact_marker import Markers
from palyra_trio.guard.redact_rules import begun, found, scan, tail_end

TOKEN = b"ghp_" + b"a1B2c3D4e5F6g7H8i9" * 2
MARKERS = Markers()


def test_a_whole_text_is_scanned_to_its_end() -> None:
    pieces, done, tail = scan(b"x " + TOKEN + b" y", 0, MARKERS, final=True)
    assert (b"".join(pieces), done, tail) == (b"x [redacted:github_token] y", len(TOKEN) + 4, "")


def test_what_may_become_a_secret_is_left_where_it_begins() -> None:
    pieces, done, tail = scan(b"x " + TOKEN[:20], 0, MARKERS, final=False)
    assert (b"".join(pieces), done, tail) == (b"x ", 2, "")
    assert begun(b"x " + TOKEN[:20])
    assert not found(b"x " + TOKEN[:20])


def test_a_complete_head_leaves_its_marker_and_its_tail_is_swallowed() -> None:
    pieces, done, tail = scan(TOKEN, 0, MARKERS, final=False)
    assert (b"".join(pieces), done) == (b"[redacted:github_token]", len(TOKEN))
    assert tail_end(tail, b"more_of_it, and text", 0) == len(b"more_of_it")


def test_the_byte_before_is_context() -> None:
    assert not found(b"x" + TOKEN, 0)
    assert b"".join(scan(b"x" + TOKEN, 1, MARKERS, final=True)[0]) == TOKEN
    assert b"".join(scan(b" " + TOKEN, 1, MARKERS, final=True)[0]) == b"[redacted:github_token]"


def test_a_marker_is_the_same_whether_the_tail_has_come_or_not() -> None:
    keyed = Markers(b"a key")
    whole, begins = scan(TOKEN + b"tail", 0, keyed, final=True)[0], scan(TOKEN, 0, keyed, final=False)[0]
    assert b"".join(whole) == b"".join(begins) != b"[redacted:github_token]"
