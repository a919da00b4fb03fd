import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import StateConflict, WorkspaceRefused
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.overlay_reading import Most, Reading, Was, _changed_since, conflict, read_layer
from palyra_trio.tools.workspace import Workspace
from tests.tools.layered import whiteout

FILE, LINK, FOLDER = stat.S_IFREG | 0o644, stat.S_IFLNK, stat.S_IFDIR | 0o755
LATER = 2**62
Read = Callable[..., Reading]


@pytest.fixture
def read_it(upper: Path, workspace: Workspace) -> Iterator[Read]:
    """Read the layer over the workspace, by default so that nothing counts as changed by others."""
    with Workspace.open(upper) as layer:

        def read(began_ns: int = LATER, **bounds: int) -> Reading:
            return read_layer(layer, workspace, began_ns, most=Most(**bounds))

        yield read


def acts(reading: Reading) -> list[tuple[str, str]]:
    return [(step.act, step.path) for step in reading.steps]


def test_an_empty_layer_is_no_change(read_it: Read, root: Path) -> None:
    (root / "a").write_text("a")
    assert read_it() == Reading()


def test_a_file_that_is_new_or_other_is_taken_with_both_contents(read_it: Read, root: Path, upper: Path) -> None:
    (root / "a").write_text("old")
    (upper / "a").write_text("new")
    (upper / "b").write_text("fresh")
    reading = read_it()
    assert reading.changes == [
        FileChange("a", digest(b"old"), digest(b"new"), FILE, FILE),
        FileChange("b", None, digest(b"fresh"), 0, FILE),
    ]
    assert set(reading.contents.values()) == {b"old", b"new", b"fresh"}
    assert acts(reading) == [("take", "a"), ("take", "b")]
    assert reading.steps[0].was == Was.of((root / "a").stat())


def test_a_whiteout_removes_a_file_or_a_tree_from_the_bottom(read_it: Read, root: Path, upper: Path) -> None:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_text("f")
    (root / "d" / "g").write_text("g")
    whiteout(upper / "d")
    whiteout(upper / "never was")
    assert acts(read_it()) == [("remove", "d/g"), ("remove", "d/e/f"), ("remove", "d/e"), ("remove", "d")]


def test_nothing_shows_through_an_opaque_folder_nor_through_those_in_it(read_it: Read, root: Path, upper: Path) -> None:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_text("f")
    (root / "d" / "g").write_text("g")
    (upper / "d" / "e").mkdir(parents=True)
    os.setxattr(upper / "d", "user.overlay.opaque", b"y")
    assert acts(read_it()) == [("remove", "d/g"), ("remove", "d/e/f")]


def test_a_symlink_is_taken_as_such_and_never_followed(read_it: Read, root: Path, upper: Path, outside: Path) -> None:
    (upper / "l").symlink_to(outside / "secret.txt")
    (upper / "d").symlink_to(outside)
    target = os.fsencode(outside / "secret.txt")
    reading = read_it()
    assert reading.changes[1] == FileChange("l", None, digest(target), 0, LINK)
    assert b"OUTSIDE\n" not in reading.contents.values()
    assert {step.path for step in reading.steps} == {"l", "d"}


def test_a_link_in_the_workspace_where_the_layer_has_a_folder_is_not_gone_through(
    read_it: Read, root: Path, upper: Path, outside: Path
) -> None:
    (root / "d").symlink_to(outside)
    (upper / "d").mkdir(mode=0o755)
    whiteout(upper / "d" / "secret.txt")
    assert acts(read_it()) == [("folder", "d")]


def test_devices_pipes_and_sockets_are_left_and_what_they_replaced_is_gone(
    read_it: Read, root: Path, upper: Path
) -> None:
    (root / "a").write_text("a")
    os.mkfifo(upper / "a")
    os.mkfifo(upper / "p")
    if os.geteuid() == 0:
        os.mknod(upper / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(upper / "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    reading = read_it()
    assert acts(reading) == [("remove", "a")]
    assert sorted(reading.left) == (["a", "disk", "null", "p"] if os.geteuid() == 0 else ["a", "p"])


def test_special_bits_are_not_part_of_a_mode(read_it: Read, upper: Path) -> None:
    (upper / "su").write_text("x")
    (upper / "su").chmod(0o6755)
    (upper / "d").mkdir()
    (upper / "d").chmod(0o3777)
    assert {change.path: change.after_mode & 0o7777 for change in read_it().changes} == {"su": 0o755, "d": 0o777}


def test_a_layer_with_redirects_is_refused(read_it: Read, upper: Path) -> None:
    (upper / "d").mkdir()
    os.setxattr(upper / "d", "user.overlay.redirect", b"/etc")
    with pytest.raises(WorkspaceRefused, match="redirects"):
        read_it()


def test_what_changed_since_the_program_began_is_a_conflict_and_nothing_is_read(
    read_it: Read, root: Path, upper: Path
) -> None:
    (root / "a").write_text("theirs")
    (upper / "a").write_text("the program's")
    assert read_it((root / "a").stat().st_ctime_ns).steps
    with pytest.raises(StateConflict, match="by somebody else while the program ran, and by the program too: a "):
        read_it((root / "a").stat().st_ctime_ns - 1)


def test_where_only_whole_seconds_are_kept_one_of_doubt_is_a_conflict() -> None:
    second = 10**9
    found = os.stat_result((FILE, 1, 1, 1, 0, 0, 0, 0, 0, 100), {"st_ctime_ns": 100 * second})
    assert _changed_since(found, 100 * second + second - 1)
    assert not _changed_since(found, 101 * second)


def test_a_refusal_names_a_few() -> None:
    assert "a, b, c, d, e and 2 more" in str(conflict(list("abcdefg")))


def test_more_names_than_may_be_are_refused_of_whatever_kind_and_wherever(
    read_it: Read, root: Path, upper: Path
) -> None:
    for name in "abc":
        os.mkfifo(upper / name)
    assert len(read_it(entries=3).left) == 3
    with pytest.raises(WorkspaceRefused, match="more than 2 files and folders"):
        read_it(entries=2)
    for folder in "abc":
        (upper / folder).unlink()
        (upper / folder).mkdir()
        (root / folder).mkdir()
        os.mkfifo(upper / folder / "pipe")
    with pytest.raises(WorkspaceRefused, match="more than 2 files and folders"):
        read_it(entries=2)


def test_more_steps_than_may_be_are_refused(read_it: Read, upper: Path) -> None:
    for name in "abc":
        (upper / name).touch()
    assert len(read_it(entries=3).steps) == 3
    with pytest.raises(WorkspaceRefused, match="more than 2 files and folders"):
        read_it(entries=2)


def test_more_changes_than_are_told_are_taken_all_the_same(read_it: Read, upper: Path) -> None:
    for name in "abc":
        (upper / name).touch()
    reading = read_it(changes=1)
    assert (len(reading.changes), reading.missed, len(reading.steps)) == (1, 2, 3)


def test_contents_are_kept_up_to_a_bound_and_digested_up_to_another(read_it: Read, upper: Path) -> None:
    (upper / "a").write_bytes(b"x" * 10)
    (upper / "b").write_bytes(b"y" * 11)
    (upper / "c").write_bytes(b"z" * 50)
    changes = read_it(file_bytes=10, read_bytes=40).changes
    assert [(each.after, each.kept) for each in changes] == [
        (digest(b"x" * 10), True),
        (digest(b"y" * 11), False),
        ("", False),
    ]


def test_all_contents_together_are_bounded_and_equal_ones_count_once(read_it: Read, upper: Path) -> None:
    for name, content in (("a", b"x" * 10), ("b", b"x" * 10), ("c", b"y" * 10)):
        (upper / name).write_bytes(content)
    assert [each.kept for each in read_it(kept_bytes=15).changes] == [True, True, False]


def test_a_file_that_is_as_it_was_is_taken_for_its_time_alone(read_it: Read, root: Path, upper: Path) -> None:
    for folder in (root, upper):
        (folder / "a").write_text("same")
        os.utime(folder / "a", ns=(1, 1))
    assert read_it().steps == []
    os.utime(upper / "a", ns=(1, 2))
    assert acts(read_it()) == [("take", "a")]
    assert read_it().changes == []


def test_a_path_longer_than_can_be_named_is_refused(read_it: Read, upper: Path) -> None:
    fd = os.open(upper, os.O_PATH)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(WorkspaceRefused, match="deeper than can be reached"):
        read_it()


def test_reading_can_be_broken_off(upper: Path, workspace: Workspace) -> None:
    (upper / "a").touch()

    class Stop(Exception): ...

    def stop() -> None:
        raise Stop

    with Workspace.open(upper) as layer, pytest.raises(Stop):
        read_layer(layer, workspace, 0, stop)
