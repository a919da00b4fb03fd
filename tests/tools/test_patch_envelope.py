import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.patch import FilePatch, Hunk, apply_hunks
from palyra_trio.tools.patch_envelope import parse


def wrapped(body: str) -> str:
    return f"*** Begin Patch\n{body}*** End Patch\n"


def updated(body: str, text: str) -> str:
    (patch,) = parse(wrapped(f"*** Update File: f\n{body}"))
    return apply_hunks(patch.hunks, text).text


def test_files_are_added_updated_moved_and_deleted() -> None:
    patches = parse(
        wrapped(
            "*** Add File: new.py\n+one\n+\n*** Delete File: old.py\n"
            "*** Update File: f\n*** Move to: g\n@@\n-x\n+y\n*** Add File: empty\n"
        )
    )
    assert patches == (
        FilePatch("", "new.py", (Hunk("1", (), ("one\n", "\n"), 0),)),
        FilePatch("old.py", ""),
        FilePatch("f", "g", (Hunk("1", ("x\n",), ("y\n",)),)),
        FilePatch("", "empty"),
    )


def test_a_file_may_be_moved_and_left_as_it_is() -> None:
    assert parse(wrapped("*** Update File: f\n*** Move to: g\n")) == (FilePatch("f", "g"),)


def test_hunks_are_found_by_their_context_in_order() -> None:
    assert updated("@@\n a\n-b\n+B\n@@\n-d\n+D\n", "a\nb\nc\nd\n") == "a\nB\nc\nD\n"
    assert updated("-b\n+B\n", "a\nb\n") == "a\nB\n"  # the first @@ is often left out
    assert updated("@@\n a\n\n-b\n+B\n", "a\n\nb\n") == "a\n\nB\n"  # and so is the space of an empty line


def test_what_follows_the_at_signs_says_where() -> None:
    text = "class A:\n  def f():\n    1\nclass B:\n  def f():\n    1\n"
    assert updated("@@ class B:\n@@   def f():\n-    1\n+    2\n", text) == text[:-2] + "2\n"
    assert updated("@@ -1,3 +1,3 @@ class B:\n   def f():\n-    1\n+    2\n", text) == text[:-2] + "2\n"


def test_the_end_of_the_file_can_be_meant() -> None:
    assert updated("@@\n-x\n+y\n*** End of File\n", "x\nx\n") == "x\ny\n"
    assert updated("@@\n+z\n*** End of File\n", "x\nx") == "x\nx\nz"
    (patch,) = parse(wrapped("*** Update File: f\n@@\n-x\n*** End of File\n-y\n"))
    assert [(hunk.old, hunk.at_end) for hunk in patch.hunks] == [(("x\n",), True), (("y\n",), False)]


def test_a_patch_in_crlf_is_one_of_plain_lines() -> None:
    assert parse(wrapped("*** Update File: f\n@@\n-x\n+y\n").replace("\n", "\r\n"))[0] == FilePatch(
        "f", "f", (Hunk("1", ("x\n",), ("y\n",)),)
    )


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("*** Begin Patch\n*** Delete File: f\n", "does not end with"),
        (wrapped(""), "names no file"),
        (wrapped("hello\n"), "line 2 of the patch belongs to no file: 'hello'"),
        (wrapped("*** Add File: f\nx\n"), r"new file f begins without '\+'"),
        (wrapped("*** Delete File: f\n-x\n"), "belongs to no file"),
        (wrapped("*** Update File: f\n"), "changes nothing"),
        (wrapped("*** Update File: f\n@@ x\n"), "changes nothing"),
        (wrapped("*** Update File: f\n@@\n*x\n"), "begins with none of"),
        (wrapped("*** Update File: f\n" + "@@\n-x\n" * 1001), "more than 1000 hunks"),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason(patch: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse(patch)
