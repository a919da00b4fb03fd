import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools import unified_diff
from palyra_trio.tools.unified_diff import apply, make, split_lines

# Few letters, so that lines repeat and changes fall close together.
texts = st.lists(
    st.sampled_from(["a\n", "b\n", "\n", "a\r\n", "-\n", "+\n", "\\\n", "@@\n", "--- a\n", "é\x0c\u2028\n", "a"])
)
TEXT = st.one_of(texts.map("".join), st.text(max_size=40))


@given(TEXT, TEXT)
def test_applying_what_was_made_gives_the_new_text(before: str, after: str) -> None:
    if before != after:
        assert apply(make("f", before, after), before).text == after


@given(st.lists(st.sampled_from("abc"), max_size=60), st.lists(st.sampled_from("abc"), max_size=60))
def test_so_does_the_coarse_diff_of_large_texts(before: list[str], after: list[str]) -> None:
    old, new = "".join(line + "\n" for line in before), "".join(line + "\n" for line in after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unified_diff, "_MAX_COMPARED", -1)
        if old != new:
            assert apply(make("f", old, new), old).text == new


def test_a_text_of_few_different_lines_gets_a_small_diff() -> None:
    before = ["a\n", "b\n"] * 500
    after = [*before[:10], "x\n", *before[10:900], "y\n", *before[901:]]
    assert make("f", "".join(before), "".join(after)).count("\n") < 25


@given(TEXT)
def test_lines_join_to_the_text(text: str) -> None:
    assert "".join(split_lines(text)) == text


@pytest.mark.skipif(shutil.which("patch") is None, reason="no patch(1) here")
@pytest.mark.parametrize(
    ("before", "after"), [("a\nb\nc\n", "a\nB\nc"), ("", "x\n"), ("x", "y"), ("a\n" * 30, "a\n" * 9)]
)
def test_patch_understands_what_was_made(before: str, after: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(before)
    subprocess.run(["patch", "-s", "f"], input=make("f", before, after), text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "f").read_text() == after


def test_a_file_that_appears_or_goes_is_dev_null_on_the_other_side() -> None:
    assert make("n", None, "x\n") == "--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n"
    assert make("n", "x", None) == "--- a/n\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n"
    assert make("n", "x", "x") == ""


SOURCE = "one\ntwo\nthree\ntwo\nfive\n"


def test_a_hunk_may_name_the_wrong_line_if_it_fits_in_one_place() -> None:
    applied = apply("@@ -40,2 +40,2 @@\n two\n-three\n+3\n", SOURCE)
    assert applied.text == "one\ntwo\n3\ntwo\nfive\n"
    assert applied.moved == ("hunk @@ -40,2 +40,2 @@ fits at line 2 only, and went there",)


def test_a_diff_without_its_last_newline_or_with_stripped_context_still_applies() -> None:
    assert apply("@@ -1,2 +1,2 @@\n one\n-two\n+2", SOURCE).text.startswith("one\n2\nthree")
    assert apply("@@ -1,3 +1,2 @@\n a\n\n-b\n", "a\n\nb\n").text == "a\n\n"


def test_a_header_before_the_first_hunk_is_passed_over() -> None:
    header = "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n"
    assert apply(header + "@@ -1 +1 @@ def f():\n-one\n+1\n", SOURCE).text.startswith("1\ntwo\n")


@pytest.mark.parametrize(
    ("diff", "why"),
    [
        ("nothing here", "no hunk"),
        ("@@ -9 +9 @@\n-two\n+2\n", "fits at lines 2, 4"),
        ("@@ -2 +2 @@\n-Two\n+2\n", "line 2 is 'two\\n', not 'Two\\n'"),
        ("@@ -9 +9 @@\n-nine\n+2\n", "the file has 5 lines"),
        ("@@ -5 +5 @@\n-five\n\\ No newline at end of file\n+5\n", "newline at the end"),
        ("@@ -9,0 +9 @@\n+nine\n", "inserts where there is no line"),
        ("@@ -1,3 +1,3 @@\n one\n", "as many lines as it says"),
        ("@@ -1,1 +1,2 @@\n one\n two\n", "as many lines as it says"),
        ("@@ -1 +1 @@\n-one\n+1\n two\n", "line 4 of the diff belongs to no hunk"),
        ("@@ -1 +1 @@\n-one\n+1\n--- a/other\n+++ b/other\n", "one file"),
        ("@@ -1,2 +1,2 @@\n one\n*two\n", "begins with none of"),
        ("@@ -5 +5 @@\n-five\n+5\n@@ -1 +1 @@\n-one\n+1\n", "come before"),
        ("@@ -1 +1 @@\n-one\n+1\n\\ No newline at end of file\n", "without a newline"),
    ],
)
def test_a_diff_that_does_not_fit_exactly_is_refused_with_the_reason(diff: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        apply(diff, SOURCE)
    assert why in str(refused.value)


def test_a_name_with_a_line_break_stays_on_its_line() -> None:
    assert make("a\n+b", None, "x\n").splitlines()[:2] == ["--- /dev/null", "+++ b/a\\n+b"]
