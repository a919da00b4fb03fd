"""Erase what should never have been recorded: wherever a value stands, the body goes, and the chain still verifies.

A row that holds the value loses its body and salt (docs/tape.md, *Erasing*), a blob that holds it is deleted, and what
lists show of them is blotted out. The file is then rebuilt, so that the bytes are on no page of it and in no -wal. What
is erased is an event of its own; it names rows and blobs, never the value. Copies elsewhere, and what a disk keeps of
overwritten blocks, are beyond this.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import msgspec

from palyra_trio.core.errors import Busy, InvalidArgument, NotFound, StateConflict
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.session_events import SessionOpened
from palyra_trio.core.system_events import BodiesErased
from palyra_trio.core.tape import RUN_STREAM, SESSION_STREAM, SYSTEM_STREAM, Input, ModelDelta
from palyra_trio.journal.guards import Guard
from palyra_trio.journal.projections import title_of
from palyra_trio.journal.store import FILE_NAME, Entry, SqliteStore, entry

BLOT = "[redacted:erased]"
_OF_THE_TAPE = frozenset({"ev", "stream", "blob", "erased"})
_WAIT_S = 5.0  # for a reader that is in the middle of a page
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


def erase(
    state_dir: Path, place: Place, texts: Sequence[str], by: str, reason: str, at_ms: int, *, parts: Sequence[str] = ()
) -> Erasure:
    """Erase every row and blob that holds one of `texts` (the value, as itself and in other spellings) or of `parts`.

    `parts` are pieces of it, for where it was cut. Holds the state directory meanwhile. A crash leaves the value where it
    was, or erased and perhaps still on pages that `rebuild` clears. Raises StateLocked while a process runs there,
    StateConflict where a run that has not ended holds it, and what `rebuild` raises.
    """
    with SqliteStore(state_dir) as store, closing(_open(state_dir, "rw")) as db:
        needles = _needles((*texts, *parts))
        rows, blobs = _rows(db, needles, texts), _blobs(db, needles)
        rows = sorted({*rows, *_of_titles(db, rows)})
        if any(needle in text.encode() for text in (reason, place.field) for needle in needles):
            raise InvalidArgument("the reason would record the value again", remedy="give another")
        _refuse_live(db, rows)
        _blot_titles(db, rows)
        _blot_out(db, needles, _needles(texts))
        if rows or blobs:
            event = BodiesErased(tuple(rows), tuple(blobs), place.stream, place.seq, place.field, by, reason)
            (outcome,) = store.append_batch([_Ticket((entry(SYSTEM_STREAM, event),))], at_ms)
            if isinstance(outcome, Exception):
                raise outcome
        copies = sorted(state_dir.glob(f"{FILE_NAME}.before-v*"))
        for copy in copies:
            copy.unlink()
        _rebuild(db)  # even where nothing was found: an earlier deletion may have left it on a page
    return Erasure(len(rows), len(blobs), tuple(copy.name for copy in copies))


def rebuild(state_dir: Path) -> None:
    """Write the journal anew without what was erased, as `erase` does at its end.

    Raises StateLocked, and Busy where a reader keeps the last bytes from being overwritten: then do it again.
    """
    with SqliteStore(state_dir), closing(_open(state_dir, "rw")) as db:
        _rebuild(db)


def _open(state_dir: Path, mode: str) -> sqlite3.Connection:
    path = state_dir / FILE_NAME
    if not path.exists():
        raise NotFound(f"there is no journal at {path}: nothing has run yet")
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=_WAIT_S)


def _needles(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Return how the texts are written in a body: as they are, as JSON, and as JSON inside JSON; the longest first."""
    needles = set()
    for text in texts:
        for _ in range(3):
            needles.add(text.encode())
            text = msgspec.json.encode(text).decode()[1:-1]
    return tuple(sorted(needles, key=len, reverse=True))


def _rows(db: sqlite3.Connection, needles: Sequence[bytes], texts: Sequence[str]) -> list[int]:
    """Return which rows hold a needle; a text that arrived in pieces is looked for in the pieces of each turn together."""
    any_of = " OR ".join(["instr(body, ?)"] * len(needles))
    rows = {g for (g,) in db.execute(f"SELECT g FROM ev WHERE body IS NOT NULL AND ({any_of})", needles)}
    pieces = db.execute(
        "SELECT stream, body, g FROM ev WHERE kind = ? AND body IS NOT NULL ORDER BY stream, seq", (ModelDelta.kind,)
    )
    decoded = ((stream, msgspec.json.decode(body), g) for stream, body, g in pieces)
    for _, turn in groupby(decoded, key=lambda piece: (piece[0], piece[1]["turn"])):
        of_turn = [(body["text"], g) for _, body, g in turn]
        whole = "".join(text for text, _ in of_turn).encode()
        if any(needle in whole for needle in _needles(texts)):
            rows |= {g for _, g in of_turn}
    return sorted(rows)


def _of_titles(db: sqlite3.Connection, rows: Sequence[int]) -> Iterator[int]:
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


def _inputs(db: sqlite3.Connection, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    for g in rows:
        found = db.execute("SELECT body FROM ev WHERE g = ? AND kind = ?", (g, Input.kind)).fetchone()
        if found is not None:
            yield msgspec.json.decode(found[0])


def _blobs(db: sqlite3.Connection, needles: Sequence[bytes]) -> list[str]:
    any_of = " OR ".join(["instr(body, ?)"] * len(needles))
    return sorted(digest.hex() for (digest,) in db.execute(f"SELECT digest FROM blob WHERE {any_of}", needles))


def _refuse_live(db: sqlite3.Connection, rows: Sequence[int]) -> None:
    live = {
        f"{RUN_STREAM}{run_id}" for (run_id,) in db.execute(f"SELECT run_id FROM run WHERE state NOT IN ({_ENDED})")
    }
    for g in rows:
        (stream,) = db.execute("SELECT name FROM stream JOIN ev ON ev.stream = stream.id WHERE g = ?", (g,)).fetchone()
        if stream in live:
            run_id = stream.removeprefix(RUN_STREAM)
            raise StateConflict(f"run {run_id} holds it and has not ended", remedy=f"palyra-trio runs cancel {run_id}")


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


def _rebuild(db: sqlite3.Connection) -> None:
    """Write the file anew, without what was freed, and empty the -wal. Takes as much room again as the journal has."""
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
