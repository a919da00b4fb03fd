"""Finding what was said: which texts are found and how they are told, page by page, with bounded work, and only one's own."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.identity import Principal
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.tape import (
    ApprovalDecided,
    ModelTurn,
    PolicyDecision,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
)
from palyra_trio.journal import search as searching
from palyra_trio.journal.erasure import Place, blot
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.search import (
    EXCERPT_CHARACTERS,
    FOLDED_AT_ONCE,
    LEAD_CHARACTERS,
    QUERY_CHARACTERS,
    Hit,
    SearchPage,
)
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.journal.tickets import (
    ALICE,
    BOB,
    FINISH,
    START,
    accepted,
    commit,
    delta,
    for_run,
    opened,
    run_id,
    session_id,
)

ME = Principal(ALICE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        commit(store, opened(1), opened(2), opened(3, BOB))
        yield store


@pytest.fixture
def reader(store: SqliteStore, tmp_path: Path) -> Iterator[Reader]:
    with closing(Reader(tmp_path / FILE_NAME)) as reader:
        yield reader


def run(
    store: SqliteStore, number: int, *events: TapeEvent, text: str = "hello", session: int = 1, **rest: str
) -> None:
    commit(store, accepted(number, session, text=text, **rest), for_run(number, START, *events, FINISH))


def answer(turn: int, text: str) -> ModelTurn:
    return ModelTurn(turn, text, "stop", Usage(), "m")


def proposed(call_id: str, tool: str = "process.run", **arguments: object) -> ToolProposed:
    return ToolProposed(ToolCall(call_id, tool, arguments))


def found(reader: Reader, text: str, session: str = session_id(1), **rest: object) -> SearchPage:
    return reader.search(session, ME, text, **rest)  # type: ignore[arg-type]


def told(hit: Hit) -> str:
    """Return an excerpt with what was found in brackets."""
    return "".join(f"[{piece.text}]" if piece.found else piece.text for piece in hit.excerpt)


# --- what is found ---


def test_everybody_who_said_it_is_found_the_last_first(store: SqliteStore, reader: Reader) -> None:
    run(store, 1, answer(1, "The fence is old."), text="paint the fence")
    run(
        store,
        2,
        answer(1, "Let me look."),
        proposed("a", path="fence.txt"),
        ToolOutput("a", "stdout", "fence"),
        ToolFinished("a", "no fence", 1),
        answer(2, "There is no fence."),
        text="where is it?",
    )
    page = found(reader, "fence")
    assert page.before == ""
    said = [(hit.run_id, hit.seq, hit.part, told(hit), hit.turn, hit.tool, hit.proposed_seq) for hit in page.hits]
    assert said == [
        (run_id(2), 7, "answer", "There is no [fence].", 2, "", 0),
        (run_id(2), 6, "result", "no [fence]", 0, "process.run", 4),
        (run_id(2), 4, "call", "path=[fence].txt", 0, "process.run", 4),
        (run_id(1), 3, "answer", "The [fence] is old.", 1, "", 0),
        (run_id(1), 1, "prompt", "paint the [fence]", 0, "", 0),
    ]
    assert {hit.at_ms for hit in page.hits} == {1000}
    assert [hit.call_id for hit in page.hits] == ["", "a", "a", "", ""]


def test_all_words_must_be_in_one_text_each_anywhere_and_in_any_case(store: SqliteStore, reader: Reader) -> None:
    run(store, 1, answer(1, "Green again"), text="Paint the fence GREEN")
    (hit,) = found(reader, "green FENCE").hits
    assert told(hit) == "Paint the [fence] [GREEN]"
    assert found(reader, "green zebra").hits == ()
    assert [told(hit) for hit in found(reader, "gre gree").hits] == ["[Gree]n again", "Paint the fence [GREE]N"]


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("die Straße dort", "STRASSE", "die [Straße] dort"),
        ("die Straße dort", "dort", "die Straße [dort]"),
        ("ßßß and ﬁne", "fine", "ßßß and [ﬁne]"),
        ("100% of_it", "% f_", "100[%] o[f_]it"),
        ("a\n\tb", "a b", "[a]\n\t[b]"),
        ("<b>x</b>", "<b>", "[<b>]x</b>"),
    ],
)
def test_what_was_found_is_told_apart(store: SqliteStore, reader: Reader, text: str, words: str, shown: str) -> None:
    run(store, 1, text=text)
    assert [told(hit) for hit in found(reader, words).hits] == [shown]


def test_an_excerpt_is_what_stands_about_the_longest_word(store: SqliteStore, reader: Reader) -> None:
    run(store, 1, text=f"a {'ß ' * 500}needle {'y ' * 500}")
    (hit,) = found(reader, "a needle").hits
    shown = told(hit)
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert "ß [needle] y" in shown
    assert sum(len(piece.text) for piece in hit.excerpt) == EXCERPT_CHARACTERS + 2


@pytest.mark.parametrize("before", [FOLDED_AT_ONCE - 2, FOLDED_AT_ONCE - 1, FOLDED_AT_ONCE, 3 * FOLDED_AT_ONCE])
def test_it_is_told_apart_beyond_any_number_of_characters_that_are_folded_to_several(
    store: SqliteStore, reader: Reader, before: int
) -> None:
    run(store, 1, text="ß" * before + "ﬁne")
    (hit,) = found(reader, "fine").hits
    assert told(hit) == f"…{'ß' * LEAD_CHARACTERS}[ﬁne]"


def test_only_the_characters_about_a_hit_are_gone_through_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_through = list[int]()

    def counted(lengths: Iterable[int]) -> Iterator[int]:
        for each in accumulate(lengths):
            gone_through.append(each)
            yield each

    monkeypatch.setattr(searching, "accumulate", counted)
    text = "ß" + "x" * (100 * FOLDED_AT_ONCE) + "needle"
    pieces = searching._excerpt(text, text.casefold(), ("needle",))
    assert [piece.text for piece in pieces if piece.found] == ["needle"]
    assert len(gone_through) <= FOLDED_AT_ONCE


@given(st.text(), st.text(max_size=20), st.text())
def test_a_word_is_found_wherever_it_stands(before: str, word: str, after: str) -> None:
    text, words = before + word + after, tuple(word.casefold().split())
    if words:
        pieces = searching._excerpt(text, text.casefold(), words)
        marked = "".join(piece.text for piece in pieces if piece.found).casefold()
        assert max(words, key=len) in marked or len(max(words, key=len)) > EXCERPT_CHARACTERS // 2
        assert "".join(piece.text for piece in pieces).strip("…") in text


def test_arguments_are_found_as_they_were_meant_and_so_is_the_tool(store: SqliteStore, reader: Reader) -> None:
    malformed = ToolProposed(ToolCall("b", "files.write", malformed='{"path": oops'))
    run(store, 1, proposed("a", "files.write", text='say "hi"\nnow', lines=[1, "ü"]), malformed)
    (hit,) = found(reader, '"hi"').hits
    assert told(hit) == 'lines=[1, "ü"] text=say ["hi"]\nnow'
    assert len(found(reader, "ü").hits) == 1
    assert len(found(reader, "oops").hits) == 1
    assert [hit.call_id for hit in found(reader, "files.WRITE hi").hits] == ["a"]
    assert [hit.call_id for hit in found(reader, "files.write").hits] == ["b", "a"]


def test_an_output_is_found_whole_where_the_model_was_shown_its_edges(store: SqliteStore, reader: Reader) -> None:
    whole, first, second = b"edge and needle", b"one piece with a needle", b"another with a Needle"
    shown = ToolFinished("a", "edge", 1, output=digest(whole), size_bytes=len(whole))
    kept = [OutputKept("b", digest(each), len(each)) for each in (first, second)]
    commit(store, accepted(1), for_run(1, START, proposed("a"), shown, blobs=[whole]))
    commit(store, for_run(1, proposed("b", "job"), *kept, ToolFinished("b", "one …", 1), blobs=[first, second]))
    hits = found(reader, "needle").hits
    assert [(hit.part, hit.call_id, hit.tool, told(hit)) for hit in hits] == [
        ("result", "b", "job", "another with a [Needle]"),
        ("result", "a", "process.run", "edge and [needle]"),
    ]


def test_why_a_call_was_refused_is_its_result(store: SqliteStore, reader: Reader) -> None:
    events = [
        *(proposed(call_id, "files.write") for call_id in ("a", "b", "c", "d")),
        PolicyDecision("a", "deny", "r", "a needle", "00"),
        PolicyDecision("b", "allow", "r", "no needle", "00"),
        ApprovalDecided("A1", "c", "denied", ALICE, "not this needle"),
        ApprovalDecided("A2", "d", "granted", ALICE, "this needle"),
    ]
    run(store, 1, *events)
    hits = [(hit.part, hit.call_id, hit.tool, told(hit)) for hit in found(reader, "needle").hits]
    assert hits == [
        ("result", "c", "files.write", "not this [needle]"),
        ("result", "a", "files.write", "a [needle]"),
    ]


def test_a_call_id_that_is_used_again_stands_for_the_call_before(store: SqliteStore, reader: Reader) -> None:
    run(store, 1, proposed("a", "one"), ToolFinished("a", "x", 1), proposed("a", "two"), ToolFinished("a", "needle", 1))
    (hit,) = found(reader, "needle").hits
    assert (hit.tool, hit.proposed_seq) == ("two", 5)


# --- what is not ---


def test_what_was_erased_is_not_found(store: SqliteStore, reader: Reader, tmp_path: Path) -> None:
    output = b"the needle is in the output"
    run(store, 1, answer(1, "a needle"), text="nothing")
    commit(store, accepted(2), for_run(2, START, proposed("a", text="needle"), blobs=[output]))
    commit(store, for_run(2, ToolFinished("a", "edges", 1, output=digest(output)), ToolFinished("b", "x", 1), FINISH))
    assert len(found(reader, "needle").hits) == 3
    blot(store, tmp_path, Place("run:" + run_id(1), 3, "text"), ["needle"], ALICE, "", 2000)
    assert found(reader, "needle") == SearchPage((), "")
    (hit,) = found(reader, "edges").hits  # whose call was erased with its arguments
    assert (hit.call_id, hit.tool, hit.proposed_seq) == ("a", "", 0)


def test_only_ones_own_session_is_searched(store: SqliteStore, reader: Reader) -> None:
    run(store, 1, text="needle")
    run(store, 2, text="needle", session=2)
    run(store, 3, text="needle", session=3, principal=BOB)
    assert [hit.run_id for hit in found(reader, "needle").hits] == [run_id(1)]
    with pytest.raises(NotFound):
        found(reader, "needle", session_id(3))
    for place in (
        f"{run_id(2)}:3",
        f"{run_id(3)}:3",
        "x",
        f"{run_id(1)}:x",
        f"{run_id(1)}:{'9' * 30}",
        f"{run_id(1)}:²",
    ):
        with pytest.raises(InvalidArgument, match="no place"):
            found(reader, "needle", before=place)


@pytest.mark.parametrize("text", ["", " \n", "x" * (QUERY_CHARACTERS + 1)])
def test_nothing_and_too_much_are_not_looked_for(store: SqliteStore, reader: Reader, text: str) -> None:
    with pytest.raises(InvalidArgument):
        found(reader, text)


def test_a_session_without_runs_has_nothing(store: SqliteStore, reader: Reader) -> None:
    assert found(reader, "x") == SearchPage((), "")


# --- pages ---


def pages(reader: Reader, text: str, most: int) -> list[SearchPage]:
    read = [found(reader, text, most=most)]
    while read[-1].before:
        read.append(found(reader, text, before=read[-1].before, most=most))
    return read


def test_pages_follow_one_another_without_gap_or_overlap(store: SqliteStore, reader: Reader) -> None:
    for number in range(1, 4):
        run(store, number, *(answer(turn, "needle") for turn in range(1, 6)), text="needle")
    whole = found(reader, "needle", most=100)
    assert (len(whole.hits), whole.before) == (18, "")
    for most in (1, 4, 6, 9, 17):
        read = pages(reader, "needle", most)
        assert [hit for page in read for hit in page.hits] == [*whole.hits]
        assert {len(page.hits) for page in read[:-1]} <= {most}
        assert read[-1].hits  # there is no further page where nothing is left


@pytest.mark.parametrize(
    ("name", "bound"), [("SCAN_ROWS", 1), ("SCAN_ROWS", 7), ("SCAN_BYTES", 1), ("SCAN_BYTES", 900)]
)
def test_the_work_for_one_page_is_bounded_and_all_is_found_in_the_end(
    store: SqliteStore, reader: Reader, monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    for number in range(1, 4):
        run(store, number, *(delta() for _ in range(9)), answer(1, "needle"), answer(2, "hay"))
    whole = found(reader, "needle")
    monkeypatch.setattr(searching, name, bound)
    read = pages(reader, "needle", 100)
    assert len(read) > 2
    assert any(not page.hits for page in read)
    assert [hit for page in read for hit in page.hits] == [*whole.hits]


def test_the_work_is_bounded_over_many_runs_too(
    store: SqliteStore, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        run(store, number, *(delta() for _ in range(11)))  # 14 rows each
    monkeypatch.setattr(searching, "SCAN_ROWS", 20)
    assert found(reader, "needle") == SearchPage((), f"{run_id(2)}:9")
