"""Only what is one's own and nobody else's is read, and a crash leaves the old file or the new one."""

import fcntl
import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.private_file import changing, create_private, private_folder, read_private, replace_private


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "private" / "file"
    private_folder(path.parent)
    create_private(path, b"old")
    return path


def test_what_is_made_is_for_its_owner_alone(file: Path) -> None:
    usual = os.umask(0)
    try:
        replace_private(file, b"new")
    finally:
        os.umask(usual)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert read_private(file, 10) == b"new"
    assert os.listdir(file.parent) == ["file"]


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none", 10) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o601])
def test_what_lets_others_in_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigInvalid, match="others may get at") as caught:
        read_private(file, 10)
    assert "chmod go-rwx" in caught.value.remedy
    file.parent.chmod(0o700 | mode & 0o077)
    with pytest.raises(ConfigInvalid, match="others may get at"):
        private_folder(file.parent)


def test_what_belongs_to_another_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigInvalid, match="belongs to user"):
        read_private(file, 10)
    with pytest.raises(ConfigInvalid, match="belongs to user"):
        private_folder(file.parent)


def test_a_link_a_fifo_and_a_folder_are_no_private_files(file: Path) -> None:
    for name, make in (("link", lambda path: path.symlink_to(file)), ("fifo", os.mkfifo), ("folder", os.mkdir)):
        make(path := file.with_name(name))
        with pytest.raises(ConfigInvalid):
            read_private(path, 10)


def test_a_link_in_the_place_of_a_folder_is_refused(file: Path) -> None:
    (link := file.parent.with_name("link")).symlink_to(file.parent)
    with pytest.raises(ConfigInvalid, match="no folder"):
        private_folder(link)


def test_a_file_that_is_too_large_is_refused(file: Path) -> None:
    assert read_private(file, 3) == b"old"
    with pytest.raises(ConfigInvalid, match="larger than 2"):
        read_private(file, 2)


def test_a_file_that_cannot_be_written_leaves_the_old_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigInvalid, match="No space left"):
        replace_private(file, b"new")
    assert (file.read_bytes(), os.listdir(file.parent)) == (b"old", ["file"])


def test_a_new_file_never_takes_the_place_of_another(file: Path) -> None:
    with pytest.raises(FileExistsError):
        create_private(file, b"new")
    assert file.read_bytes() == b"old"


def test_one_at_a_time_changes_a_folder(tmp_path: Path) -> None:
    with changing(tmp_path / "held"), open(tmp_path / "held/lock") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
