"""What others can get at is found, closed where it is ours, and nothing else is ever changed."""

import os
import stat
from pathlib import Path

import pytest

from palyra_trio.guard.private_modes import Exposed, PrivateFolder, exposed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with two keys and a plain file, and a folder with a key in it, as they should be."""
    home = tmp_path / "home"
    (home / "tls").mkdir(0o700, parents=True)
    home.chmod(0o700)
    for name in ("a.key", "b.key", "notes", "tls/c.key"):
        (home / name).touch(0o600)
    return home


def place(home: Path, *, shared: bool = False) -> PrivateFolder:
    return PrivateFolder(str(home), ("*.key",), (PrivateFolder("tls"), PrivateFolder("not-there")), shared)


def test_what_is_as_it_should_be_is_not_told_of_and_what_is_not_there_neither(home: Path) -> None:
    (home / "notes").chmod(0o644)  # not one of them
    assert list(exposed(place(home))) == []
    assert list(exposed(PrivateFolder(str(home / "nowhere")))) == []


def test_what_others_can_get_at_is_found_without_a_change_and_closed_when_asked(home: Path) -> None:
    for name, wrong in ((".", 0o755), ("a.key", 0o640), ("tls", 0o701), ("tls/c.key", 0o644)):
        (home / name).chmod(wrong)
    found = [
        Exposed(home, 0o755, 0o700),
        Exposed(home / "a.key", 0o640, 0o600),
        Exposed(home / "tls", 0o701, 0o700),
        Exposed(home / "tls" / "c.key", 0o644, 0o600),
    ]
    assert list(exposed(place(home))) == found
    assert mode(home) == 0o755
    assert list(exposed(place(home, shared=True))) == found[1:]
    assert list(exposed(place(home), close=True)) == found
    assert [mode(each.path) for each in found] == [0o700, 0o600, 0o700, 0o600]
    assert list(exposed(place(home))) == []


def test_a_folder_that_its_owner_cannot_use_is_opened_to_them(home: Path) -> None:
    (home / "tls").chmod(0o500)
    assert list(exposed(place(home), close=True)) == [Exposed(home / "tls", 0o500, 0o700)]
    assert mode(home / "tls") == 0o700


@pytest.mark.parametrize("name", ["a.key", "tls"])
def test_what_a_link_leads_to_is_left_as_it_is(home: Path, tmp_path: Path, name: str) -> None:
    """The link stands where the file or the folder was; what it leads to is ours, and open to all on purpose."""
    victim = tmp_path / "public"
    (home / name).rename(victim)
    victim.chmod(0o755)
    (home / name).symlink_to(victim)
    (found,) = exposed(place(home), close=True)
    assert (found.path, found.left) == (home / name, "it is a symbolic link")
    assert mode(victim) == 0o755


def test_a_file_with_another_name_is_left_as_it_is(home: Path, tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.touch(0o644)
    public.chmod(0o644)
    (home / "a.key").unlink()
    os.link(public, home / "a.key")
    (found,) = exposed(place(home), close=True)
    assert found.left == "it has another name, in this folder or elsewhere"
    assert mode(public) == 0o644


@as_root
@pytest.mark.parametrize("name", ["a.key", "tls"])
def test_what_belongs_to_somebody_else_is_left_as_it_is(home: Path, name: str) -> None:
    os.chown(home / name, NOBODY, NOBODY)
    (home / name).chmod(0o755)
    found, *_ = exposed(place(home), close=True)
    assert (found.path, found.left) == (home / name, f"it belongs to user {NOBODY}")
    assert mode(home / name) == 0o755


@as_root
def test_what_belongs_to_somebody_else_is_told_of_even_where_only_they_can_get_at_it(home: Path) -> None:
    os.chown(home / "a.key", NOBODY, NOBODY)
    assert [each.left for each in exposed(place(home))] == [f"it belongs to user {NOBODY}"]


def test_what_is_no_file_and_no_folder_is_left_as_it_is_and_keeps_nobody_waiting(home: Path) -> None:
    (home / "a.key").unlink()
    os.mkfifo(home / "a.key", 0o666)
    (home / "b.key").unlink()
    (home / "b.key").mkdir()
    (home / "tls" / "c.key").unlink()
    (home / "tls").rmdir()
    (home / "tls").touch(0o644)
    assert [(each.path.name, each.left) for each in exposed(place(home), close=True)] == [
        ("a.key", "it is no regular file"),
        ("b.key", "it is no regular file"),
        ("tls", "it is no folder"),
    ]


def test_the_outermost_may_be_a_link_of_ones_own(home: Path, tmp_path: Path) -> None:
    (home / "a.key").chmod(0o644)
    (tmp_path / "link").symlink_to(home)
    assert list(exposed(place(tmp_path / "link"), close=True)) == [Exposed(home / "a.key", 0o644, 0o600)]
    assert mode(home / "a.key") == 0o600


@as_root
def test_the_outermost_may_not_be_a_link_of_somebody_elses(home: Path, tmp_path: Path) -> None:
    (home / "a.key").chmod(0o644)
    (tmp_path / "link").symlink_to(home)
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    (found,) = exposed(place(tmp_path / "link"), close=True)
    assert (found.path, found.left) == (tmp_path / "link", "it is a symbolic link")
    assert mode(home / "a.key") == 0o644


@pytest.mark.parametrize("shown", [0o1777, 0o2775])
def test_a_folder_that_others_are_meant_to_use_is_left_as_it_is(home: Path, shown: int) -> None:
    home.chmod(shown)
    (found,) = exposed(place(home), close=True)
    assert found.left == "others are meant to use it, name another folder"
    assert mode(home) == shown
