import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palyra_trio.core.errors import StateConflict, WorkspaceRefused
from palyra_trio.tools.overlay_bringing import bring, check
from palyra_trio.tools.overlay_reading import Step, Was, read_layer
from palyra_trio.tools.workspace import Workspace
from tests.tools.layered import whiteout

LATER = 2**62


@pytest.fixture
def layer(upper: Path) -> Iterator[Workspace]:
    with Workspace.open(upper) as layer:
        yield layer


@pytest.fixture
def steps(layer: Workspace, workspace: Workspace) -> Callable[[], list[Step]]:
    return lambda: read_layer(layer, workspace, LATER).steps


Steps = Callable[[], list[Step]]


def test_every_step_is_taken(workspace: Workspace, layer: Workspace, steps: Steps, root: Path, upper: Path) -> None:
    (root / "old").mkdir()
    (root / "old" / "f").write_text("f")
    (root / "a").write_text("a")
    (upper / "a").write_text("changed")
    (upper / "a").chmod(0o4750)
    (upper / "new" / "deep").mkdir(parents=True)
    (upper / "new" / "deep" / "f").write_text("fresh")
    (upper / "new" / "deep").chmod(0o500)
    (upper / "new" / "l").symlink_to("/etc/passwd")
    whiteout(upper / "old")
    found = steps()
    check(workspace, found)
    bring(layer, workspace, found)
    assert sorted(str(each.relative_to(root)) for each in root.rglob("*")) == [
        "a",
        "new",
        "new/deep",
        "new/deep/f",
        "new/l",
    ]
    assert (root / "a").read_text() == "changed"
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / "new" / "deep").stat().st_mode) == 0o500
    assert os.readlink(root / "new" / "l") == "/etc/passwd"
    (root / "new" / "deep").chmod(0o700)


def test_what_is_brought_has_no_marks_but_its_own(
    workspace: Workspace,
    layer: Workspace,
    steps: Steps,
    root: Path,
    upper: Path,
) -> None:
    (upper / "a").write_text("a")
    os.setxattr(upper / "a", "user.overlay.origin", b"x")
    os.setxattr(upper / "a", "user.mine", b"x")
    bring(layer, workspace, steps())
    assert os.listxattr(root / "a") == ["user.mine"]


def test_a_file_without_its_content_is_refused(
    workspace: Workspace,
    layer: Workspace,
    steps: Steps,
    root: Path,
    upper: Path,
) -> None:
    (upper / "a").touch()
    os.setxattr(upper / "a", "user.overlay.metacopy", b"")
    with pytest.raises(StateConflict, match="without their content"):
        bring(layer, workspace, steps())
    assert not (root / "a").exists()


def test_what_became_another_since_it_was_read_is_not_replaced(
    workspace: Workspace,
    layer: Workspace,
    steps: Steps,
    root: Path,
    upper: Path,
) -> None:
    for name in "abc":
        (root / name).write_text("old")
        (upper / name).write_text("new")
    found = steps()
    (root / "b").unlink()
    (root / "b").write_text("theirs")
    with pytest.raises(StateConflict, match="by the program too: b "):
        check(workspace, found)
    with pytest.raises(StateConflict, match="b was changed by somebody else just now"):
        bring(layer, workspace, found)
    assert [(root / name).read_text() for name in "abc"] == ["new", "theirs", "old"]


def test_a_link_that_was_put_in_the_way_since_is_not_followed(
    workspace: Workspace,
    layer: Workspace,
    steps: Steps,
    root: Path,
    upper: Path,
    outside: Path,
) -> None:
    (root / "d").mkdir(mode=0o755)
    (root / "d" / "secret.txt").write_text("mine")
    (upper / "d").mkdir(mode=0o755)
    whiteout(upper / "d" / "secret.txt")
    found = steps()
    assert [step.path for step in found] == ["d/secret.txt"]
    (root / "d").rename(root / "moved")
    (root / "d").symlink_to(outside)
    with pytest.raises(WorkspaceRefused):
        check(workspace, found)
    with pytest.raises(StateConflict, match=r"symlink.*; not all that the program changed was brought"):
        bring(layer, workspace, found)
    assert (outside / "secret.txt").read_text() == "OUTSIDE\n"


def test_a_forged_step_does_not_leave_the_workspace(workspace: Workspace, layer: Workspace, outside: Path) -> None:
    was = Was.of((outside / "secret.txt").stat())
    for path in ("../outside/secret.txt", str(outside / "secret.txt")):
        with pytest.raises(StateConflict, match="workspace; not all that the program changed was brought"):
            bring(layer, workspace, [Step(path, "remove", 0, was)])
    assert (outside / "secret.txt").exists()


def test_a_folder_that_was_filled_by_others_is_not_removed(
    workspace: Workspace,
    layer: Workspace,
    steps: Steps,
    root: Path,
    upper: Path,
) -> None:
    (root / "d").mkdir()
    whiteout(upper / "d")
    found = steps()
    (root / "d" / "theirs").touch()
    with pytest.raises(Exception, match="not empty"):
        bring(layer, workspace, found)
    assert (root / "d" / "theirs").exists()
