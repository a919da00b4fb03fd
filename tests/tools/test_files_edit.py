from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.tools.files_edit import EditArguments, edited
from tests.tools.conftest import Call


async def test_an_exact_replacement_is_previewed_and_made(call: Call, root: Path) -> None:
    (root / "f").write_text("one\ntwo\nthree\n")
    plan, result = await call("files.edit", path="f", old="two", new="2")
    assert plan.preview == "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    assert not result.error
    assert (root / "f").read_text() == "one\n2\nthree\n"


async def test_a_diff_is_applied(call: Call, root: Path) -> None:
    (root / "f").write_text("one\ntwo\nthree\n")
    await call("files.edit", path="f", diff="--- a/f\n+++ b/f\n@@ -1,3 +1,2 @@\n one\n-two\n three\n")
    assert (root / "f").read_text() == "one\nthree\n"


async def test_text_that_occurs_often_is_named_by_line_and_not_guessed_at(call: Call, root: Path) -> None:
    (root / "f").write_text("x\ny\nx x\n")
    with pytest.raises(InvalidArgument, match="3 times, at lines 1, 3, 3"):
        await call("files.edit", path="f", old="x", new="z")
    await call("files.edit", path="f", old="x", new="z", all=True)
    assert (root / "f").read_text() == "z\ny\nz z\n"


async def test_text_that_is_not_there_is_said_to_be_missing(call: Call, root: Path) -> None:
    (root / "f").write_text("x\n")
    with pytest.raises(InvalidArgument, match="does not hold the old text"):
        await call("files.edit", path="f", old="y", new="z")


@pytest.mark.parametrize(
    "arguments",
    [
        *({}, {"new": "x"}, {"old": "x", "diff": "@@ -1 +1 @@"}, {"diff": "@@ -1 +1 @@", "new": "x"}),
        {"diff": "@@ -1 +1 @@", "all": True},
    ],
)
async def test_an_edit_is_either_a_replacement_or_a_diff(call: Call, root: Path, arguments: dict[str, object]) -> None:
    (root / "f").write_text("x\n")
    with pytest.raises(InvalidArgument, match="either"):
        await call("files.edit", path="f", **arguments)


async def test_crlf_files_stay_crlf(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    await call("files.edit", path="f", old="one\ntwo\n", new="1\n2\n")
    assert (root / "f").read_bytes() == b"1\r\n2\r\nthree\r\n"
    await call("files.edit", path="f", diff="@@ -3 +3,2 @@\n three\n+four\n")
    assert (root / "f").read_bytes() == b"1\r\n2\r\nthree\r\nfour\r\n"


async def test_bytes_that_are_not_utf_8_outlive_an_edit_beside_them(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"\xff\xfe caf\xe9 old\n")
    await call("files.edit", path="f", old="old", new="new")
    assert (root / "f").read_bytes() == b"\xff\xfe caf\xe9 new\n"


async def test_binary_and_missing_files_are_not_edited(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"a\0b")
    with pytest.raises(InvalidArgument, match="not text"):
        await call("files.edit", path="f", old="a", new="b")
    with pytest.raises(NotFound):
        await call("files.edit", path="none", old="a", new="b")
    (root / "g").write_text("x")
    with pytest.raises(InvalidArgument, match="half a character"):
        await call("files.edit", path="g", old="x", new="\udc80")


@given(st.text("ab\n\r", max_size=30), st.text("ab\n", min_size=1, max_size=3), st.text("ab\n", max_size=3))
def test_an_edit_changes_nothing_but_what_it_names(text: str, old: str, new: str) -> None:
    arguments = EditArguments("f", old=old, new=new, all=True)
    crlf = "\n" in text and text.count("\n") == text.count("\r\n")
    seen = text.replace("\r\n", "\n") if crlf else text
    if old in seen:
        made = seen.replace(old, new)
        assert edited(text, arguments) == (made.replace("\n", "\r\n") if crlf else made)
    else:
        with pytest.raises(InvalidArgument):
            edited(text, arguments)
