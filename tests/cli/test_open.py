import fcntl
import io
import os
import pwd
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager

import attrs
import click
import pytest

from palyra_trio.cli.open import claimed, confirm, has_journal, is_held, principal, reading, request_context, state_word
from palyra_trio.core.errors import InvalidArgument, NotFound, StateLocked
from palyra_trio.core.identity import Principal, RunId, SessionId, parse_ulid
from palyra_trio.core.run import RunState
from palyra_trio.journal.queries import RunSummary
from palyra_trio.journal.store import LOCK_NAME, lock_state_dir
from tests.cli.conftest import RUN, Home, Palyra

SUMMARY = RunSummary(
    RunId("r"), SessionId("s"), Principal("user:a"), "default", "/w", "t", RunState.RUNNING, "", "b", 1, 2
)


@contextmanager
def held(home: Home) -> Generator[None, None, None]:
    descriptor = lock_state_dir(home.state_dir)
    try:
        yield
    finally:
        os.close(descriptor)


def test_who_asks_is_known_by_the_user_id_and_not_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "mallory")
    monkeypatch.setenv("LOGNAME", "mallory")
    assert principal() == f"user:{pwd.getpwuid(os.getuid()).pw_name}"


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert principal() == f"user:{2**31 - 7}"


def test_a_device_keeps_its_name(home: Home) -> None:
    home.state_dir.mkdir()
    first = request_context(home.state_dir)
    assert parse_ulid(first.device) == first.device
    assert request_context(home.state_dir) == first
    assert (first.principal, first.channel) == (principal(), "cli")
    assert os.listdir(home.state_dir) == ["device"]
    assert (home.state_dir / "device").stat().st_mode & 0o077 == 0


def test_there_is_nothing_to_read_before_the_first_run(home: Home) -> None:
    assert not has_journal()
    with pytest.raises(NotFound, match="nothing has run yet"), reading():
        pass
    assert not home.state_dir.exists()


def test_reading_works_while_another_process_holds_the_journal(home: Home) -> None:
    home.record_run()
    with held(home), reading() as reader:
        assert reader.find_run("last", principal()).run_id == RUN


def test_a_journal_of_a_newer_version_is_not_read(home: Home, palyra: Palyra) -> None:
    home.record_run()
    with closing(sqlite3.connect(home.journal)) as db:
        db.execute("PRAGMA user_version = 1000")
    for command in (["tape", "last"], ["runs", "list"], ["runs", "show", "last"], ["sessions", "list"]):
        result = palyra(*command)
        assert (result.exit_code, result.stdout) == (1, ""), command
        assert "has schema version 1000" in result.stderr
        assert "use the newer program that wrote it" in result.stderr


def test_a_state_directory_is_claimed_unless_it_is_held_and_its_lock_says_what_it_said(home: Home) -> None:
    with held(home):
        said = (home.state_dir / LOCK_NAME).read_bytes()
        with claimed(home.state_dir) as free:
            assert not free
    with claimed(home.state_dir) as free:
        assert free
        with pytest.raises(StateLocked):
            lock_state_dir(home.state_dir)
    assert (home.state_dir / LOCK_NAME).read_bytes() == said
    with held(home):
        pass


def test_a_state_directory_is_held_while_its_lock_is_and_asking_does_not_take_it(home: Home) -> None:
    assert not is_held(home.state_dir)
    with held(home):
        assert is_held(home.state_dir)
        assert is_held(home.state_dir)
    assert not is_held(home.state_dir)
    with held(home):
        pass


def test_a_reader_that_asks_does_not_keep_others_that_ask_from_an_answer(home: Home) -> None:
    with held(home):
        pass
    with open(home.state_dir / "lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_held(home.state_dir)


def test_a_live_run_is_interrupted_when_no_process_can_be_running_it() -> None:
    assert state_word(SUMMARY, held=True) == "running"
    assert state_word(SUMMARY, held=False) == "interrupted"
    parked = attrs.evolve(SUMMARY, state=RunState.WAITING, reason="interrupted")
    assert state_word(parked, held=True) == "interrupted"
    asking = attrs.evolve(SUMMARY, state=RunState.WAITING, reason="approval")
    assert state_word(asking, held=True) == "waiting"
    assert state_word(asking, held=False) == "waiting"  # for a person, not for a process
    assert state_word(attrs.evolve(SUMMARY, state=RunState.DONE), held=False) == "done"


def test_nobody_is_asked_who_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    confirm("Sure?", yes=True)
    with pytest.raises(InvalidArgument) as refused:
        confirm("Sure?", yes=False)
    assert refused.value.remedy == "pass --yes"


def test_declining_ends_the_command_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, False])
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(click, "confirm", lambda _question, err: next(answers))
    confirm("Sure?", yes=False)
    with pytest.raises(click.exceptions.Exit) as end:
        confirm("Sure?", yes=False)
    assert end.value.exit_code == 1


class Terminal:
    def isatty(self) -> bool:
        return True
