"""A pool never lends more than two readers, keeps them, and gets each back."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.errors import Busy, JournalInvalid, NotFound
from palyra_trio.core.identity import Principal
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.reader_pool import SEARCHES_WAITING, ReaderPool
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.journal.tickets import ALICE, commit, delta, for_run, run_id

ME = Principal(ALICE)
STREAM = run_stream(run_id(1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


async def test_the_pool_lends_two_readers_and_keeps_them(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, for_run(1, delta()))
    lent: list[Reader] = []
    asking, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def question(reader: Reader) -> int:
        lent.append(reader)
        asking.release()
        go_on.acquire()
        return reader.last_seq(STREAM)

    async with ReaderPool(tmp_path / FILE_NAME) as pool:
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await pool.ask(question))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            for _ in range(2):
                await trio.to_thread.run_sync(asking.acquire)
            await wait_all_tasks_blocked()
            assert len(lent) == 2
            go_on.release(5)
        assert answers == [1] * 5
        assert len(set(map(id, lent))) == 2
    for reader in lent:
        with pytest.raises(Exception, match="closed database"):
            reader.last_seq(STREAM)


async def test_searches_take_turns_so_that_another_reader_is_there_and_beyond_a_few_they_are_refused(
    store: SqliteStore, tmp_path: Path
) -> None:
    commit(store, for_run(1, delta()))
    go_on, searched = threading.Semaphore(0), list[int]()

    def question(reader: Reader) -> None:
        go_on.acquire()
        searched.append(reader.last_seq(STREAM))

    async with ReaderPool(tmp_path / FILE_NAME) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(1 + SEARCHES_WAITING):
                nursery.start_soon(pool.search, question)
            await wait_all_tasks_blocked()
            try:
                with trio.fail_after(5):
                    assert await pool.ask(lambda reader: reader.last_seq(STREAM)) == 1
                with trio.fail_after(5), pytest.raises(Busy, match="too many searches") as refused:
                    await pool.search(question)
                assert refused.value.remedy
                assert not searched
            finally:
                go_on.release(1 + SEARCHES_WAITING + 1)
        assert await pool.search(lambda reader: reader.last_seq(STREAM)) == 1
        assert len(searched) == 1 + SEARCHES_WAITING


async def test_a_question_that_fails_gives_its_reader_back(store: SqliteStore, tmp_path: Path) -> None:
    commit(store, for_run(1, delta()))
    async with ReaderPool(tmp_path / FILE_NAME) as pool:
        for _ in range(3):
            with pytest.raises(NotFound):
                await pool.ask(lambda reader: reader.find_run("last", ME))
        assert await pool.ask(lambda reader: reader.last_seq(STREAM)) == 1
        assert len(pool._idle) == 1


async def test_a_pool_over_no_journal_says_so_at_the_first_question(tmp_path: Path) -> None:
    async with ReaderPool(tmp_path / FILE_NAME) as pool:
        with pytest.raises(JournalInvalid, match="does not exist"):
            await pool.ask(lambda reader: reader.last_seq(STREAM))
