import ctypes
import os
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, NotFound, PalyraError, StateConflict, WorkspaceRefused
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace

RACES = 25  # each outcome, so often
MOST_RACES = 50_000


def read(workspace: Workspace, path: str) -> bytes:
    return workspace.read_bytes(path, 1000)


# --- what it does ---


def test_a_path_has_one_spelling(workspace: Workspace, root: Path) -> None:
    for path in ("a/b", "./a//b", "a/c/../b", "a/b/", f"{root}/a/b", f"{root}/x/../a/b"):
        assert workspace.relative(path) == "a/b"
    for path in (".", "", "./", "a/..", str(root)):
        assert workspace.relative(path) == "."


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound):
        Workspace.open(tmp_path / "file")
    with pytest.raises(NotFound):
        Workspace.open(tmp_path / "none")


def test_a_workspace_may_be_the_whole_file_system_if_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with Workspace.open("/") as workspace:
        assert read(workspace, str(tmp_path / "file")) == b"x"
        assert workspace.stat(str(tmp_path / "file")).path == str(tmp_path.resolve() / "file")[1:]


def test_closing_twice_is_closing_once(root: Path) -> None:
    workspace = Workspace.open(root)
    workspace.close()
    workspace.close()
    with pytest.raises(PalyraError):
        workspace.stat(".")


def test_a_folder_lists_names_kinds_and_sizes_in_order(workspace: Workspace, root: Path) -> None:
    (root / "b").write_text("12345")
    (root / "a").mkdir()
    (root / "c").symlink_to("b")
    os.mkfifo(root / "d")
    listed = [(entry.path, entry.kind, entry.size_bytes) for entry in workspace.list_dir(".")]
    assert listed == [("a", "folder", 0), ("b", "file", 5), ("c", "symlink", 0), ("d", "special", 0)]


def test_what_is_written_is_read_and_its_folders_are_made(workspace: Workspace, root: Path) -> None:
    path = workspace.locate("new/folder/file")
    assert workspace.content(path) is None
    workspace.write(path, b"one", before=None)
    workspace.write(path, b"two", before=digest(b"one"))
    assert read(workspace, path) == b"two"
    assert os.listdir(root / "new" / "folder") == ["file"]
    workspace.remove(path, before=digest(b"two"))
    assert not (root / "new" / "folder" / "file").exists()


def test_a_replaced_file_keeps_its_permissions(workspace: Workspace, root: Path) -> None:
    (root / "script").write_text("old")
    (root / "script").chmod(0o751)
    workspace.write("script", b"new", before=digest(b"old"))
    assert (root / "script").stat().st_mode & 0o7777 == 0o751


def test_a_write_over_other_content_than_was_seen_changes_nothing(workspace: Workspace, root: Path) -> None:
    (root / "file").write_text("theirs")
    for before in (None, digest(b"seen")):
        with pytest.raises(StateConflict):
            workspace.write("file", b"ours", before=before)
    with pytest.raises(StateConflict):
        workspace.write("gone", b"ours", before=digest(b"seen"))
    with pytest.raises(StateConflict):
        workspace.remove("file", before=digest(b"seen"))
    assert (root / "file").read_text() == "theirs"
    assert os.listdir(root) == ["file"]


def test_a_write_that_breaks_leaves_the_file_and_no_temporary_one(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").write_text("old")

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(PalyraError, match="file"):
        workspace.write("file", b"new", before=digest(b"old"))
    assert (root / "file").read_text() == "old"
    assert os.listdir(root) == ["file"]


def test_no_call_leaves_a_descriptor_open(workspace: Workspace, root: Path) -> None:
    (root / "folder").mkdir()
    (root / "file").write_text("old")
    (root / "link").symlink_to("/etc")
    before = sorted(os.listdir("/proc/self/fd"))
    workspace.list_dir("folder")
    read(workspace, "file")
    workspace.write(workspace.locate("a/b/c"), b"", before=None)
    for path in ("link", "folder", "none", "file/x"):
        for act in (read, Workspace.list_dir, Workspace.stat, Workspace.locate):
            with suppress(PalyraError):
                act(workspace, path)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_file_too_large_is_not_read(workspace: Workspace, root: Path) -> None:
    (root / "file").write_bytes(b"x" * 1001)
    with pytest.raises(InvalidArgument, match="larger than 1000"):
        read(workspace, "file")
    (root / "huge").touch()
    os.truncate(root / "huge", MAX_CHANGED_BYTES + 1)
    with pytest.raises(InvalidArgument, match="larger"):
        workspace.content("huge")


# --- names that are not text ---


def test_a_name_that_is_not_utf_8_is_listed_read_written_and_removed(workspace: Workspace, root: Path) -> None:
    name = os.fsencode(root) + b"/caf\xe9\\x"
    with open(name, "wb") as file:
        file.write(b"x")
    (entry,) = workspace.list_dir(".")
    assert entry.path == "caf\\xe9\\\\x"
    assert read(workspace, entry.path) == b"x"
    assert workspace.stat(entry.path).path == entry.path
    workspace.write(workspace.locate(entry.path), b"y", before=digest(b"x"))
    assert os.listdir(os.fsencode(root)) == [b"caf\xe9\\x"]
    workspace.remove(entry.path, before=digest(b"y"))
    assert os.listdir(root) == []


def test_a_folder_that_is_not_utf_8_spells_the_paths_below_it(workspace: Workspace, root: Path) -> None:
    folder = os.fsencode(root) + b"/\xff"
    os.mkdir(folder)
    with open(folder + b"/back\\slash", "wb") as file:
        file.write(b"x")
    (entry,) = workspace.list_dir("\\xff")
    assert entry.path == "\\xff/back\\\\slash"
    assert read(workspace, entry.path) == b"x"


def test_a_path_that_no_file_can_have_is_an_invalid_argument(workspace: Workspace) -> None:
    for path in ("a\0b", "\\xff\\", "\ud800", "a" * 300):
        with pytest.raises(InvalidArgument):
            workspace.stat(path)


# --- what it refuses ---


def attempts(workspace: Workspace, path: str) -> list[Callable[[], object]]:
    return [
        lambda: workspace.stat(path),
        lambda: read(workspace, path),
        lambda: workspace.list_dir(path),
        lambda: workspace.locate(path),
        lambda: workspace.write(path, b"harm", before=None),
        lambda: workspace.remove(path, before=digest(b"OUTSIDE\n")),
    ]


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../outside/secret.txt", "a/../../outside/secret.txt", "a/b/../../../outside"),
        *("/etc/passwd", "/", "/proc/self/root/etc/passwd"),
    ],
)
def test_a_path_that_leaves_as_text_is_refused(workspace: Workspace, outside: Path, path: str) -> None:
    for attempt in attempts(workspace, path):
        with pytest.raises(WorkspaceRefused):
            attempt()


def test_a_folder_whose_name_only_begins_like_the_root_is_outside(workspace: Workspace, root: Path) -> None:
    Path(f"{root}-other").mkdir()
    with pytest.raises(WorkspaceRefused):
        workspace.stat(f"{root}-other")


def test_a_symlink_that_leads_out_is_refused_however_it_is_written(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "sub").mkdir()
    (root / "folder").symlink_to(outside)
    (root / "relative").symlink_to("../outside")
    (root / "sub" / "up").symlink_to("../../outside")
    (root / "file").symlink_to(outside / "secret.txt")
    (root / "chain").symlink_to("folder/secret.txt")
    (root / "proc").symlink_to("/proc/self/root")
    (root / "dangling").symlink_to(outside / "created.txt")
    leaving = ["folder/secret.txt", "relative/secret.txt", "sub/up/secret.txt", "file", "chain", "dangling"]
    for path in [*leaving, f"proc{outside}/secret.txt", "folder", "proc", "folder/new.txt"]:
        for attempt in attempts(workspace, path):
            with pytest.raises(WorkspaceRefused):
                attempt()
    assert os.listdir(outside) == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == "OUTSIDE\n"


def test_a_magic_link_is_refused_in_a_workspace_that_holds_proc() -> None:
    with open("/etc/hostname" if Path("/etc/hostname").exists() else "/etc/passwd") as held:
        fd = held.fileno()
        with Workspace.open("/proc") as workspace:
            for path in (f"self/fd/{fd}", "self/root/etc/passwd", "thread-self/cwd", f"{os.getpid()}/fd/{fd}"):
                with pytest.raises(WorkspaceRefused):
                    read(workspace, path)


def test_with_openat2_a_symlink_that_stays_inside_is_read_but_not_written(
    kernel_workspace: Workspace, root: Path
) -> None:
    (root / "real").mkdir()
    (root / "real" / "file").write_text("x")
    (root / "link").symlink_to("real")
    (root / "name").symlink_to("real/file")
    assert read(kernel_workspace, "link/file") == read(kernel_workspace, "name") == b"x"
    assert kernel_workspace.stat("name").path == "real/file"
    assert [entry.name for entry in kernel_workspace.list_dir("link")] == ["file"]
    with pytest.raises(WorkspaceRefused, match="symlink"):
        kernel_workspace.locate("name")
    assert kernel_workspace.locate("link/file") == "real/file"
    assert kernel_workspace.locate("link/a/b") == "real/a/b"
    with pytest.raises(WorkspaceRefused):
        kernel_workspace.write("link/file", b"y", before=digest(b"x"))


def test_the_walk_refuses_every_symlink(walk_workspace: Workspace, root: Path) -> None:
    (root / "real").mkdir()
    (root / "real" / "file").write_text("x")
    (root / "link").symlink_to("real")
    (root / "name").symlink_to("real/file")
    for path in ("link/file", "name", "link"):
        for attempt in attempts(walk_workspace, path):
            with pytest.raises(WorkspaceRefused):
                attempt()


def test_a_symlink_loop_is_refused(workspace: Workspace, root: Path) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(WorkspaceRefused):
        read(workspace, "loop")


def test_a_hard_link_is_not_written(workspace: Workspace, root: Path, outside: Path) -> None:
    (root / "hard").hardlink_to(outside / "secret.txt")
    with pytest.raises(WorkspaceRefused, match="hard link"):
        workspace.locate("hard")
    with pytest.raises(WorkspaceRefused, match="hard link"):
        workspace.write("hard", b"harm", before=digest(b"OUTSIDE\n"))
    with pytest.raises(WorkspaceRefused, match="hard link"):
        workspace.remove("hard", before=digest(b"OUTSIDE\n"))
    assert (outside / "secret.txt").read_text() == "OUTSIDE\n"
    assert workspace.stat("hard").links == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_hard_link_to_a_file_of_another_user_is_not_read(workspace: Workspace, root: Path, outside: Path) -> None:
    os.chown(outside / "secret.txt", 12345, 12345)
    (root / "hard").hardlink_to(outside / "secret.txt")
    with pytest.raises(WorkspaceRefused, match="another user"):
        read(workspace, "hard")


def test_pipes_sockets_and_devices_are_refused_without_waiting(workspace: Workspace, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        for path in ("pipe", "socket"):
            with pytest.raises(WorkspaceRefused):
                read(workspace, path)
            with pytest.raises(WorkspaceRefused):
                workspace.locate(path)


def test_a_device_is_refused() -> None:
    with Workspace.open("/dev") as workspace:
        for path in ("null", "zero"):
            with pytest.raises(WorkspaceRefused, match="device"):
                read(workspace, path)


# --- races ---


@contextmanager
def swapping(root: Path, outside: Path) -> Generator[None, None, None]:
    """Exchange the folder `folder` with a symlink to `outside`, over and over, so that the name is always there."""
    (root / "folder").mkdir()
    (root / "folder" / "secret.txt").write_text("INSIDE\n")
    (root / "link").symlink_to(outside)
    libc = ctypes.CDLL(None)
    folder, link = os.fsencode(root / "folder"), os.fsencode(root / "link")
    at_fdcwd, rename_exchange = -100, 2
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            libc.renameat2(at_fdcwd, folder, at_fdcwd, link, rename_exchange)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_folder_swapped_for_a_symlink_is_never_read_through(workspace: Workspace, root: Path, outside: Path) -> None:
    reads = refusals = 0
    with swapping(root, outside):
        for _ in range(MOST_RACES):
            try:
                assert read(workspace, "folder/secret.txt") == b"INSIDE\n"
                reads += 1
            except (WorkspaceRefused, NotFound):
                refusals += 1
            if min(reads, refusals) >= RACES:
                break
    assert min(reads, refusals) >= RACES


def test_a_folder_swapped_for_a_symlink_is_never_written_through(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    content, writes, refusals = b"INSIDE\n", 0, 0
    with swapping(root, outside):
        for _ in range(MOST_RACES):
            following = b"write %d\n" % writes
            try:
                workspace.write("folder/secret.txt", following, before=digest(content))
                content = following
                writes += 1
            except (WorkspaceRefused, NotFound):
                refusals += 1
            assert os.listdir(outside) == ["secret.txt"]
            if min(writes, refusals) >= RACES:
                break
    assert min(writes, refusals) >= RACES
    assert (outside / "secret.txt").read_bytes() == b"OUTSIDE\n"


def test_within_gives_the_folder_of_any_kind_of_thing_and_the_name_in_it(workspace: Workspace, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "link").symlink_to("nowhere")
    with workspace.within("d/link") as (folder, own):
        assert os.readlink(own, dir_fd=folder) == b"nowhere"
    with workspace.within("new/deep/x", make=True) as (folder, own):
        os.mkdir(own, dir_fd=folder)
    assert (root / "new" / "deep" / "x").is_dir()


def test_within_follows_no_link_and_makes_nothing_behind_one(workspace: Workspace, root: Path, outside: Path) -> None:
    (root / "d").symlink_to(outside)
    for make in (False, True):
        with pytest.raises(WorkspaceRefused), workspace.within("d/x", make=make):
            pass
    with pytest.raises(NotFound), workspace.within("none/x"):
        pass
    assert os.listdir(outside) == ["secret.txt"]


def test_within_tells_what_goes_wrong_in_it_as_other_methods_do(workspace: Workspace, root: Path) -> None:
    with pytest.raises(NotFound, match="there is no x"), workspace.within("x") as (folder, own):
        os.unlink(own, dir_fd=folder)
