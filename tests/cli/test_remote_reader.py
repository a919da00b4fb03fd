"""A journal that lies elsewhere answers every question as it does where it lies."""

from collections.abc import Generator
from contextlib import closing

import attrs
import pytest

from palyra_trio.cli.open import principal
from palyra_trio.cli.profiles import parse_url
from palyra_trio.cli.remote_reader import RemoteReader
from palyra_trio.core.errors import InvalidArgument, NoDaemon, NotFound
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ModelDelta, run_stream
from palyra_trio.journal.queries import LIST_ROWS, PAGE_BYTES, Reader
from tests.processes import Shell, write_call

Readers = tuple[RemoteReader, Reader]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Readers]:
    """A daemon asked from elsewhere and here: with a body that is larger than a page, a grant, and an open approval."""
    shell = Shell.below(tmp_path_factory.mktemp("shell"))
    with shell.process("serve", "--port", "0") as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().split()[-1]
        long = shell.script({"text": "x" * (PAGE_BYTES + 1000)})
        assert shell.run("run", "--session", "notes", "--model", long, "first").returncode == 0
        assert shell.run("run", "--model", shell.script({"text": "short"}), "second").returncode == 0
        for granted in (False, True):
            left = shell.run(
                "run", "--detach", "--model", shell.script(write_call("src/a", "x"), {"text": "so"}), "ask"
            )
            shell.until_waiting(left.stdout.strip())
            if not granted:
                approval_id = shell.bodies("ApprovalRequested")[0]["approval_id"]
                assert shell.run("approvals", "allow", approval_id, "--session").returncode == 0
                assert shell.run("run", "--attach", left.stdout.strip()).returncode == 0
        token = (shell.state_dir / "token").read_text().strip()
        with closing(Reader(shell.journal)) as here:
            yield RemoteReader(attrs.evolve(parse_url(address), token=token)), here


def test_runs_are_found_and_listed(readers: Readers) -> None:
    there, here = readers
    assert there.find_run("last", principal()) == here.find_run("last", principal())
    assert there.runs(principal()) == tuple(here.runs(principal()))
    session = here.find_session("notes", principal()).session_id
    assert [run.title for run in there.runs(principal(), session_id=session)] == ["first"]
    assert there.runs(principal(), states=[RunState.FAILED]) == ()


def test_sessions_are_found_and_listed(readers: Readers) -> None:
    there, here = readers
    assert there.find_session("notes", principal()) == here.find_session("notes", principal())
    assert there.sessions(principal()) == tuple(here.sessions(principal()))


def test_a_session_is_searched_page_by_page(readers: Readers) -> None:
    there, here = readers
    first = there.search("notes", principal(), "X", most=1)
    assert first == here.search("notes", principal(), "X", most=1)
    assert there.search("notes", principal(), "FIRST") == here.search("notes", principal(), "FIRST")
    assert [hit.part for hit in (*first.hits, *there.search("notes", principal(), "FIRST").hits)] == [
        "answer",
        "prompt",
    ]
    with pytest.raises(NotFound):
        there.search("none", principal(), "x")


def test_tapes_are_read_to_the_last_byte(readers: Readers) -> None:
    there, here = readers
    for run in here.runs(principal()):
        stream = run_stream(run.run_id)
        rows = list(here.tape(stream))
        assert list(there.tape(stream)) == rows
        assert there.last_seq(stream) == rows[-1].seq
        assert there.page(stream, 2, 3) == tuple(rows[2:5])
        assert there.page(stream, rows[-1].seq) == ()
        assert list(there.tape(stream, deltas=False)) == [row for row in rows if row.kind != ModelDelta.kind]
    assert max(len(row.body or b"") for run in here.runs(principal()) for row in here.tape(run_stream(run.run_id))) > (
        PAGE_BYTES
    )


def test_agents_and_tokens_are_listed(readers: Readers) -> None:
    there, here = readers
    mine = {spec.name for spec, _ in here.agents()}
    assert mine <= {each.spec.name for each in there.known_agents()}
    assert all(min(attrs.astuple(each.limits)) > 0 for each in there.known_agents())
    assert there.tokens() == tuple(attrs.evolve(token, hash="") for token in here.tokens())


def test_approvals_are_found_and_listed_with_their_words(readers: Readers) -> None:
    there, here = readers[0].approvals, readers[1].approvals
    for pending, states in ((True, ["pending"]), (False, ["pending", "granted"])):
        found = there.listed(principal(), pending=pending, most=LIST_ROWS)
        assert [each.state for each in found] == states
        assert found == here.listed(principal(), pending=pending)
        for each in found:
            assert there.find(each.approval_id[:-1], principal()) == each
            assert there.prompt(each) == here.prompt(each) != ""


def test_grants_are_listed(readers: Readers) -> None:
    there, here = readers[0].approvals, readers[1].approvals
    (grant,) = there.grants(principal(), 0, ended=False, most=LIST_ROWS)
    assert (grant,) == here.grants(principal(), 0)
    assert grant.scope == "session"


def test_the_contents_of_files_are_not_sent(readers: Readers) -> None:
    with pytest.raises(InvalidArgument, match="not sent over the wire"):
        readers[0].blob("0" * 64)


def test_what_is_not_there_is_not_found(readers: Readers) -> None:
    with pytest.raises(NotFound):
        readers[0].find_run("01HZZZZZZZ0000000000000099", principal())
    with pytest.raises(NotFound):
        readers[0].find_session("none", principal())


def test_where_nobody_answers_there_is_no_daemon() -> None:
    with pytest.raises(NoDaemon):
        RemoteReader(parse_url("grpc://127.0.0.1:1")).find_run("last", principal())
