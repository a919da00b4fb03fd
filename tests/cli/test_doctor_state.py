"""What is looked at in this user's folders, and mended there: each case that the whole of `doctor` does not show."""

import os
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest

from palyra_trio.cli.doctor_state import (
    Line,
    folders,
    given_keys,
    holder,
    leave_given_keys,
    log_file,
    mend_folders,
    mend_private_files,
    mend_socket,
    mend_state_folder,
    private_files,
    private_places,
    socket_left,
)
from palyra_trio.core.config import Config, GrpcConfig, LogConfig, QuicConfig
from palyra_trio.journal.store import LOCK_NAME, lock_state_dir


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(0o700)
    return state


def left_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(path))


@contextmanager
def held(state: Path) -> Generator[None]:
    descriptor = lock_state_dir(state)
    yield
    os.close(descriptor)


# --- the state folder ---


def test_a_state_folder_is_made_where_there_is_none_and_closed_where_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "state"
    assert list(mend_state_folder(folder)) == [Line(f"{folder}: made")]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(mend_state_folder(folder)) == []
    folder.chmod(0o755)
    (folder / "token").touch(0o644)
    assert list(mend_state_folder(folder)) == [Line(f"{folder}: mode 0755 is now 0700")]


def test_a_state_folder_that_cannot_be_made_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (line,) = mend_state_folder(tmp_path / "file" / "state")
    assert (line.done, "cannot be made: Not a directory" in line.said) == (False, True)


# --- private files ---

OF_STATE = (
    *("token", "lock", "device", "trusted.json", "journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3.v5"),
    *("tls/ca.key", "tls/leaf.pem", "tls/quic.secret", "vault/vault.json"),
)
OF_CONFIG = ("daemons.json", "keys/main.key", "authorities/ab.pem")


def test_every_key_token_certificate_and_record_is_closed_and_no_other_file(state: Path, tmp_path: Path) -> None:
    config, runtime, logs = (tmp_path / name for name in ("config", "runtime", "logs"))
    private = [
        *(state / name for name in OF_STATE),
        *(config / name for name in OF_CONFIG),
        runtime / "palyra-trio" / "vault-1.key",
        logs / "daemon [1].log",
    ]
    public = [config / "config.toml", config / "policies" / "mine.cedar", runtime / "bus", logs / "syslog"]
    for path in (*private, *public):
        path.parent.mkdir(0o755, parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o644)
    places = private_places(state, config, runtime, str(logs / "daemon [1].log"))
    found = private_files(places)
    assert (found.health, found.remedy) == ("fault", "palyra-trio doctor --fix")
    assert all(f"{path}: mode 0644" in found.said for path in private)
    assert all(line.done for line in mend_private_files(places))
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in public} == {0o644}
    assert private_files(places).health == "ok"
    assert list(mend_private_files(places)) == []


def test_what_cannot_be_closed_is_no_matter_for_the_fix(state: Path, tmp_path: Path) -> None:
    (state / "token").symlink_to(tmp_path / "elsewhere")
    found = private_files(private_places(state, tmp_path / "config", None, ""))
    assert (found.health, found.remedy) == ("fault", "look at who put them there")


def test_given_keys_that_everybody_can_read_are_told_of_and_left(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    config = Config(grpc=GrpcConfig(tls_key_file=str(key)))
    for mode, health in ((0o600, "ok"), (0o640, "ok"), (0o644, "fault")):
        key.chmod(mode)
        assert given_keys(config).health == health
    assert given_keys(config).remedy == f"chmod o-rwx {key}"
    assert [line.done for line in leave_given_keys()] == [False]
    assert given_keys(Config(grpc=GrpcConfig(tls_key_file=str(tmp_path / "none")))).health == "ok"


# --- the lock and the socket ---


def test_a_lock_whose_process_is_gone_is_held_by_what_it_started(state: Path) -> None:
    with held(state):
        assert holder(state).said == f"process {os.getpid()} holds the state folder"
        (state / LOCK_NAME).write_text(f"{2**22 + 1}\n")  # more than a pid can be
        found = holder(state)
        assert (found.health, "is gone, and what it started still holds it" in found.said) == ("warning", True)
    assert holder(state).health == "ok"


def test_a_lock_that_cannot_be_opened_is_a_fault(state: Path) -> None:
    (state / LOCK_NAME).symlink_to(state / LOCK_NAME)
    assert holder(state).health == "fault"


def test_a_socket_that_nobody_answers_at_is_removed(state: Path) -> None:
    assert socket_left(state, False).said == "nobody serves, and none was left"
    assert list(mend_socket(state)) == []
    left_socket(state / "socket")
    found = socket_left(state, False)
    assert (found.health, found.remedy) == ("warning", "palyra-trio doctor --fix")
    assert list(mend_socket(state)) == [Line(f"{state / 'socket'}: removed")]
    assert not (state / "socket").exists()


def test_while_a_process_holds_the_folder_the_socket_is_its_own(state: Path) -> None:
    left_socket(state / "socket")
    with held(state):
        assert socket_left(state, True).health == "ok"
        found = socket_left(state, False)
        assert (found.health, "does not answer" in found.said) == ("warning", True)
        (line,) = mend_socket(state)
        assert (line.done, "a process holds the state folder" in line.said) == (False, True)
    assert (state / "socket").is_socket()


def test_somebody_who_answers_without_the_lock_is_a_fault_and_left(state: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(state / "socket"))
        listening.listen()
        assert socket_left(state, False).health == "fault"
        (line,) = mend_socket(state)
        assert (line.done, "somebody answers who does not hold" in line.said) == (False, True)
    assert (state / "socket").is_socket()


def test_what_is_no_socket_of_ours_in_its_place_is_a_fault_and_left(state: Path, tmp_path: Path) -> None:
    path = state / "socket"
    left_socket(tmp_path / "another")
    puts: tuple[Callable[[], None], ...] = (path.touch, path.mkdir, lambda: path.symlink_to(tmp_path / "another"))
    for put in puts:
        put()
        assert socket_left(state, False).health == "fault"
        assert list(mend_socket(state)) == [Line(f"{path}: it is no socket", done=False)]
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() else path.unlink()
    assert (tmp_path / "another").is_socket()


def test_a_lock_that_is_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (state / LOCK_NAME).symlink_to(victim)
    left_socket(state / "socket")
    with pytest.raises(OSError, match="symbolic links"):
        list(mend_socket(state))
    assert not victim.exists()
    assert (state / "socket").is_socket()


# --- folders and the log ---


def test_folders_that_serve_needs_are_made_once_each(tmp_path: Path) -> None:
    quic = QuicConfig(qlog_dir=str(tmp_path / "a" / "qlog"), key_log_file=str(tmp_path / "logs" / "keys"))
    config = Config(quic=quic, log=LogConfig(file=str(tmp_path / "logs" / "daemon.log")))
    found = folders(config)
    assert found.health == "fault"
    for said in (f"log.file: there is no folder {tmp_path / 'logs'}", "quic.qlog_dir: ", "quic.key_log_file: "):
        assert said in found.said
    assert [*mend_folders(config)] == [Line(f"{tmp_path / 'logs'}: made"), Line(f"{tmp_path / 'a' / 'qlog'}: made")]
    assert folders(config).health == "ok"
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert list(mend_folders(config)) == []


def test_a_file_in_the_place_of_a_folder_is_left(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    (line,) = mend_folders(Config(log=LogConfig(file=str(tmp_path / "logs" / "daemon.log"))))
    assert (line.done, "File exists" in line.said) == (False, True)


def test_nothing_is_needed_of_what_is_not_served(tmp_path: Path) -> None:
    quic = QuicConfig(enabled=False, qlog_dir=str(tmp_path / "none"))
    assert folders(Config(quic=quic)).health == "ok"


def test_a_log_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    config = Config(log=LogConfig(file=str(tmp_path / "daemon.log")))
    assert log_file(Config()).said == "it goes to stderr"
    assert log_file(config).health == "ok"
    gone = attrs.evolve(config, log=LogConfig(file=str(tmp_path / "none" / "daemon.log")))
    assert log_file(gone).health == "fault"
