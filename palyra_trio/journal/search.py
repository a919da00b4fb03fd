"""Finding what was said in a session: by the person, by the model, to its tools and by them, the newest first.

A text is found where every word of the query occurs in it, each anywhere and in any case (Unicode casefolding, and nothing
else is folded). A call is found by its tool's name too. What was erased is not there, an answer is once its turn has
ended, and what a program wrote is looked through by the pieces in which it was kept. Jobs have a place of their own.

Nothing is kept for this: who asks pays for what is read. That is bounded for each page, so a page may hold few hits, or
none, and yet have a next one.
"""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, groupby
from typing import Literal

import attrs

from palyra_trio.core.codec import decode
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import RunId
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.tape import (
    RUN_STREAM,
    ApprovalDecided,
    Input,
    ModelTurn,
    PolicyDecision,
    TapeEvent,
    ToolFinished,
    ToolProposed,
)

HITS = 20
SCAN_ROWS = 50_000  # of tapes, for one page
SCAN_BYTES = 8 * 1024 * 1024  # of what was said; what a call wrote may go beyond it, by a piece
QUERY_CHARACTERS = 200
EXCERPT_CHARACTERS = 240
LEAD_CHARACTERS = 40  # of an excerpt, before what was found
FOLDED_AT_ONCE = 4096  # characters; only those of one block are gone through one by one

Part = Literal["prompt", "answer", "call", "result"]
_LOOKED_AT = ", ".join(
    str(each.kind)
    for each in (Input, ModelTurn, ToolProposed, PolicyDecision, ApprovalDecided, ToolFinished, OutputKept)
)


@attrs.frozen
class Piece:
    """A piece of an excerpt: one of the words, or what stands between them."""

    text: str
    found: bool


@attrs.frozen
class Hit:
    """A text that has all the words: what was asked, an answer, the arguments of a call, or its result.

    What a call that was refused came to is the reason.

    `seq` is the row's in the tape of the run. `turn` is an answer's, 0 for all else. A call and a result name the call and
    its tool, and `proposed_seq` is where the model proposed it; these are empty and 0 where that was erased.
    """

    run_id: RunId
    seq: int
    at_ms: int
    part: Part
    excerpt: tuple[Piece, ...]
    turn: int = 0
    call_id: str = ""
    tool: str = ""
    proposed_seq: int = 0


@attrs.frozen
class SearchPage:
    """Hits, newest first. The next page is that `before` this; "" when there is none."""

    hits: tuple[Hit, ...]
    before: str


def search(db: sqlite3.Connection, session_id: str, text: str, before: str = "", most: int = HITS) -> SearchPage:
    """Return where all words of `text` were said in a session: run by run, as they were accepted, the last words first.

    At most `most` hits, and what is found in the next 50,000 rows and about 8 MiB. Of one call's result a page holds one hit.
    Raises InvalidArgument for a text without words or of more than 200 characters, and for another `before`.
    """
    words = _words(text)
    hits: list[Hit] = []
    rows, size = SCAN_ROWS, SCAN_BYTES
    for run_id, stream, top in _tapes(db, session_id, before):
        floor = max(1, top - rows)
        results = set[str]()
        for seq, kind, at_ms, body in db.execute(
            "SELECT seq, kind, at_ms, body FROM ev WHERE stream = ? AND seq >= ? AND seq < ?"
            f" AND kind IN ({_LOOKED_AT}) AND body IS NOT NULL ORDER BY seq DESC",
            (stream, floor, top),
        ):
            said = _said(db, decode(kind, body))
            size -= len(body) + len(said.text)
            folded = said.text.casefold()
            again = said.part == "result" and said.call_id in results
            if not again and all(word in folded or word in said.tool.casefold() for word in words):
                hit = Hit(run_id, seq, at_ms, said.part, _excerpt(said.text, folded, words), said.turn, said.call_id)
                hits.append(_of_call(db, stream, hit) if hit.call_id else hit)
                if said.part == "result":
                    results.add(said.call_id)
            if len(hits) > most:
                return SearchPage(tuple(hits[:most]), f"{hits[most - 1].run_id}:{hits[most - 1].seq}")
            if size <= 0:
                return SearchPage(tuple(hits), f"{run_id}:{seq}")
        rows -= top - floor
        if floor > 1:
            return SearchPage(tuple(hits), f"{run_id}:{floor}")
    return SearchPage(tuple(hits), "")


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(text.casefold().split()))
    if not words or len(text) > QUERY_CHARACTERS:
        raise InvalidArgument(
            "there is nothing to look for" if not words else f"that is more than {QUERY_CHARACTERS} characters",
            remedy="pass a few words",
        )
    return words


def _tapes(db: sqlite3.Connection, session_id: str, before: str) -> Iterator[tuple[RunId, int, int]]:
    """Yield the session's runs, newest first, each with the number of its tape and the seq that all to look at is below."""
    newest, _, seq = before.partition(":")
    where, values = "session_id = ?", (session_id,)
    if before:
        found = db.execute("SELECT rowid FROM run WHERE run_id = ? AND session_id = ?", (newest, session_id)).fetchone()
        if found is None or not (seq.isascii() and seq.isdigit() and len(seq) < 16):
            raise InvalidArgument(f"{before!r} is no place in this list", remedy="pass what the page before ended with")
        where += f" AND rowid <= {int(found[0])}"
    for (run_id,) in db.execute(f"SELECT run_id FROM run WHERE {where} ORDER BY rowid DESC", values):
        stream, last = db.execute(
            "SELECT stream, max(seq) FROM ev WHERE stream = (SELECT id FROM stream WHERE name = ?)",
            (RUN_STREAM + run_id,),
        ).fetchone()
        yield run_id, stream, int(seq) if run_id == newest else last + 1


@attrs.frozen
class _Said:
    """A text of the tape, "" where an event has none. `tool` is found like a part of it."""

    part: Part
    text: str
    turn: int = 0
    call_id: str = ""
    tool: str = ""


def _said(db: sqlite3.Connection, event: TapeEvent | None) -> _Said:
    match event:
        case ModelTurn(turn, text):
            return _Said("answer", text, turn)
        case ToolProposed(call):
            named = (f"{name}={_plain(value)}" for name, value in call.arguments.items())
            return _Said("call", call.malformed or " ".join(named), 0, call.call_id, call.tool)
        case ToolFinished():
            whole = _blob(db, event.output) if event.output is not None else None
            return _Said("result", event.text if whole is None else whole, 0, event.call_id)
        case OutputKept(call_id, output):
            return _Said("result", _blob(db, output) or "", 0, call_id)
        case PolicyDecision(call_id, "deny", _, reason):
            return _Said("result", reason, 0, call_id)
        case ApprovalDecided(_, call_id, outcome, _, reason) if outcome != "granted":
            return _Said("result", reason, 0, call_id)
        case Input():
            return _Said("prompt", event.text)
        case _:
            return _Said("result", "")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _blob(db: sqlite3.Connection, digest: str) -> str | None:
    found = db.execute("SELECT body FROM blob WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
    return None if found is None else str(found[0], "utf-8", "replace")


def _of_call(db: sqlite3.Connection, stream: int, hit: Hit) -> Hit:
    """Return the hit with what its call was proposed as, at or before it."""
    for seq, body in db.execute(
        "SELECT seq, body FROM ev WHERE stream = ? AND seq <= ? AND seq > ? AND kind = ? AND body IS NOT NULL"
        " ORDER BY seq DESC",
        (stream, hit.seq, hit.seq - SCAN_ROWS, ToolProposed.kind),
    ):
        event = decode(ToolProposed.kind, body)
        if isinstance(event, ToolProposed) and event.call.call_id == hit.call_id:
            return attrs.evolve(hit, tool=event.call.tool, proposed_seq=seq)
    return hit


def _excerpt(text: str, folded: str, words: tuple[str, ...]) -> tuple[Piece, ...]:
    """Return what stands about the longest of the words that are in the text, with all of them told apart."""
    at = folded.find(max((word for word in words if word in folded), key=len, default=""))
    if len(folded) != len(text):  # some characters are folded to several
        at = _origin(text, at)
    begin = max(0, at - LEAD_CHARACTERS)
    end = begin + EXCERPT_CHARACTERS
    pieces = _pieces(text[begin:end], words)
    return (
        *((Piece("…", found=False),) if begin else ()),
        *pieces,
        *((Piece("…", found=False),) if end < len(text) else ()),
    )


def _origin(text: str, at: int) -> int:
    """Return which character of the text is folded to what stands at a place of the folded text."""
    for begin in range(0, len(text), FOLDED_AT_ONCE):
        block = text[begin : begin + FOLDED_AT_ONCE]
        size = len(block.casefold())
        if at < size:
            return begin + bisect_right([*accumulate(len(each.casefold()) for each in block)], at)
        at -= size
    return len(text)


def _pieces(text: str, words: tuple[str, ...]) -> Iterator[Piece]:
    origin = [place for place, each in enumerate(text) for _ in each.casefold()]
    folded = text.casefold()
    found = set[int]()
    for word in words:
        at = folded.find(word)
        while at >= 0:
            found.update(origin[at : at + len(word)])
            at = folded.find(word, at + 1)
    for told, places in groupby(range(len(text)), found.__contains__):
        yield Piece("".join(text[place] for place in places), told)
