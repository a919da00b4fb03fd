import errno
import os
from pathlib import Path

import pytest

from palyra_trio.tools import beneath
from palyra_trio.tools.beneath import by_kernel, by_walk, choose
from palyra_trio.tools.workspace import Workspace


def test_the_walk_follows_no_symlink_even_where_it_may(kernel_workspace: Workspace, root: Path) -> None:
    (root / "real").mkdir()
    (root / "real" / "file").write_text("x")
    (root / "link").symlink_to("real")
    fd = os.open(root, os.O_PATH)
    try:
        os.close(by_kernel(fd, b"link/file", os.O_RDONLY))
        for opener in (by_kernel, by_walk):
            with pytest.raises(OSError, match=r".") as refused:
                opener(fd, b"link/file", os.O_RDONLY, follow=False)
            assert refused.value.errno == errno.ELOOP
        for path in (b"link/file", b"link"):
            with pytest.raises(OSError, match=r".") as refused:
                by_walk(fd, path, os.O_PATH)
            assert refused.value.errno == errno.ELOOP
    finally:
        os.close(fd)


def test_no_opener_takes_dots_out_of_the_root(opener: beneath.Opener, root: Path) -> None:
    fd = os.open(root, os.O_PATH)
    try:
        for path in (b"..", b"../outside", b"/etc"):
            with pytest.raises(OSError, match=r".") as refused:
                opener(fd, path, os.O_PATH)
            assert refused.value.errno == errno.EXDEV
    finally:
        os.close(fd)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_that_refuses_openat2_gets_the_walk(code: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(beneath, "by_kernel", refused)
    fd = os.open(root, os.O_PATH)
    try:
        assert choose(fd) is by_walk
    finally:
        os.close(fd)


def test_a_refused_open_leaves_no_descriptor(opener: beneath.Opener, root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "link").symlink_to("/etc")
    fd = os.open(root, os.O_PATH)
    try:
        before = os.listdir("/proc/self/fd")
        for path in (b"a/b/link/passwd", b"a/b/link", b"a/b/none", b"a/b/none/x", b"a/../b"):
            with pytest.raises(OSError, match=r"."):
                opener(fd, path, os.O_RDONLY, follow=False)
        assert os.listdir("/proc/self/fd") == before
    finally:
        os.close(fd)
