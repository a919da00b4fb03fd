"""Every error that a person or a client can meet: one tree, stable codes, no transport words.

Whose fault it is decides the branch: the caller's, a peer's (a model provider), policy's, or ours. A code never
changes once released; messages may. Exit codes and gRPC statuses are mapped from codes elsewhere, once.
"""

from collections.abc import Iterator
from typing import ClassVar


class PalyraError(Exception):
    """Something that was refused or failed: a stable `code`, a message that names the place, and a remedy."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


# --- the caller's ---


class CallerError(PalyraError):
    """The request cannot be carried out as it stands; the same request will fail again."""

    code = "caller"


class InvalidArgument(CallerError):
    """A field of the request has no meaning here."""

    code = "invalid_argument"


class TooLarge(CallerError):
    """A message has more bytes than one may have."""

    code = "too_large"


class ConfigInvalid(CallerError):
    """The configuration does not say what to do, or says it wrongly; the message lists every fault."""

    code = "config_invalid"


class NotFound(CallerError):
    """Nothing that this caller may see has that name."""

    code = "not_found"


class Ambiguous(CallerError):
    """A prefix that fits more than one id."""

    code = "ambiguous"


class RunConflict(CallerError):
    """The run id is taken by a run with another payload."""

    code = "run_conflict"


class SessionConflict(CallerError):
    """The session id and key name two sessions, or the key was taken meanwhile."""

    code = "session_conflict"


class StateConflict(CallerError):
    """The run or call is not in a state in which this can happen to it."""

    code = "state_conflict"


class Interrupted(StateConflict):
    """The run's process has ended, or is ending, and none goes on with the run: there is nothing to wait for."""

    code = "run_interrupted"


class AlreadyDecided(CallerError):
    """The approval has been decided, has expired, or its run has ended."""

    code = "already_decided"


class OffsetAhead(CallerError):
    """The tape has no such sequence number yet."""

    code = "offset_ahead"


class OffsetPruned(CallerError):
    """The body of the row after that sequence number was erased; the message names the next one that is whole."""

    code = "offset_pruned"


# --- policy's ---


class PolicyError(PalyraError):
    """The caller may not do this."""

    code = "denied"


class Unauthenticated(PolicyError):
    """Nobody knows who asks: no token, or one that is unknown, revoked or expired."""

    code = "unauthenticated"


class WorkspaceRefused(PolicyError):
    """The folder may not be a workspace, or a path leaves it."""

    code = "workspace_refused"


# --- a peer's ---


class PeerError(PalyraError):
    """Another program failed us."""

    code = "peer"


class NoDaemon(PeerError):
    """No process answers where one was expected, or it went away."""

    code = "no_daemon"


class ProviderFailed(PeerError):
    """The model provider refused or broke off."""

    code = "provider_failed"


# --- ours ---


class Busy(PalyraError):
    """No room now; the same request may succeed later."""

    code = "busy"


class SessionBusy(Busy):
    """The session has a live run, and the caller asked not to wait."""

    code = "session_busy"


class StateLocked(Busy):
    """Another process holds this state directory."""

    code = "state_locked"


class DiskLow(Busy):
    """Too little free space to promise that a run can be recorded."""

    code = "disk_low"


class Draining(Busy):
    """The daemon is shutting down and takes no new work."""

    code = "draining"


class JournalStopped(PalyraError):
    """A commit failed, so nothing more can be recorded by this process (fail-stop)."""

    code = "journal_stopped"


class JournalInvalid(PalyraError):
    """The journal does not verify, or was written by a newer version."""

    code = "journal_invalid"


def of_code(code: str, message: str, remedy: str) -> PalyraError:
    """Return the error with this code, as another process told it; a PeerError for a code that is not known here."""
    for cls in _below(PalyraError):
        if cls.code == code and cls.__init__ is PalyraError.__init__:
            return cls(message, remedy=remedy)
    return PeerError(f"{message} [{code}]", remedy=remedy)


def _below(cls: type[PalyraError]) -> Iterator[type[PalyraError]]:
    yield cls
    for each in cls.__subclasses__():
        yield from _below(each)
