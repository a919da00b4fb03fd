"""Reading the journal: the tape in pages, and the projections. Read-only, beside the writer or without one.

`Reader` is sync and owns one read-only connection; `reader_pool` lends readers to tasks.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import attrs
import msgspec

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.chain import ChainRow
from palyra_trio.core.codec import TapeRow, decode
from palyra_trio.core.errors import Ambiguous, InvalidArgument, JournalInvalid, NotFound
from palyra_trio.core.identity import ULID_LENGTH, Principal, RunId, SessionId
from palyra_trio.core.run import LIVE, TERMINAL, RunState
from palyra_trio.core.session import Session
from palyra_trio.core.system_events import AdmissionPaused
from palyra_trio.core.tape import CancelRequested, ModelDelta, run_stream
from palyra_trio.core.tokens import Token
from palyra_trio.journal.approvals import Approvals
from palyra_trio.journal.guards import PAUSED, POLICY
from palyra_trio.journal.jobs import Jobs
from palyra_trio.journal.search import HITS, SearchPage, search
from palyra_trio.journal.tokens import find_token, list_tokens
from palyra_trio.journal.usage import RecentPage, Used, recent_events, used

PAGE_ROWS = 1000
PAGE_BYTES = 2 * 1024 * 1024
LIST_ROWS = 500

T = TypeVar("T")


@attrs.frozen
class RunSummary:
    """A run as lists show it. `boot_id` names the process that ran it last."""

    run_id: RunId
    session_id: SessionId
    principal: Principal
    agent: str
    workspace: str
    title: str
    state: RunState
    reason: str
    boot_id: str
    created_ms: int
    updated_ms: int


_LIVE = ", ".join(f"'{state}'" for state in sorted(LIVE))
_ENDED = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
_WORD = "iif(state = 'waiting' AND reason = 'interrupted', 'interrupted', state)"
_RUN = "run_id, session_id, principal, agent, workspace, title, state, reason, boot_id, created_ms, updated_ms"
_SESSION = "session_id, principal, key, title, created_ms, archived_ms"
_ROW = "ev.g, stream.name, ev.seq, ev.kind, ev.at_ms, ev.body, ev.hash"


class Tapes(Protocol):
    """Where tapes can be read: a journal here, or one elsewhere."""

    def page(self, stream: str, after_seq: int, most: int = PAGE_ROWS) -> tuple[TapeRow, ...]: ...

    def tape(self, stream: str, *, deltas: bool = True) -> Iterator[TapeRow]: ...

    def last_seq(self, stream: str) -> int: ...


class Reader:
    """Read-only access to a journal file. Raises JournalInvalid when there is none that can be read."""

    def __init__(self, path: Path, *, immutable: bool = False) -> None:
        if not path.exists():
            raise JournalInvalid(f"{path} does not exist", remedy="nothing has run yet in this state directory")
        uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
        try:
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
            self._db.execute("SELECT 1 FROM ev LIMIT 1")
        except sqlite3.Error as error:
            raise JournalInvalid(f"{path} cannot be read: {error}") from error

    def close(self) -> None:
        self._db.close()

    def policy_hash(self) -> str:
        """Return the hash of the policies that were put in force last, "" before the first."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (POLICY,)).fetchone()
        return str(found[0]) if found is not None else ""

    def admission_paused(self) -> AdmissionPaused | None:
        """Return the event by which new runs are not taken, if they are not."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (PAUSED,)).fetchone()
        event = decode(AdmissionPaused.kind, found[0].encode()) if found is not None else None
        return event if isinstance(event, AdmissionPaused) else None

    @property
    def approvals(self) -> Approvals:
        return Approvals(self._db)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self._db)

    # --- the tape ---

    def page(self, stream: str, after_seq: int, most: int = PAGE_ROWS) -> tuple[TapeRow, ...]:
        """Return the next rows of a stream, at most `most` and about 2 MiB, in order; empty at the end."""
        found = self._db.execute(
            "SELECT g, ?1, seq, kind, at_ms, body, hash FROM ev"
            " WHERE stream = (SELECT id FROM stream WHERE name = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3",
            (stream, after_seq, most),
        )
        rows, size = [], 0
        for row in map(TapeRow._make, found):
            rows.append(row)
            size += len(row.body or b"")
            if size > PAGE_BYTES:
                break
        return tuple(rows)

    def tape(self, stream: str, *, deltas: bool = True) -> Iterator[TapeRow]:
        """Yield all rows of a stream, in order; without `deltas` the streamed pieces of text are left out."""
        leave_out = -1 if deltas else ModelDelta.kind
        for row in self._db.execute(
            f"SELECT {_ROW} FROM ev JOIN stream ON stream.id = ev.stream"
            " WHERE stream.name = ? AND ev.kind IS NOT ? ORDER BY ev.seq",
            (stream, leave_out),
        ):
            yield TapeRow(*row)

    def newest(self, stream: str, kind: int, most: int) -> tuple[TapeRow, ...]:
        """Return the rows of one kind on a stream, newest first."""
        rows = self._db.execute(
            f"SELECT {_ROW} FROM ev JOIN stream ON stream.id = ev.stream"
            " WHERE stream.name = ? AND ev.kind = ? ORDER BY ev.seq DESC LIMIT ?",
            (stream, kind, most),
        )
        return tuple(TapeRow(*row) for row in rows)

    def last_seq(self, stream: str) -> int:
        (seq,) = self._db.execute(
            "SELECT coalesce(max(ev.seq), 0) FROM ev JOIN stream ON stream.id = ev.stream WHERE stream.name = ?",
            (stream,),
        ).fetchone()
        return int(seq)

    def whole_after(self, stream: str, seq: int) -> int | None:
        """Return the first row after `seq` whose body was not erased, None where there is none."""
        found = self._db.execute(
            "SELECT ev.seq FROM ev JOIN stream ON stream.id = ev.stream"
            " WHERE stream.name = ? AND ev.seq > ? AND ev.body IS NOT NULL ORDER BY ev.seq LIMIT 1",
            (stream, seq),
        ).fetchone()
        return int(found[0]) if found else None

    def blob(self, digest: str) -> bytes:
        """Return the bytes with this SHA-256. Raises NotFound."""
        found = self._db.execute("SELECT body FROM blob WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
        if found is None:
            raise NotFound(f"there is no blob {digest}")
        return bytes(found[0])

    # --- runs ---

    def run(self, run_id: str) -> RunSummary | None:
        return next(self._runs("run_id = ?", (run_id,), 1), None)

    def find_run(self, text: str, principal: Principal) -> RunSummary:
        """Return the run that `text` means: `last`, an id, or the unique beginning of one.

        Raises NotFound, or Ambiguous listing some of those that fit.
        """
        if text == "last":
            found = list(self._runs("principal = ?", (principal,), 1))
        elif len(text) == ULID_LENGTH:
            found = list(self._runs("run_id = ? AND principal = ?", (text.upper(), principal), 1))
        else:
            _check_prefix(text, "run")
            found = list(self._runs("principal = ? AND run_id GLOB ?", (principal, f"{text.upper()}*"), 3))
        return _only(found, text, "run", lambda run: run.run_id)

    def runs(
        self,
        principal: Principal,
        *,
        session_id: str | None = None,
        states: Iterable[RunState] = (),
        words: Iterable[str] = (),
        before: str = "",
        most: int = LIST_ROWS,
    ) -> tuple[RunSummary, ...]:
        """Return a principal's runs, newest first, of one session or in some states only where those are given.

        `words` are states as lists tell them: `interrupted` is one of them, and no such run is `waiting`.
        With `before`, a run of the principal's, only those that were accepted before it. Raises InvalidArgument for
        another one.
        """
        where, values = "principal = ?", [str(principal)]
        if before:
            where += f" AND rowid < {self._place('run', before, principal)}"
        if session_id is not None:
            where, values = f"{where} AND session_id = ?", [*values, session_id]
        if wanted := [str(state) for state in states]:
            where, values = f"{where} AND state IN ({', '.join('?' * len(wanted))})", values + wanted
        if told := [str(word) for word in words]:
            where, values = f"{where} AND {_WORD} IN ({', '.join('?' * len(told))})", values + told
        return tuple(self._runs(where, tuple(values), most))

    def left_live(self, boot_id: str) -> tuple[RunSummary, ...]:
        """Return the runs that are live by the journal in a process other than `boot_id`, and not marked as interrupted."""
        return tuple(self._runs(f"state IN ({_LIVE}) AND reason != 'interrupted' AND boot_id != ?", (boot_id,), -1))

    def queued(self) -> tuple[tuple[RunId, SessionId], ...]:
        """Return the runs that wait in line, and their sessions, in the order of their acceptance."""
        rows = self._db.execute("SELECT run_id, session_id FROM run WHERE state = 'queued' ORDER BY rowid")
        return tuple((RunId(run_id), SessionId(session_id)) for run_id, session_id in rows)

    def cancel_request(self, run_id: str) -> CancelRequested | None:
        """Return who asked a run to be cancelled, if anybody did."""
        rows = self._db.execute(
            f"SELECT {_ROW} FROM ev JOIN stream ON stream.id = ev.stream WHERE stream.name = ? AND ev.kind = ? LIMIT 1",
            (run_stream(run_id), CancelRequested.kind),
        )
        found = [TapeRow(*row).event() for row in rows]
        return found[0] if found and isinstance(found[0], CancelRequested) else None

    def live_run(self, session_id: str) -> RunSummary | None:
        return next(self._runs(f"session_id = ? AND state IN ({_LIVE})", (session_id,), 1), None)

    def earlier_runs(self, session_id: str, run_id: str) -> tuple[str, ...]:
        """Return the ids of the session's runs that ended and were accepted before this one, newest first."""
        rows = self._db.execute(
            f"SELECT run_id FROM run WHERE session_id = ? AND state IN ({_ENDED})"
            " AND rowid < (SELECT rowid FROM run WHERE run_id = ?) ORDER BY rowid DESC",
            (session_id, run_id),
        )
        return tuple(row[0] for row in rows)

    def _runs(self, where: str, values: tuple[str, ...], most: int) -> Iterator[RunSummary]:
        for row in self._db.execute(
            f"SELECT {_RUN} FROM run WHERE {where} ORDER BY rowid DESC LIMIT ?", (*values, most)
        ):
            run = RunSummary(*row)
            yield attrs.evolve(run, state=RunState(run.state))

    # --- sessions and agents ---

    def session(self, session_id: str) -> Session | None:
        return next(self._sessions("session_id = ?", (session_id,), 1), None)

    def session_by_key(self, principal: str, key: str) -> Session | None:
        return next(self._sessions("principal = ? AND key = ?", (principal, key), 1), None)

    def find_session(self, text: str, principal: Principal) -> Session:
        """Return the session that `text` means: `last`, a key, an id, or the unique beginning of one."""
        if text == "last":
            last = self.runs(principal, most=1)
            found = [self.session(last[0].session_id)] if last else []
        elif by_key := self.session_by_key(principal, text):
            found = [by_key]
        else:
            _check_prefix(text, "session")
            found = [*self._sessions("principal = ? AND session_id GLOB ?", (principal, f"{text.upper()}*"), 3)]
        return _only([each for each in found if each is not None], text, "session", lambda session: session.session_id)

    def sessions(
        self,
        principal: Principal,
        *,
        archived: bool = False,
        before: str = "",
        containing: str = "",
        most: int = LIST_ROWS,
    ) -> tuple[Session, ...]:
        """Return a principal's sessions, newest first; with `before`, one of them, only those that are older than it.

        With `containing`, only those that have it in their title or in what a run of theirs is called.
        """
        older = f"AND rowid < {self._place('session', before, principal)}" if before else ""
        where = (
            f"principal = ?1 AND (?2 OR archived_ms IS NULL) {older}"
            " AND (?3 = '' OR instr(lower(title), lower(?3)) OR EXISTS (SELECT 1 FROM run"
            "   WHERE run.session_id = session.session_id AND instr(lower(run.title), lower(?3))))"
        )
        return tuple(self._sessions(where, (principal, archived, containing), most))

    def _sessions(self, where: str, values: tuple[str | bool, ...], most: int) -> Iterator[Session]:
        for row in self._db.execute(
            f"SELECT {_SESSION} FROM session WHERE {where} ORDER BY rowid DESC LIMIT ?", (*values, most)
        ):
            yield Session(*row)

    def search(self, session: str, principal: Principal, text: str, before: str = "", most: int = HITS) -> SearchPage:
        """Return a page of where all words of `text` were said in the principal's session. Raises NotFound, InvalidArgument."""
        return search(self._db, self.find_session(session, principal).session_id, text, before, most)

    def _place(self, table: str, name: str, principal: Principal) -> int:
        """Return where a run or session stands in the order of acceptance. Raises InvalidArgument."""
        row = self._db.execute(
            f"SELECT rowid FROM {table} WHERE {table}_id = ? AND principal = ?", (name, principal)
        ).fetchone()
        if row is None:
            raise InvalidArgument(f"{name!r} is no place in this list", remedy="pass what the page before ended with")
        return int(row[0])

    def agents(self) -> tuple[tuple[AgentSpec, bool], ...]:
        """Return every defined agent, and whether it is the default one."""
        rows = self._db.execute("SELECT spec, is_default FROM agent ORDER BY name")
        return tuple((msgspec.json.decode(spec, type=AgentSpec), bool(is_default)) for spec, is_default in rows)

    def binding(self, places: Iterable[BindingPlace]) -> tuple[BindingPlace, str] | None:
        """Return the first of these places that an agent is bound to, and the agent's name."""
        for place in places:
            row = self._db.execute(
                "SELECT agent FROM binding WHERE target = ? AND name = ?", (place.target, place.name)
            ).fetchone()
            if row is not None:
                return place, str(row[0])
        return None

    def bindings(self) -> tuple[tuple[BindingPlace, str], ...]:
        """Return all that agents are bound to, whoever's it is, and the name of each one's agent."""
        rows = self._db.execute("SELECT target, name, agent FROM binding ORDER BY target, name")
        return tuple((BindingPlace(Target(target), name), str(agent)) for target, name, agent in rows)

    # --- activity ---

    def recent(self, principal: Principal, before_g: int | None = None, most: int = LIST_ROWS) -> RecentPage:
        return recent_events(self._db, principal, before_g, most)

    def used(self, principal: Principal, from_ms: int, to_ms: int) -> Used:
        """Return what a principal's runs used from `from_ms` up to `to_ms`, exclusive."""
        return used(self._db, principal, (from_ms, to_ms))[0]

    def used_between(self, principal: Principal, bounds: Sequence[int]) -> tuple[Used, ...]:
        """Return what a principal's runs used in each span between two neighbours of `bounds`, which ascend."""
        return used(self._db, principal, bounds)

    # --- tokens ---

    def tokens(self, *, before: str = "", revoked: bool = True, most: int = LIST_ROWS) -> tuple[Token, ...]:
        """Return every principal's tokens, newest first: those with an id below `before`; `revoked` ones if wanted."""
        return list_tokens(self._db, before, revoked, most)

    def find_token(self, token_id: str) -> Token:
        """Return a token, revoked or not, by its whole id. Raises NotFound."""
        return find_token(self._db, token_id)

    # --- verification ---

    def schema_version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def writer_mark(self) -> str:
        """Return `open` while a writer has the journal open, or had when it ended without closing it."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'writer'").fetchone()
        return str(row[0]) if row else ""

    def newest_at_ms(self) -> int:
        """Return when the newest row was written, 0 where there is none."""
        return int((self._db.execute("SELECT at_ms FROM ev ORDER BY g DESC LIMIT 1").fetchone() or (0,))[0])

    def chain(self) -> Iterator[ChainRow]:
        """Yield every row in the order of `g`, with what verification needs of it."""
        for row in self._db.execute(
            "SELECT ev.g, coalesce(stream.name, ''), ev.seq, ev.kind, ev.at_ms, ev.salt, ev.body, ev.hash, erased.body_digest"
            " FROM ev LEFT JOIN stream ON stream.id = ev.stream LEFT JOIN erased ON erased.g = ev.g ORDER BY ev.g"
        ):
            yield ChainRow(*row)

    def blobs(self) -> Iterator[tuple[str, bytes]]:
        for digest, body in self._db.execute("SELECT digest, body FROM blob"):
            yield bytes(digest).hex(), bytes(body)


def whole_tape(reader: Tapes, run_id: str, *, deltas: bool = False) -> tuple[TapeRow, ...]:
    """Return the rows of a run, without its streamed pieces of text unless they are asked for."""
    return tuple(reader.tape(run_stream(run_id), deltas=deltas))


def _check_prefix(text: str, what: str) -> None:
    if not text.isalnum():
        raise InvalidArgument(f"{text!r} is no {what} id", remedy="pass `last`, an id, or the beginning of one")


def _only(found: list[T], text: str, what: str, name: Callable[[T], str]) -> T:
    if not found:
        raise NotFound(f"there is no {what} {text!r}", remedy=f"`palyra-trio {what}s list` shows them")
    if len(found) > 1:
        raise Ambiguous(
            f"{text!r} fits more than one {what}: {', '.join(map(name, found))}", remedy="pass more of the id"
        )
    return found[0]
