from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import PalyraError, StateConflict
from palyra_trio.core.tape import FileChange
from palyra_trio.tools import unified_diff
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.node import mode_of
from palyra_trio.tools.registry import Registry, ToolContext
from palyra_trio.tools.undo import diff, net_changes, undo
from palyra_trio.tools.workspace import Workspace

CONTENTS = {digest(data): data for data in (b"", b"one\n", b"two\n", b"three\n", b"\0\1")}
ONE, TWO, THREE = digest(b"one\n"), digest(b"two\n"), digest(b"three\n")


def blobs(name: str) -> bytes:
    return CONTENTS[name]


def test_the_net_change_of_a_path_is_from_its_first_to_its_last_content() -> None:
    changes = [
        FileChange("f", None, ONE),
        FileChange("g", ONE, TWO),
        FileChange("f", ONE, TWO),
        FileChange("g", TWO, ONE),
    ]
    assert net_changes(changes) == (FileChange("f", None, TWO),)


def test_the_diff_tells_each_file_once() -> None:
    changes = [FileChange("f", ONE, TWO), FileChange("new", None, ONE), FileChange("f", TWO, THREE)]
    assert diff(changes, blobs) == (
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+three\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+one\n"
    )
    assert "Binary file b differs" in diff([FileChange("b", None, digest(b"\0\1"))], blobs)
    assert diff([FileChange("e", None, digest(b""))], blobs) == "--- /dev/null\n+++ b/e\n"
    assert diff([], blobs) == ""


def test_undo_puts_every_file_back_and_its_own_undo_is_a_redo(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"three\n")
    (root / "sub").mkdir()
    (root / "sub" / "new").write_bytes(b"one\n")
    changes = [FileChange("f", ONE, TWO), FileChange("sub/new", None, ONE), FileChange("f", TWO, THREE)]
    made = undo(workspace, changes, blobs)
    assert made == [FileChange("sub/new", ONE, None), FileChange("f", THREE, ONE)]
    assert (root / "f").read_bytes() == b"one\n"
    assert not (root / "sub" / "new").exists()
    undo(workspace, made, blobs)
    assert (root / "f").read_bytes() == b"three\n"
    assert (root / "sub" / "new").read_bytes() == b"one\n"


def test_undo_touches_nothing_when_any_file_is_not_as_the_run_left_it(workspace: Workspace, root: Path) -> None:
    (root / "a").write_bytes(b"two\n")
    (root / "b").write_bytes(b"edited by a person\n")
    changes = [FileChange("a", ONE, TWO), FileChange("b", ONE, TWO), FileChange("gone", ONE, TWO)]
    with pytest.raises(StateConflict) as refused:
        undo(workspace, changes, blobs)
    assert "gone, b;" in str(refused.value)
    assert (root / "a").read_bytes() == b"two\n"


def test_what_somebody_changes_while_an_undo_is_under_way_is_not_lost(workspace: Workspace, root: Path) -> None:
    for name in "ab":
        (root / name).write_bytes(b"two\n")
    mode = mode_of((root / "a").stat())
    changes = [FileChange(name, ONE, TWO, mode, mode) for name in "ab"]

    def meanwhile(name: str) -> bytes:
        (root / "a").write_bytes(b"edited by a person\n")
        return blobs(name)

    with pytest.raises(StateConflict, match="a was changed by somebody else just now"):
        undo(workspace, changes, meanwhile)
    assert (root / "a").read_bytes() == b"edited by a person\n"


def test_undo_does_not_take_back_what_somebody_did_between_two_changes(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"three\n")
    with pytest.raises(StateConflict, match="f"):
        undo(workspace, [FileChange("f", None, ONE), FileChange("f", TWO, THREE)], blobs)
    assert (root / "f").read_bytes() == b"three\n"


def test_an_undo_that_broke_off_can_be_repeated(workspace: Workspace, root: Path) -> None:
    (root / "a").write_bytes(b"one\n")
    (root / "b").write_bytes(b"two\n")
    changes = [FileChange("a", ONE, TWO), FileChange("b", ONE, TWO), FileChange("never-written", None, ONE)]
    assert undo(workspace, changes, blobs) == [FileChange("b", TWO, ONE)]
    assert undo(workspace, changes, blobs) == []


def test_a_change_that_did_not_happen_is_no_work_of_somebody_else(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"two\n")
    (root / "new").write_bytes(b"one\n")
    changes = [
        *(FileChange("f", ONE, THREE), FileChange("f", ONE, TWO), FileChange("f", TWO, THREE)),
        *(FileChange("new", None, ONE), FileChange("new", ONE, None)),
    ]
    assert undo(workspace, changes, blobs) == [FileChange("new", ONE, None), FileChange("f", TWO, ONE)]


def test_what_the_run_left_as_it_was_is_not_watched_any_more(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"three\n")
    assert undo(workspace, [FileChange("f", ONE, TWO), FileChange("f", TWO, ONE)], blobs) == []


PATHS = ["a", "b", "sub/c"]
TEXTS = st.lists(st.sampled_from(["x\n", "y\n", "z\r\n", "é"]), max_size=4).map("".join)
PATHS_TO_TEXTS = st.dictionaries(st.sampled_from(PATHS), st.none() | TEXTS, max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("files.write"), st.fixed_dictionaries({"path": st.sampled_from(PATHS), "text": TEXTS})),
    st.tuples(
        st.just("files.edit"),
        st.fixed_dictionaries(
            {"path": st.sampled_from(PATHS), "old": st.just("x"), "new": TEXTS, "all": st.just(True)}
        ),
    ),
    st.tuples(st.just("files.delete"), st.fixed_dictionaries({"path": st.sampled_from(PATHS)})),
    st.tuples(st.just("files.apply_patch"), PATHS_TO_TEXTS),
    st.tuples(st.just("files.apply_patch"), st.tuples(st.sampled_from(PATHS), st.sampled_from(PATHS))),
)


def files_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def patch_to(wanted: dict[str, str | None] | tuple[str, str], root: Path) -> str:
    if isinstance(wanted, tuple):
        return "diff --git a/x b/x\nrename from {}\nrename to {}\n".format(*wanted)
    found = {path: data.decode() for path, data in files_in(root).items()}
    return "".join(unified_diff.make(path, found.get(path), text) for path, text in wanted.items())


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(PATHS), TEXTS.map(str.encode)),
    st.lists(st.tuples(STEPS, st.booleans()), max_size=8),
)
def test_undo_takes_back_whatever_the_tools_did(
    before: dict[str, bytes], steps: list[tuple[tuple[str, Any], bool]]
) -> None:
    """Each step is planned, and its intent recorded; where the flag is off it then does not happen."""

    async def run(root: Path, workspace: Workspace) -> None:
        tools = Registry(builtin_tools())
        context = ToolContext(workspace, now=lambda: 0.0)
        changes: list[FileChange] = []
        contents: dict[str, bytes] = {}
        for (name, given_arguments), happens in steps:
            tool = tools.get(name)
            patch = name == "files.apply_patch"
            arguments = tool.spec.parse({"patch": patch_to(given_arguments, root)} if patch else given_arguments)
            try:
                plan = await tool.plan(arguments, context)
            except PalyraError:
                continue
            changes += plan.changes
            contents |= plan.blobs
            if happens:
                assert not (await tool.run(arguments, context, plan)).error
        undo(workspace, changes, contents.__getitem__)

    with TemporaryDirectory() as folder:
        root = Path(folder)
        for path, data in before.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_bytes(data)
        with Workspace.open(root) as workspace:
            trio.run(run, root, workspace)
        assert files_in(root) == before


# --- what programs did: kinds, permissions, and what was not kept ---

FILE, LINK, FOLDER = 0o100644, 0o120000, 0o040755
EMPTY = digest(b"")


def test_a_mode_that_is_no_plain_files_is_told_as_git_tells_it() -> None:
    changes = [
        FileChange("tool", ONE, ONE, FILE, 0o100755),
        FileChange("link", None, ONE, 0, LINK),
        FileChange("gone", ONE, None, 0o100600, 0),
        FileChange("plain", None, ONE, 0, FILE),
    ]
    assert diff(changes, blobs).splitlines() == [
        *("diff --git a/tool b/tool", "old mode 100644", "new mode 100755"),
        *("diff --git a/link b/link", "new file mode 120000", "--- /dev/null", "+++ b/link", "@@ -0,0 +1 @@", "+one"),
        *(
            "diff --git a/gone b/gone",
            "deleted file mode 100600",
            "--- a/gone",
            "+++ /dev/null",
            "@@ -1 +0,0 @@",
            "-one",
        ),
        *("--- /dev/null", "+++ b/plain", "@@ -0,0 +1 @@", "+one"),
    ]


def test_folders_are_told_where_nothing_in_them_is_and_gits_objects_are_counted() -> None:
    changes = [
        FileChange("full", None, EMPTY, 0, FOLDER),
        FileChange("full/f", None, ONE, 0, FILE),
        FileChange("empty", None, EMPTY, 0, FOLDER),
        FileChange(".git/objects/aa", None, EMPTY, 0, FOLDER),
        FileChange(".git/objects/aa/bb", None, TWO, 0, FILE),
        FileChange("\x1b[2J\nfolder", EMPTY, None, FOLDER, 0),
    ]
    lines = diff(changes, blobs).splitlines()
    assert [line for line in lines if "older" in line] == ["Folder empty created", "Folder \\u001b[2J\\nfolder removed"]
    assert lines[-1] == "1 files in .git/objects differ (Git's own, not shown)"
    assert not any("aa" in line for line in lines)


def test_a_change_between_a_plan_and_a_program_is_one_chain(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"three\n")
    (root / "f").chmod(0o755)
    changes = [FileChange("f", ONE, TWO), FileChange("f", TWO, THREE, FILE, 0o100755)]
    undo(workspace, changes, blobs)
    assert (root / "f").read_bytes() == b"one\n"


def test_a_program_and_then_a_plan_are_one_chain_too(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"three\n")
    (root / "f").chmod(0o755)
    undo(workspace, [FileChange("f", ONE, TWO, 0o100600, 0o100755), FileChange("f", TWO, THREE)], blobs)
    assert (root / "f").read_bytes() == b"one\n"
    assert (root / "f").stat().st_mode == 0o100600


def test_permissions_that_somebody_changed_since_are_not_taken_back(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"two\n")
    (root / "f").chmod(0o600)
    with pytest.raises(StateConflict, match="by somebody else: f;"):
        undo(workspace, [FileChange("f", ONE, TWO, FILE, FILE)], blobs)


def test_a_content_that_was_not_kept_stops_the_whole_undo(workspace: Workspace, root: Path) -> None:
    (root / "a").write_bytes(b"two\n")
    (root / "b").write_bytes(b"two\n")
    lost = FileChange("b", "00" * 32, TWO, FILE, mode_of((root / "b").stat()), kept=False)
    with pytest.raises(StateConflict, match="not on the tape: it is too large, or holds a secret: b;"):
        undo(workspace, [FileChange("a", ONE, TWO), lost], blobs)
    assert (root / "a").read_bytes() == b"two\n"


def test_a_large_file_that_a_run_made_and_removed_again_is_no_hindrance(workspace: Workspace, root: Path) -> None:
    changes = [FileChange("big", None, "", 0, FILE, kept=False), FileChange("big", "", None, FILE, 0, kept=False)]
    assert undo(workspace, changes, blobs) == []
    assert diff(changes, blobs) == ""
