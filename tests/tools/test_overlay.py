import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra_trio.tools import bubblewrap, overlay
from palyra_trio.tools.overlay import Layer, Layers, clear, places, prove, sweep
from tests.tools.layered import NOBODY, for_all, within_reach

USER = NOBODY if os.geteuid() == 0 else None
MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:28 / /home/me/net rw - nfs4 server:/x rw
31 22 0:29 / /home/me/work\\040dir/mnt rw - tmpfs tmpfs rw
32 22 0:30 / /home/me/ssh rw - fuse.sshfs me@host rw
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that another user can get to at all times, which those of pytest are not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    within_reach(tmp_path / "layers")
    found = prove(bubblewrap.candidates(), [tmp_path / "layers"], USER)
    assert isinstance(found, Layers), found
    return found


def test_the_options_put_the_layer_over_the_workspace() -> None:
    assert Layer("/l/upper", "/l/work", 0).options("/w") == [
        *("--overlay-src", "/w", "--overlay", "/l/upper", "/l/work", "/w")
    ]


def test_a_bubblewrap_that_cannot_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "bwrap"
    old.write_text('#!/bin/sh\necho "Unknown option $4" >&2\nexit 1\n')
    old.chmod(0o755)
    within_reach(old)
    assert prove([old], [tmp_path / "layers"], USER) == "Unknown option /"
    found = prove([old, *bubblewrap.candidates()], [tmp_path / "layers"], USER)
    assert isinstance(found, Layers)
    assert found.bwrap != old
    found.close()
    assert not (tmp_path / "layers").exists()


def test_a_kernel_whose_layers_hold_no_content_is_found_out(tmp_path: Path) -> None:
    liar = tmp_path / "bwrap"
    liar.write_text("#!/bin/sh\nexit 0\n")
    liar.chmod(0o755)
    within_reach(liar)
    assert prove([liar], [tmp_path / "layers"], USER) == "the layers of this kernel do not hold what was changed"


def test_there_must_be_a_bubblewrap_and_a_place(tmp_path: Path) -> None:
    assert prove([], [tmp_path], USER) == "there is no bubblewrap"
    assert "No such file" in str(prove(bubblewrap.candidates(), [tmp_path / "no" / "layers"], USER))


def test_a_place_that_somebody_else_can_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for place in ("open", "link"):
        assert "is not this user's own" in str(prove(bubblewrap.candidates(), [tmp_path / place], USER))


def test_the_second_place_is_for_what_the_first_cannot(tmp_path: Path) -> None:
    first, second = places(tmp_path / "state")
    assert first == tmp_path / "state" / "layers"
    assert second != places(tmp_path / "other")[1]
    assert str(os.geteuid()) in second.name


def test_a_layer_begins_empty_whatever_the_one_before_left(layers: Layers, root: Path) -> None:
    root.chmod(0o750)
    with layers.layer(str(root)) as first:
        upper = Path(first.upper)
        assert stat.S_IMODE(upper.stat().st_mode) == 0o750
        (upper / "d").mkdir()
        (upper / "d" / "f").write_text("left")
        (upper / "d").chmod(0)
        os.setxattr(upper, "user.message", b"to the next")
        with layers.layer(str(root)) as other:
            assert other.upper != first.upper
    root.chmod(0o700)
    with layers.layer(str(root)) as one, layers.layer(str(root)) as two:
        assert first.upper in (one.upper, two.upper)
        for each in (one, two):
            assert os.listdir(each.upper) == []
            assert os.listxattr(each.upper) == []
            assert each.began_ns > first.began_ns
    layers.close()
    assert not os.path.exists(layers.folder)


def test_a_workspace_is_tried_once(layers: Layers, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for_all(root)
    assert layers.unfit(str(root)) == ""
    monkeypatch.setattr(subprocess, "run", None)
    assert layers.unfit(str(root)) == ""


def test_a_workspace_over_which_there_can_be_no_layer_is_told_with_the_reason(layers: Layers, tmp_path: Path) -> None:
    assert "in the workspace" in layers.unfit(str(tmp_path))
    assert "in the workspace" in layers.unfit(layers.folder + "/x")
    assert layers.unfit("/proc/self").startswith("bubblewrap cannot put a layer over it: ")


@pytest.mark.parametrize(
    ("workspace", "reason"),
    [
        ("/home/me/code", ""),
        ("/home/me/network", ""),
        ("/home/me/net/code", "its file system (nfs4) goes by another clock"),
        ("/home/me/ssh", "its file system (fuse.sshfs) goes by another clock"),
        ("/home/me/work dir", "another file system is mounted in it, at /home/me/work dir/mnt"),
        ("/home/me/work dir/mnt", ""),
    ],
)
def test_mounts_may_forbid_a_layer(workspace: str, reason: str) -> None:
    assert overlay._mounts(workspace, MOUNTS) == reason


def test_all_is_cleared_however_deep_and_closed_it_is(tmp_path: Path, outside: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / "pipe").touch()
    fd = os.open(top, os.O_PATH)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.chmod(f"/proc/self/fd/{fd}", 0)
    os.close(fd)
    assert clear(str(top), itself=False) == 1202
    assert os.listdir(top) == []
    clear(str(top))
    assert not top.exists()
    assert (outside / "secret.txt").exists()


def test_a_sweep_clears_what_is_there_and_only_in_folders_of_our_own(tmp_path: Path, outside: Path) -> None:
    ours = tmp_path / "layers"
    (ours / "left" / "upper").mkdir(parents=True)
    (ours / "left" / "upper" / "f").touch()
    (tmp_path / "link").symlink_to(outside)
    sweep([ours, tmp_path / "link", tmp_path / "none"])
    assert os.listdir(ours) == []
    assert os.listdir(outside) == ["secret.txt"]
