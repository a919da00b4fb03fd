"""A session's job as its tape tells it: how it was started, and, once it is over, how it ended."""

import signal

import attrs

from palyra_trio.core.session_events import JobEnded, JobStarted


@attrs.frozen
class SessionJob:
    """A long job of a session. `ended` is None while it runs, or while nobody has recorded its end."""

    session_id: str
    principal: str
    started_ms: int
    started: JobStarted
    ended_ms: int = 0
    ended: JobEnded | None = None

    @property
    def job_id(self) -> str:
        return self.started.job_id


@attrs.frozen
class Piece:
    """A piece of a job's output: the bytes `data` from byte `offset` on, of `size` that were written so far.

    What was asked for from an earlier byte than `offset` is not kept any more. `ended` says that no more will come.
    """

    offset: int
    data: bytes
    size: int
    ended: bool

    @property
    def after(self) -> int:
        """The offset of the byte behind this piece."""
        return self.offset + len(self.data)


def piece_of(kept: bytes | bytearray, size: int, since: int, most: int, *, ended: bool) -> Piece:
    """Return at most `most` bytes from byte `since` on, of an output of `size` bytes whose last ones are `kept`.

    A negative `since` counts from the end. Where the piece does not begin at `since`, nor at the output's beginning, it
    begins with a whole character of UTF-8.
    """
    first = size - len(kept)
    wanted = size + since if since < 0 else since
    offset = min(max(wanted, first), size)
    data = bytes(kept[offset - first : offset - first + most])
    whole = data
    if offset and (since < 0 or offset != since):
        while whole and whole[0] & 0xC0 == 0x80:
            whole = whole[1:]
    return Piece(offset + len(data) - len(whole), whole, size, ended and offset + len(data) == size)


def state_of(job: SessionJob) -> str:
    """Return how a job stands, in words, with the receipt where processes were killed."""
    ended = job.ended
    if ended is None:
        return "running"
    words = {
        "exited": f"exited with code {code_in_words(ended.code or 0)}",
        "stopped": f"stopped by {ended.by}",
        "deadline": "killed at its deadline",
        "output_limit": "killed for the size of its output",
        "run_cancelled": f"killed, because run {job.started.run_id} was cancelled",
        "session_archived": "killed, because its session was archived",
        "shutdown": "killed, because the process that held it was shut down",
        "failed": f"failed: {ended.detail}",
        "lost": "lost: the process that held it has gone",
    }[ended.ending]
    if not ended.pids_seen:
        return words
    dead = f"{ended.pids_seen} processes killed in {ended.elapsed_ms} ms"
    return f"{words} ({dead}{f', {ended.survivors} are still alive' if ended.survivors else ''})"


def code_in_words(code: int) -> str:
    """Return an exit code, with the name of the signal that it stands for."""
    if code > 128 and code - 128 in set(signal.Signals):
        return f"{code} ({signal.Signals(code - 128).name})"
    return str(code)
