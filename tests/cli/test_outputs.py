from palyra_trio.core.chain import digest
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.tape import ToolFinished, ToolProposed
from tests.cli.conftest import STARTED, Home, Palyra

PIECES = [b"[stdout]\none\n", b"two\n", b"three\n"]


def kept(home: Home) -> None:
    home.record_run(
        *STARTED,
        ToolProposed(ToolCall("long", "process.run")),
        *[OutputKept("long", digest(each), len(each)) for each in PIECES],
        ToolFinished("long", "exit code 0\n[stdout]\none\n[…]\nthree", 5),
        ToolProposed(ToolCall("short", "process.run")),
        ToolFinished("short", "exit code 0\n[stdout]\nhello", 5),
        ToolFinished("excerpt", "the ed…ge", 5, output=digest(b"the edge"), size_bytes=8),
    )
    home.record(blobs=tuple((digest(each), each) for each in (*PIECES, b"the edge")))


def test_all_that_a_program_wrote_is_printed_from_its_pieces(palyra: Palyra, home: Home) -> None:
    kept(home)
    assert palyra("runs", "output", "last", "long").stdout == "[stdout]\none\ntwo\nthree\n"


def test_what_was_told_whole_or_lies_in_one_blob_is_printed_too(palyra: Palyra, home: Home) -> None:
    kept(home)
    assert palyra("runs", "output", "last", "short").stdout == "exit code 0\n[stdout]\nhello\n"
    assert palyra("runs", "output", "last", "excerpt").stdout == "the edge"


def test_a_call_must_be_named_where_there_are_several(palyra: Palyra, home: Home) -> None:
    kept(home)
    result = palyra("runs", "output", "last")
    assert (result.exit_code, "name one of long, short, excerpt" in result.stderr) == (1, True)
    result = palyra("runs", "output", "last", "other")
    assert (result.exit_code, "there is long, short, excerpt" in result.stderr) == (1, True)


def test_the_only_call_needs_no_name(palyra: Palyra, home: Home) -> None:
    home.record_run(*STARTED, ToolProposed(ToolCall("c", "files.read")), ToolFinished("c", "text", 5))
    assert palyra("runs", "output", "last").stdout == "text\n"
