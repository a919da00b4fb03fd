from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.tape import FileChange
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
