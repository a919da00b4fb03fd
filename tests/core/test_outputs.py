from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.outputs import Transcript


def transcript(*runs: tuple[str, str], most: int = 1000) -> Transcript:
    made = Transcript(most)
    for stream, text in runs:
        made.add(stream, text)
    return made


def test_each_change_of_stream_begins_a_line_of_its_own() -> None:
    made = transcript(("stdout", "one\n"), ("stdout", "two"), ("stderr", "three\n"), ("stdout", "four\n"))
    assert made.excerpt() == "[stdout]\none\ntwo\n[stderr]\nthree\n[stdout]\nfour"
    assert made.piece() == b"[stdout]\none\ntwo\n[stderr]\nthree\n[stdout]\nfour\n"


def test_nothing_is_nothing() -> None:
    made = transcript(("stdout", ""))
    assert (made.excerpt(), made.piece(), made.size_bytes, made.whole) == ("", b"", 0, True)


def test_of_a_long_one_the_edges_are_shown_and_how_much_is_missing() -> None:
    made = transcript(("stdout", "a" * 500), ("stdout", "b" * 5000), ("stdout", "c" * 40), most=100)
    head, between, tail = made.excerpt().split("\n[… ")[0], "5449 characters left out …]\n", "b" * 10 + "c" * 40
    assert head == "[stdout]\n" + "a" * 41
    assert made.excerpt() == f"{head}\n[… {between}{tail}"
    assert not made.whole


def test_a_piece_is_what_was_added_since_the_last() -> None:
    made = transcript(("stdout", "é"), ("stdout", "x"))
    assert made.unkept_bytes == 12
    assert made.piece() == "[stdout]\néx".encode()
    assert (made.unkept_bytes, made.piece()) == (0, b"")
    made.add("stdout", "y")
    assert (made.size_bytes, made.piece()) == (13, b"y")


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(alphabet="ab\né", max_size=30))),
    st.integers(2, 60),
    st.integers(1, 50),
)
def test_the_pieces_are_the_whole_and_the_excerpt_is_its_edges(
    runs: list[tuple[str, str]], most: int, least: int
) -> None:
    made, pieces = Transcript(most), b""
    for stream, text in runs:
        made.add(stream, text)
        pieces += made.piece() if made.unkept_bytes >= least else b""
    whole = (pieces + made.piece()).decode()
    assert made.size_bytes == len(whole.encode())
    assert transcript(*runs, most=10**6).excerpt() == whole.removesuffix("\n")
    shown = made.excerpt()
    if made.whole:
        assert shown == whole.removesuffix("\n")
    else:
        half = most // 2
        assert shown.startswith(whole[:half])
        assert shown.endswith(whole[-half:].removesuffix("\n"))
