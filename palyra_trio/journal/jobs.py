"""The jobs of sessions, kept at hand beside the tape: what each event changes, and who has which."""

import sqlite3
from collections.abc import Iterator

import attrs
import msgspec

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import decode
from palyra_trio.core.errors import Ambiguous, InvalidArgument, NotFound, StateConflict
from palyra_trio.core.identity import Principal
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.session_events import JobEnded, JobOutput, JobStarted
from palyra_trio.core.tape import SESSION_STREAM

_JOB = "session_id, principal, started_ms, started, coalesce(ended_ms, 0), ended"


# --- what an event changes ---


def started(db: sqlite3.Connection, stream: str, event: JobStarted, at_ms: int) -> None:
    inserted = db.execute(
        "INSERT INTO job (job_id, session_id, principal, started_ms, started)"
        " SELECT ?, session_id, principal, ?, ? FROM session WHERE session_id = ? AND archived_ms IS NULL",
        (event.job_id, at_ms, canonical_json(event), stream.removeprefix(SESSION_STREAM)),
    )
    if inserted.rowcount != 1:
        raise StateConflict("the session is archived", remedy="start a new session")


def ended(db: sqlite3.Connection, _stream: str, event: JobEnded, at_ms: int) -> None:
    moved = db.execute(
        "UPDATE job SET ended_ms = ?, ended = ? WHERE job_id = ? AND ended_ms IS NULL",
        (at_ms, canonical_json(event), event.job_id),
    )
    if moved.rowcount != 1:
        raise StateConflict(f"job {event.job_id} has ended already")


# --- reading ---


@attrs.frozen
class Jobs:
    """The read side: jobs as they stand."""

    _db: sqlite3.Connection

    def find(self, text: str, principal: Principal) -> SessionJob:
        """Return the principal's job that has this id, or an id that alone begins so; `last` is the newest.

        Raises InvalidArgument, NotFound, for another's too, and Ambiguous.
        """
        if not text.isalnum():
            raise InvalidArgument(f"{text!r} is no job id", remedy="pass `last`, an id, or the beginning of one")
        if text == "last":
            found = [*self._jobs("principal = ?", (principal,), 1)]
        else:
            found = [*self._jobs("principal = ? AND job_id GLOB ?", (principal, f"{text.upper()}*"), 3)]
        if not found:
            raise NotFound(f"there is no job {text!r}", remedy="`palyra-trio jobs list` shows them")
        if len(found) > 1:
            names = ", ".join(each.job_id for each in found)
            raise Ambiguous(f"{text!r} fits more than one job: {names}", remedy="pass more of the id")
        return found[0]

    def any(self, job_id: str) -> SessionJob | None:
        """Return a job of anybody's."""
        return next(self._jobs("job_id = ?", (job_id,), 1), None)

    def listed(
        self, principal: Principal, *, session_id: str = "", ended: bool, before: str = "", most: int = -1
    ) -> tuple[SessionJob, ...]:
        """Return the principal's jobs, newest first, of one session where it is given: those that run, or all.

        The next page is `before` the last of this one.
        """
        where = "principal = ? AND (? = '' OR job_id < ?) AND (? = '' OR session_id = ?) AND (? OR ended_ms IS NULL)"
        return tuple(self._jobs(where, (principal, before, before, session_id, session_id, ended), most))

    def running(self) -> tuple[SessionJob, ...]:
        """Return every job, of anybody, whose end is not recorded."""
        return tuple(self._jobs("ended_ms IS NULL", (), -1))

    def watched(self, job: SessionJob) -> bytes:
        """Return what the tape holds of a job's output as it came: the beginning of it, all of it if it is short."""
        rows = self._db.execute(
            "SELECT ev.body FROM ev JOIN stream ON stream.id = ev.stream"
            " WHERE stream.name = ? AND ev.kind = ? AND ev.body IS NOT NULL ORDER BY ev.seq",
            (SESSION_STREAM + job.session_id, JobOutput.kind),
        )
        events = (decode(JobOutput.kind, body) for (body,) in rows)
        return "".join(e.text for e in events if isinstance(e, JobOutput) and e.job_id == job.job_id).encode()

    def _jobs(self, where: str, values: tuple[str | bool, ...], most: int) -> Iterator[SessionJob]:
        for session_id, principal, started_ms, begun, ended_ms, over in self._db.execute(
            f"SELECT {_JOB} FROM job WHERE {where} ORDER BY job_id DESC LIMIT ?", (*values, most)
        ):
            yield SessionJob(
                session_id,
                principal,
                started_ms,
                msgspec.json.decode(begun, type=JobStarted),
                ended_ms,
                None if over is None else msgspec.json.decode(over, type=JobEnded),
            )
