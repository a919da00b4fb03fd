import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.patch import Applied, Hunk, apply_hunks, split_lines

SOURCE = "def f():\n    pass\n\ndef g():\n    pass\n"


def hunk(old: str, new: str, **more: object) -> Hunk:
    return Hunk("1", tuple(split_lines(old)), tuple(split_lines(new)), **more)  # type: ignore[arg-type]


@given(st.text())
def test_lines_join_to_the_text(text: str) -> None:
    assert "".join(split_lines(text)) == text


def test_a_hunk_at_its_line_is_applied_though_it_fits_elsewhere_too() -> None:
    applied = apply_hunks([hunk("    pass\n", "    return\n", start=4)], SOURCE)
    assert applied == Applied("def f():\n    pass\n\ndef g():\n    return\n")


def test_a_hunk_that_fits_in_one_other_place_goes_there_and_that_is_said() -> None:
    applied = apply_hunks([hunk("def g():\n", "def h():\n", start=0)], SOURCE)
    assert applied.text == SOURCE.replace("g", "h")
    assert applied.moved == ("hunk 1 fits at line 4 only, and went there",)


def test_a_hunk_that_fits_in_several_places_is_not_guessed_at() -> None:
    with pytest.raises(InvalidArgument, match="fits at lines 2, 5"):
        apply_hunks([hunk("    pass\n", "    return\n", start=0)], SOURCE)
    with pytest.raises(InvalidArgument, match="fits at lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"):
        apply_hunks([hunk("x\n", "y\n", start=99)], "x\n" * 50)


def test_a_part_of_a_line_is_no_line() -> None:
    with pytest.raises(InvalidArgument, match="line 1 is 'def f"):
        apply_hunks([hunk("f():\n", "h():\n", start=0)], SOURCE)


def test_every_hunk_that_does_not_fit_is_named() -> None:
    hunks = [hunk("no\n", "", start=0), hunk("def g():\n", "", start=3), hunk("neither\n", "", start=4)]
    with pytest.raises(InvalidArgument, match=r"line 1 is .* not 'no\\n'; .*line 5 is .* not 'neither\\n'"):
        apply_hunks(hunks, SOURCE)


def test_a_misfit_shows_what_is_there_at_the_place_that_comes_closest() -> None:
    with pytest.raises(InvalidArgument, match=r"closest at line 4, but line 5 is '    pass\\n', not '  pass\\n'"):
        apply_hunks([hunk("def g():\n  pass\n", "", start=90)], SOURCE)


def test_a_line_in_an_error_is_not_endless() -> None:
    with pytest.raises(InvalidArgument) as refused:
        apply_hunks([hunk("y\n", "", start=0)], "x" * 10_000)
    assert len(str(refused.value)) < 400


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=8), st.sets(st.integers(0, 7)))
def test_a_crlf_file_stays_one_under_a_patch_that_knows_of_none(letters: list[str], changed: set[int]) -> None:
    unix = [letter + "\n" for letter in letters]
    hunks = [hunk(line, "c\n", start=at) for at, line in enumerate(unix) if at in changed]
    expected = "".join("c\r\n" if at in changed else line.replace("\n", "\r\n") for at, line in enumerate(unix))
    assert apply_hunks(hunks, "".join(unix).replace("\n", "\r\n")).text == expected


def test_a_patch_that_spells_crlf_out_can_change_it() -> None:
    assert apply_hunks([hunk("b\r\n", "b\n", start=1)], "a\r\nb\r\n").text == "a\r\nb\n"
    with pytest.raises(InvalidArgument, match=r"'a\\n', not 'a\\r\\n'"):
        apply_hunks([hunk("a\r\n", "c\r\n", start=0)], "a\n")


def test_without_line_numbers_a_missing_last_newline_stays_missing() -> None:
    assert apply_hunks([hunk("b\n", "c\n")], "a\nb").text == "a\nc"
    assert apply_hunks([hunk("b\n", "c\n")], "a\nb\n").text == "a\nc\n"
    with pytest.raises(InvalidArgument, match="newline at the end"):
        apply_hunks([hunk("b\n", "c\n", start=1)], "a\nb")


def test_anchors_say_which_of_several_places_is_meant() -> None:
    applied = apply_hunks([hunk("    pass\n", "    return\n", anchors=("def g():",))], SOURCE)
    assert applied.text == "def f():\n    pass\n\ndef g():\n    return\n"
    with pytest.raises(InvalidArgument, match="no line is 'def h"):
        apply_hunks([hunk("    pass\n", "", anchors=("def h():",))], SOURCE)


def test_anchors_lead_from_the_outermost_inwards() -> None:
    text = "class A:\n  def f\n    1\nclass B:\n  def f\n    1\n"
    applied = apply_hunks([hunk("    1\n", "    2\n", anchors=("class B:", "def f"))], text)
    assert applied.text == "class A:\n  def f\n    1\nclass B:\n  def f\n    2\n"


def test_lines_can_be_put_after_an_anchor_or_at_the_end_but_not_anywhere() -> None:
    assert apply_hunks([hunk("", "x\n", anchors=("def f():",))], SOURCE).text == SOURCE.replace("f():\n", "f():\nx\n")
    assert apply_hunks([hunk("", "x\n", at_end=True)], SOURCE).text == SOURCE + "x\n"
    with pytest.raises(InvalidArgument, match="inserts where there is no line"):
        apply_hunks([hunk("", "x\n")], SOURCE)


def test_a_hunk_at_the_end_fits_there_alone() -> None:
    assert apply_hunks([hunk("    pass\n", "", at_end=True)], SOURCE).text == SOURCE.removesuffix("    pass\n")
    with pytest.raises(InvalidArgument, match="not the last"):
        apply_hunks([hunk("def g():\n", "", at_end=True)], SOURCE)


def test_hunks_go_forward() -> None:
    with pytest.raises(InvalidArgument, match="come before"):
        apply_hunks([hunk("def g():\n", ""), hunk("def f():\n", "")], SOURCE)
    with pytest.raises(InvalidArgument, match="come before"):
        apply_hunks([hunk("b", "c", start=1), hunk("b", "d", start=1)], "a\nb")


def test_a_large_text_of_equal_lines_is_searched_in_no_time() -> None:
    text = "a\n" * 200_000
    with pytest.raises(InvalidArgument, match="does not fit"):
        apply_hunks([hunk("a\n" * 1000 + "b\n", "", start=7)] * 20, text)
