import os
from pathlib import Path

import attrs
import pytest

from palyra_trio.tools.view import View, is_beneath, look


@pytest.fixture
def view(tmp_path: Path) -> View:
    (tmp_path / "tools").mkdir()
    return look("/home/me", read_only=[str(tmp_path / "tools"), "/nonexistent"], path=[str(tmp_path / "tools")])


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_programs_are_looked_for_in_the_configured_folders_first(view: View, tmp_path: Path) -> None:
    assert view.which("ls", "/") in ("/usr/bin/ls", "/bin/ls")
    own = program(tmp_path / "tools" / "ls")
    assert view.which("ls", "/") == str(own)
    assert view.which("no-such-program", "/") is None


def test_a_name_with_a_slash_starts_at_the_folder_it_is_run_in(view: View, tmp_path: Path) -> None:
    own = program(tmp_path / "run.sh")
    assert view.which("./run.sh", str(tmp_path)) == str(own)
    assert view.which("tools/../run.sh", str(tmp_path)) == str(own)
    assert view.which("./tools", str(tmp_path)) is None  # a folder
    own.chmod(0o644)
    assert view.which("./run.sh", str(tmp_path)) is None


def test_what_is_shown_is_shown_with_its_links(view: View, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    os.symlink("/usr/bin/env", work / "inside")
    os.symlink(program(tmp_path / "hidden"), work / "outside")
    assert view.shows("/usr/bin/env", str(work))
    assert view.shows("/bin/env", str(work))
    assert view.shows(str(work / "inside"), str(work))
    assert not view.shows(str(work / "outside"), str(work))
    assert not view.shows(str(tmp_path / "hidden"), str(work))


def test_only_folders_that_exist_are_shown(view: View, tmp_path: Path) -> None:
    assert view.read_only == (str(tmp_path / "tools"),)
    assert "/usr" in view.folders
    assert "/etc" not in view.readable
    assert all(each.startswith("/etc/") for each in view.etc)


def test_the_environment_is_built_from_nothing(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    env = view.environment("/work")
    assert sorted(env) == ["HOME", "LANG", "PATH", "PWD", "TERM", "TMPDIR"]
    assert env["HOME"] == "/home/me"
    assert attrs.evolve(view, path=("/a", "/b")).environment("/work")["PATH"] == "/a:/b"


def test_a_folder_is_beneath_itself_and_not_beneath_its_namesake() -> None:
    assert is_beneath("/a/b", "/a")
    assert is_beneath("/a", "/a")
    assert is_beneath("/a", "/")
    assert not is_beneath("/ab", "/a")
