"""Erase what should never have been recorded: wherever a value stands, the body goes, and the chain still verifies.

A row that holds the value loses its body and salt (docs/tape.md, *Erasing*), a blob that holds it is deleted, and what
lists show of them is blotted out. The file is then written anew, so that the bytes are on no page of it and in no -wal: a
crash before that leaves them to the next time. What is erased is an event of its own; it names rows and blobs, never the
value. Copies elsewhere, and what a disk keeps of overwritten blocks, are beyond this. Both steps are for who writes the
journal, between two batches.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import msgspec

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import Busy, InvalidArgument, NotFound, StateConflict
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.session_events import JobOutput, JobStarted, SessionOpened
from palyra_trio.core.system_events import BodiesErased
from palyra_trio.core.tape import RUN_STREAM, SESSION_STREAM, SYSTEM_STREAM, Input, ModelDelta, ToolOutput
from palyra_trio.journal.guards import Guard
from palyra_trio.journal.projections import title_of
from palyra_trio.journal.store import FILE_NAME, Entry, Store, entry

BLOT = "[redacted:erased]"
_PIECES: Mapping[int, tuple[str, ...]] = {  # what pieces of one text have in common, on one tape
    ModelDelta.kind: ("turn",),
    ToolOutput.kind: ("call_id", "stream"),
    JobOutput.kind: ("job_id", "stream"),
}
_OF_JOBS = frozenset({JobStarted.kind, JobOutput.kind})
_OF_THE_TAPE = frozenset({"ev", "stream", "blob", "erased"})
WAIT_S = 5.0  # for a reader that is in the middle of a page
_ENDED = ", ".join(f"'{state}'" for state in sorted(TERMINAL))


@attrs.frozen
class Place:
    """Where the value was seen: a row, and the path of a field in its body, such as `text` or `call.arguments.url`."""

    stream: str
    seq: int
    field: str


@attrs.frozen
class Erasure:
    """What was erased: so many rows and blobs, and the copies that an upgrade had left, which are deleted."""

    rows: int
    blobs: int
    copies: tuple[str, ...]


@attrs.define
class _Ticket:
    entries: tuple[Entry, ...]
    guards: tuple[Guard, ...] = ()
    blobs: tuple[tuple[str, bytes], ...] = ()


def text_at(state_dir: Path, place: Place) -> str | None:
    """Return the text of the field, None where the row was erased. Raises NotFound for a row that is not there, InvalidArgument."""
    with closing(_open(state_dir, "ro")) as db:
        found = db.execute(
            "SELECT ev.body FROM ev JOIN stream ON stream.id = ev.stream WHERE stream.name = ? AND ev.seq = ?",
            (place.stream, place.seq),
        ).fetchone()
    if found is None:
        raise NotFound(
            f"{place.stream} has no row {place.seq}", remedy="palyra-trio tape RUN --jsonl shows what there is"
        )
    if found[0] is None:
        return None
    texts = dict(_texts(msgspec.json.decode(found[0])))
    if place.field not in texts:
        raise InvalidArgument(
            f"there is no text in a field {place.field!r}", remedy=f"the texts are in {', '.join(texts)}"
        )
    return texts[place.field]


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from _texts(member, f"{path}.{key}" if path else str(key))


@attrs.frozen
class Found:
    """The rows and blobs that hold a value, among those up to row `g` and the blob with the number `blob`."""

    rows: frozenset[int] = frozenset()
    blobs: frozenset[str] = frozenset()
    g: int = 0
    blob: int = 0


def search(state_dir: Path, texts: Sequence[str], parts: Sequence[str] = ()) -> Found:
    """Return what holds one of `texts` or `parts` now, so that `blot` has less to look at. For anybody, at any time."""
    with closing(_open(state_dir, "ro")) as db:
        db.execute("BEGIN")  # all that is looked at is of one moment
        return _search(db, texts, parts, Found())


def blot(
    store: Store,
    state_dir: Path,
    place: Place,
    texts: Sequence[str],
    by: str,
    reason: str,
    at_ms: int,
    *,
    parts: Sequence[str] = (),
    found: Found = Found(),
) -> tuple[Erasure, tuple[TapeRow, ...]]:
    """Erase every row and blob that holds one of `texts` (the value, as itself and in other spellings) or of `parts`.

    `parts` are pieces of it, for where it was cut; `found` is what a search found that was made before. Returns what went, and the row that says so if anything did; `clear`
    must follow. Raises StateConflict where a run that has not ended holds it, or goes on from one that does, and
    InvalidArgument.
    """
    with closing(_open(state_dir, "rw")) as db:
        needles = _needles((*texts, *parts))
        found = _search(db, texts, parts, found)
        blobs = sorted(found.blobs)
        rows = sorted(found.rows.union(_of_titles(db, found.rows)))
        if any(needle in text.encode() for text in (reason, place.field) for needle in needles):
            raise InvalidArgument("the reason would record the value again", remedy="give another")
        _refuse_live(db, rows)
        _blot_titles(db, rows)
        _blot_out(db, needles, _needles(texts))
        written: tuple[TapeRow, ...] = ()
        if rows or blobs:
            event = BodiesErased(tuple(rows), tuple(blobs), place.stream, place.seq, place.field, by, reason)
            (outcome,) = store.append_batch([_Ticket((entry(SYSTEM_STREAM, event),))], at_ms)
            if isinstance(outcome, Exception):
                raise outcome
            written = outcome
        copies = sorted(state_dir.glob(f"{FILE_NAME}.before-v*"))
        for copy in copies:
            copy.unlink()
    return Erasure(len(rows), len(blobs), tuple(copy.name for copy in copies)), written


def _open(state_dir: Path, mode: str) -> sqlite3.Connection:
    path = state_dir / FILE_NAME
    if not path.exists():
        raise NotFound(f"there is no journal at {path}: nothing has run yet")
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=WAIT_S)


def _needles(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Return how the texts are written in a body: as they are, as JSON, and as JSON inside JSON; the longest first."""
    needles = set()
    for text in texts:
        for _ in range(3):
            needles.add(text.encode())
            text = msgspec.json.encode(text).decode()[1:-1]
    return tuple(sorted(needles, key=len, reverse=True))


def _search(db: sqlite3.Connection, texts: Sequence[str], parts: Sequence[str], before: Found) -> Found:
    """Return what was found before, as far as it is still there, and what has come since."""
    needles = _needles((*texts, *parts))
    rows = before.rows.union(_rows(db, needles, _needles(texts), before.g))
    blobs = before.blobs.union(_blobs(db, needles, before))
    (g,) = db.execute("SELECT coalesce(max(g), 0) FROM ev").fetchone()
    (blob,) = db.execute("SELECT coalesce(max(rowid), 0) FROM blob").fetchone()
    whole = (row for row in rows if db.execute("SELECT body IS NOT NULL FROM ev WHERE g = ?", (row,)).fetchone()[0])
    there = (
        each
        for each in blobs
        if db.execute("SELECT 1 FROM blob WHERE digest = ?", (bytes.fromhex(each),)).fetchone() is not None
    )
    return Found(frozenset(whole), frozenset(there), g, blob)


def _rows(db: sqlite3.Connection, needles: Sequence[bytes], whole: Sequence[bytes], after: int) -> Iterator[int]:
    """Yield which rows hold a needle; a text that arrived in pieces is looked for in those that belong together."""
    any_of = " OR ".join(["instr(body, ?)"] * len(needles))
    for (g,) in db.execute(f"SELECT g FROM ev WHERE g > ? AND body IS NOT NULL AND ({any_of})", (after, *needles)):
        yield g
    for of_one_text in _in_pieces(db, after):
        joined = "".join(text for text, _ in of_one_text).encode()
        if any(needle in joined for needle in whole):
            yield from (g for _, g in of_one_text)


_SINCE = "stream IN (SELECT DISTINCT stream FROM ev WHERE g > ?)"


def _in_pieces(db: sqlite3.Connection, after: int) -> Iterator[list[tuple[str, int]]]:
    """Yield of each text that lies in pieces on a tape that went on after a row the pieces, in order, and their rows."""
    kinds = ", ".join(str(kind) for kind in _PIECES)
    found = db.execute(
        f"SELECT stream, kind, body, g FROM ev WHERE kind IN ({kinds}) AND body IS NOT NULL AND {_SINCE} ORDER BY stream, seq",
        (after,),
    )
    for _, rows in groupby(found, key=lambda row: row[0]):
        texts: dict[tuple[Any, ...], list[tuple[str, int]]] = {}
        for _, kind, body, g in rows:
            event = msgspec.json.decode(body)
            texts.setdefault((kind, *(event[field] for field in _PIECES[kind])), []).append((event["text"], g))
        yield from texts.values()


def _of_titles(db: sqlite3.Connection, rows: Collection[int]) -> Iterator[int]:
    """Yield the rows of the sessions whose title is the beginning of an input among `rows`."""
    for event in _inputs(db, rows):
        for g, body in db.execute(
            "SELECT g, body FROM ev WHERE kind = ? AND body IS NOT NULL AND stream = (SELECT id FROM stream WHERE name = ?)",
            (SessionOpened.kind, SESSION_STREAM + event["session_id"]),
        ):
            if msgspec.json.decode(body)["title"] == title_of(event["text"]):
                yield g


def _blot_titles(db: sqlite3.Connection, rows: Sequence[int]) -> None:
    for event in _inputs(db, rows):
        title, session_id = title_of(event["text"]), event["session_id"]
        for table in ("run", "session"):
            db.execute(f"UPDATE {table} SET title = ? WHERE session_id = ? AND title = ?", (BLOT, session_id, title))


def _inputs(db: sqlite3.Connection, rows: Collection[int]) -> Iterator[dict[str, Any]]:
    for g in rows:
        found = db.execute("SELECT body FROM ev WHERE g = ? AND kind = ?", (g, Input.kind)).fetchone()
        if found is not None:
            yield msgspec.json.decode(found[0])


def _blobs(db: sqlite3.Connection, needles: Sequence[bytes], before: Found) -> Iterator[str]:
    any_of = " OR ".join(["instr(body, ?)"] * len(needles))
    for (digest,) in db.execute(f"SELECT digest FROM blob WHERE rowid > ? AND ({any_of})", (before.blob, *needles)):
        yield digest.hex()
    yield from _across_pieces(db, needles, before.g)


def _across_pieces(db: sqlite3.Connection, needles: Sequence[bytes], after: int) -> Iterator[str]:
    """Yield the blobs of two pieces of an output in a row where a needle begins in one and ends in the other."""
    reach = max(map(len, needles)) - 1
    bodies = db.execute(
        f"SELECT stream, body FROM ev WHERE kind = ? AND body IS NOT NULL AND {_SINCE} ORDER BY stream, seq",
        (OutputKept.kind, after),
    )
    ends: dict[tuple[int, str], tuple[str, bytes]] = {}
    for stream, body in bodies.fetchall():
        event = msgspec.json.decode(body)
        digest, call = event["output"], (stream, event["call_id"])
        edges = db.execute(
            "SELECT substr(body, 1, ?1), substr(body, -?1) FROM blob WHERE digest = ?2", (reach, bytes.fromhex(digest))
        ).fetchone()
        if edges is None:
            continue  # it was erased
        before, end = ends.get(call, (digest, b""))
        if any(needle in end + edges[0] for needle in needles):
            yield from (before, digest)
        ends[call] = digest, edges[1]


def _refuse_live(db: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Raise StateConflict for a run or job that has not ended and holds a row, or a run that goes on from one that does."""
    live = db.execute(f"SELECT run_id, session_id, state FROM run WHERE state NOT IN ({_ENDED})").fetchall()
    jobs = {job_id for (job_id,) in db.execute("SELECT job_id FROM job WHERE ended_ms IS NULL")}
    for g in rows:
        kind, body = db.execute("SELECT kind, body FROM ev WHERE g = ?", (g,)).fetchone()
        if kind in _OF_JOBS and (job_id := msgspec.json.decode(body)["job_id"]) in jobs:
            raise StateConflict(f"job {job_id} holds it and has not ended", remedy="stop it first")
        (stream,) = db.execute("SELECT name FROM stream JOIN ev ON ev.stream = stream.id WHERE g = ?", (g,)).fetchone()
        holder = stream.removeprefix(RUN_STREAM)
        found = db.execute("SELECT session_id FROM run WHERE run_id = ?", (holder,)).fetchone()
        for run_id, session_id, state in live:
            remedy = f"palyra-trio runs cancel {run_id}"
            if run_id == holder:
                raise StateConflict(f"run {run_id} holds it and has not ended", remedy=remedy)
            if found == (session_id,) and state != RunState.QUEUED:
                raise StateConflict(f"run {run_id} goes on from run {holder}, which holds it", remedy=remedy)


def _blot_out(db: sqlite3.Connection, needles: Sequence[bytes], whole: Sequence[bytes]) -> None:
    """Take the value out of what is derived from the tape: of a text nothing stays, of an object the value goes."""
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in tables:
        if table in _OF_THE_TAPE or table.startswith(("sqlite_", "_sqlite")):
            continue
        for _, column, kind, required, _, is_key in db.execute(f"PRAGMA table_info({table})").fetchall():
            if kind == "TEXT" and not is_key:
                for needle in needles:
                    db.execute(
                        f'UPDATE "{table}" SET "{column}" = ? WHERE instr("{column}", ?)',
                        (BLOT if required else None, needle.decode()),
                    )
            elif kind == "BLOB":
                for needle in whole:
                    db.execute(
                        f'UPDATE "{table}" SET "{column}" = CAST(replace(CAST("{column}" AS TEXT), ?, ?) AS BLOB)'
                        f' WHERE instr("{column}", ?)',
                        (needle.decode(), BLOT, needle),
                    )


def clear(state_dir: Path) -> None:
    """Write the file anew without what was freed, and empty the -wal.

    Takes as much room again as the journal has. Raises Busy where a reader keeps the last bytes from being overwritten
    for WAIT_S: then do it again.
    """
    with closing(_open(state_dir, "rw")) as db:
        try:
            db.execute("VACUUM")
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            raise Busy(
                f"the journal cannot be rebuilt: {error}", remedy="make room or wait for its readers, and erase again"
            ) from error
    if busy:
        raise Busy(
            "a reader keeps the erased bytes in the journal's -wal", remedy="wait for it to end, and erase again"
        )
