import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.text import text_to_name
from palyra_trio.tools.patch import FilePatch, apply_hunks
from palyra_trio.tools.patch_git import parse

# Few letters, so that lines repeat and changes fall close together; and what a diff itself is made of.
LINES = ["a\n", "b\n", "c\n", "\n", "a\r\n", "-\n", "-- x\n", "++ y\n", "\\\n", "@@ -1 +1 @@\n", "é\x0c\u2028\n", "a"]
TEXT = st.one_of(
    st.lists(st.sampled_from(LINES), max_size=30).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
)
NAMES = ["f", "with space", "é", 'q"uote', "tab\tname", "a", "sub/b", "back\\slash"]
TREE = st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=4)
ENVIRONMENT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


def git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
    assert run.returncode in (0, 1), run.stderr
    return run.stdout.decode()


def fill(folder: Path, tree: dict[str, str]) -> None:
    for name, text in tree.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())


def patched(patches: tuple[FilePatch, ...], tree: dict[str, str]) -> dict[str, str]:
    """Return the tree with the patches applied, as the tool does it with files."""
    after = dict(tree)
    for patch in patches:
        old, new = (os.fsdecode(text_to_name(path)) for path in (patch.old, patch.new))
        text = apply_hunks(patch.hunks, tree[old] if old else "").text
        if old != new and old:
            del after[old]
        if new:
            assert new == old or new not in tree
            after[new] = text
        else:
            assert text == ""
    return after


@given(TEXT, TEXT, st.sampled_from([1, 3]))
def test_what_git_says_of_two_texts_makes_one_of_the_other(before: str, after: str, context: int) -> None:
    with TemporaryDirectory() as folder:
        fill(Path(folder), {"a/f": before, "b/f": after})
        diff = git(Path(folder), "diff", "--no-index", "--no-prefix", "--text", f"-U{context}", "a/f", "b/f")
    if before != after:
        assert patched(parse(diff), {"f": before}) == {"f": after}


@settings(max_examples=25, deadline=None)
@given(TREE, TREE, st.dictionaries(st.sampled_from(NAMES), st.sampled_from(NAMES), max_size=2))
def test_what_git_says_of_two_trees_makes_one_of_the_other(
    before: dict[str, str], other: dict[str, str], kept: dict[str, str]
) -> None:
    after = other | {new: before[old] for old, new in kept.items() if old in before}
    with TemporaryDirectory() as name:
        folder = Path(name)
        git(folder, "init", "-q")
        fill(folder, before)
        git(folder, "add", "-A")
        tree = git(folder, "write-tree").strip()
        for path in before:
            (folder / path).unlink()
        fill(folder, after)
        git(folder, "add", "-A")
        diff = git(folder, "diff", "--cached", "--text", "-M", tree)
    if before != after:
        assert patched(parse(diff), before) == after


def test_a_plain_diff_names_its_files_with_or_without_prefix_and_time() -> None:
    hunk = "@@ -1 +1 @@\n-x\n+y\n"
    for names in ("--- a/f\n+++ b/f\n", "--- f\t2026-01-01 10:00\n+++ f\t2026-01-02\n", "--- a/f\r\n+++ b/f\r\n"):
        (patch,) = parse(names + hunk)
        assert (patch.old, patch.new) == ("f", "f")
    (patch,) = parse("diff -ru a/f b/f\nIndex: f\n=====\n--- a/f\n+++ a/f\n" + hunk)
    assert (patch.old, patch.new) == ("a/f", "a/f")


def test_what_stands_before_the_patch_is_not_looked_at() -> None:
    assert parse("Here it is:\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y\n")[0].new == "f"


def test_files_that_appear_go_or_move_are_told_apart() -> None:
    assert parse("--- /dev/null\n+++ b/n\n") == (FilePatch("", "n"),)
    assert parse("diff --git a/e b/e\nnew file mode 100644\nindex 0000000..e69de29\n") == (FilePatch("", "e"),)
    assert parse("diff --git a/e b/e\ndeleted file mode 100755\nindex e69de29..0000000\n") == (FilePatch("e", ""),)
    moved = "diff --git a/one b/two\nsimilarity index 100%\nrename from one\nrename to two\n"
    assert parse(moved) == (FilePatch("one", "two"),)


HEADER = "--- a/f\n+++ b/f\n"
GIT = "diff --git a/f b/f\n"


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("", "names no file"),
        ("do this\n", "names no file"),
        ("@@ -1 +1 @@\n-x\n+y\n", "names no file"),
        (HEADER, "the patch of f has no hunk"),
        (HEADER + "@@ -1 +1 @@\n-x\n+y\n z\n", "line 6 of the diff belongs to no hunk: ' z'"),
        (HEADER + "@@ -1 +1 @@\n-x\n+y\n```\n", "line 6 of the diff belongs to no hunk"),
        (HEADER + "@@ -1,2 +1,2 @@\n-x\n+y\n" + GIT, "line 6 of the diff begins with none of"),
        (HEADER + "@@ -1,2 +1,2 @@\n-x\n+y\n@@ -9 +9 @@\n", "hunk @@ -1,2 +1,2 @@ does not hold as many lines"),
        (HEADER + "@@ -1 +1,2 @@\n-x\n+y\n\\ No newline at end of file\n+z\n", "lines after one without a newline"),
        (HEADER + "@@ -1 +1 @@\n-x\n+y\n" * 1001, "more than 1000 hunks"),
        ("--- a/f\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n", "calls one file f and g"),
        ("--- /dev/null\n+++ /dev/null\n", "has no name"),
        (GIT + "old mode 100644\nnew mode 100755\n", "changes the mode of f"),
        (GIT + "new file mode 120000\n" + HEADER, "the mode 120000"),
        (GIT + "new file mode 100755\n", "the mode 100755"),
        ("diff --git a/f b/g\ncopy from f\ncopy to g\n", "copies a file"),
        (GIT + "index 1..2 100644\nBinary files a/f and b/f differ\n", "no hunk"),
        (GIT + "new file mode 100644\nindex 0..2\nGIT binary patch\nliteral 1\n", "f is binary"),
        (HEADER + f"@@ -{'9' * 5000} +1 @@\n-x\n+y\n", "belongs to no hunk|no hunk"),
    ],
)
def test_what_is_malformed_or_cannot_be_done_is_refused_with_the_reason(patch: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why.replace("@@ -1,2 +1,2 @@", r"@@ -1,2 \+1,2 @@")):
        parse(patch)


@given(st.lists(st.sampled_from([*HEADER.splitlines(True), GIT, "@@ -1 +1 @@\n", "-x\n", "+y\n", " z\n", "\n", '"\n'])))
def test_anything_is_either_parsed_or_refused(lines: list[str]) -> None:
    try:
        parse("".join(lines))
    except InvalidArgument:
        return
