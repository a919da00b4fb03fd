"""The log's file: whose it is, how it is rotated, and that nothing which becomes of it stops whoever logs."""

import logging
import os
import resource
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.runtime.log_file import LogFile


def say(log: LogFile, text: str) -> None:
    log.handle(logging.makeLogRecord({"msg": text}))


def refused(path: Path) -> ConfigInvalid:
    with pytest.raises(ConfigInvalid) as caught:
        LogFile(path)
    assert str(path) in caught.value.message
    assert "leave log.file empty for stderr" in caught.value.remedy
    return caught.value


def test_it_is_this_users_alone_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in ("one", "two"):
        with closing(LogFile(path)) as log:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            say(log, text)
        path.chmod(0o644)
    assert path.read_text() == "one\ntwo\n"


def test_what_no_encoding_knows_is_spelled_out(tmp_path: Path) -> None:
    with closing(LogFile(tmp_path / "log")) as log:
        say(log, "ä \udcff")
    assert (tmp_path / "log").read_text("utf-8") == "ä \\udcff\n"


def test_one_that_was_moved_away_is_made_anew_for_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with closing(LogFile(path)) as log:
        say(log, "one")
        path.rename(tmp_path / "log.1")
        say(log, "two")
    assert (tmp_path / "log.1").read_text() == "one\n"
    assert path.read_text() == "two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_that_was_cut_short_is_written_from_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with closing(LogFile(path)) as log:
        say(log, "one")
        os.truncate(path, 0)  # logrotate's copytruncate
        say(log, "two")
    assert path.read_bytes() == b"two\n"


def test_a_path_that_is_no_place_for_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    for name in ("no-folder/log", "link", "fifo", "."):
        refused(tmp_path / name)
    assert "it is no regular file" in refused(Path("/dev/null")).message
    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_file_of_somebody_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch(0o644)
    os.chown(path, 65534, 65534)
    assert "it belongs to user 65534" in refused(path).message
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """Let no file grow beyond `size` bytes: what a full disk does, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_does_not_take_is_said_on_stderr_until_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    with closing(LogFile(path)) as log:
        with files_of_at_most(4):
            say(log, "one")
            for text in ("two", "three"):
                say(log, text)
        told = capsys.readouterr().err.splitlines()
        assert told == ["two", f"{path} cannot be written: File too large; until it can, the log goes here", "three"]
        say(log, "four")
        assert capsys.readouterr().err == ""
    assert path.read_text().splitlines()[-1] == "four"


def test_where_no_file_can_be_made_in_the_place_of_a_moved_one_lines_are_said_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with closing(LogFile(folder / "log")) as log:
        say(log, "one")
        folder.rename(tmp_path / "away")
        say(log, "two")
        assert capsys.readouterr().err.splitlines()[0] == "two"
        folder.mkdir()
        say(log, "three")
    assert (folder / "log").read_text() == "three\n"
    assert capsys.readouterr().err == ""


def test_a_line_that_cannot_be_made_stops_nobody_and_shows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(LogFile(tmp_path / "log")) as log:
        log.handle(logging.makeLogRecord({"msg": "%d of the secret", "args": ("hunter2",)}))
        say(log, "on")
    assert "hunter2" not in capsys.readouterr().err
    assert (tmp_path / "log").read_text() == "on\n"
