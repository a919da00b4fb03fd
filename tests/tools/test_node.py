import os
import stat
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import StateConflict, WorkspaceRefused
from palyra_trio.tools.node import EMPTY, NOT_READ, Node, alike, find, mode_of, put, read
from palyra_trio.tools.workspace import Workspace

FILE, LINK, FOLDER = stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR
ONE = digest(b"one")
CONTENTS = {ONE: b"one", digest(b"../x"): b"../x"}


def test_nodes_are_alike_as_far_as_both_tell() -> None:
    plain, told = Node(ONE, 0), Node(ONE, FILE | 0o644)
    assert alike(plain, told)
    assert alike(told, told)
    assert alike(None, None)
    assert not alike(told, Node(ONE, FILE | 0o600))
    assert not alike(told, Node(EMPTY, FILE | 0o644))
    assert not alike(plain, Node(ONE, LINK))
    assert not alike(plain, None)
    assert not alike(None, plain)
    assert not alike(Node(NOT_READ, FILE), Node(NOT_READ, FILE))


def test_what_lies_at_a_path_is_told_by_kind(workspace: Workspace, root: Path) -> None:
    (root / "f").write_text("one")
    (root / "f").chmod(0o4711)
    (root / "l").symlink_to("../x")
    (root / "d").mkdir(mode=0o750)
    os.mkfifo(root / "p", 0o600)
    found = {name: find(workspace, name, 100) for name in ("f", "l", "d", "p", "none", "none/at/all")}
    assert found == {
        "f": Node(ONE, FILE | 0o711),
        "l": Node(digest(b"../x"), LINK),
        "d": Node(EMPTY, FOLDER | 0o750),
        "p": Node(NOT_READ, stat.S_IFIFO | 0o600),
        "none": None,
        "none/at/all": None,
    }


def test_what_is_too_large_is_not_read_and_not_kept(root: Path) -> None:
    (root / "f").write_text("one")
    fd = os.open(root, os.O_PATH)
    status = (root / "f").stat()
    assert read(fd, b"f", status, 3, 3) == (ONE, b"one")
    assert read(fd, b"f", status, 3, 2) == (ONE, None)
    assert read(fd, b"f", status, 2, 2) == (NOT_READ, None)
    (root / "f").write_text("grown since")
    assert read(fd, b"f", status, 3, 3) == (NOT_READ, None)
    os.close(fd)


WANTED = (Node(ONE, FILE | 0o751), Node(digest(b"../x"), LINK), Node(EMPTY, FOLDER | 0o711), None, Node(ONE, 0))


@pytest.mark.parametrize("want", WANTED)
@pytest.mark.parametrize("now", WANTED)
def test_anything_becomes_anything(workspace: Workspace, root: Path, now: Node | None, want: Node | None) -> None:
    put(workspace, "deep/x", None, now, CONTENTS.__getitem__)
    assert alike(find(workspace, "deep/x", 100), now)
    assert put(workspace, "deep/x", find(workspace, "deep/x", 100), want, CONTENTS.__getitem__)
    assert alike(find(workspace, "deep/x", 100), want)
    assert [each for each in os.listdir(root) if each != "deep"] == []


def test_a_file_keeps_its_permissions_where_none_are_told(workspace: Workspace, root: Path) -> None:
    (root / "f").write_text("old")
    (root / "f").chmod(0o600)
    put(workspace, "f", find(workspace, "f", 100), Node(ONE, 0), CONTENTS.__getitem__)
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o600


def test_a_folder_that_holds_something_is_not_removed(workspace: Workspace, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").touch()
    now = find(workspace, "d", 100)
    assert not put(workspace, "d", now, None, CONTENTS.__getitem__)
    with pytest.raises(StateConflict, match="holds files"):
        put(workspace, "d", now, Node(ONE, FILE), CONTENTS.__getitem__)
    assert (root / "d" / "f").exists()


def test_a_folder_keeps_the_bit_that_hands_its_group_on(workspace: Workspace, root: Path) -> None:
    root.chmod(0o2755)
    put(workspace, "d", None, Node(EMPTY, FOLDER | 0o700), CONTENTS.__getitem__)
    assert mode_of((root / "d").stat()) == FOLDER | 0o700
    assert (root / "d").stat().st_mode & stat.S_ISGID


def test_no_link_on_the_way_is_followed(workspace: Workspace, root: Path, outside: Path) -> None:
    (root / "d").symlink_to(outside)
    with pytest.raises(WorkspaceRefused):
        find(workspace, "d/secret.txt", 100)
    with pytest.raises(WorkspaceRefused):
        put(workspace, "d/new", None, Node(ONE, FILE | 0o644), CONTENTS.__getitem__)
    assert os.listdir(outside) == ["secret.txt"]
