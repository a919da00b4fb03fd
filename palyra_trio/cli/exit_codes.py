"""What a shell is told: the one table from error codes to exit statuses, and the one from how a run stands.

Scripts depend on these numbers, so a number never changes its meaning. Nothing here raises, prints or exits.
"""

OK = 0
FAILED = 1
USAGE = 2
DENIED = 3
NEEDS_APPROVAL = 4
LIMIT = 5
PROVIDER = 6
IN_DOUBT = 7
NO_DAEMON = 69
BUSY = 75
AUTH = 77
CONFIG = 78
TIMEOUT = 124
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM

OF_ERROR = {
    "internal": FAILED,
    "caller": FAILED,
    "invalid_argument": USAGE,
    "too_large": USAGE,
    "config_invalid": CONFIG,
    "not_found": FAILED,
    "ambiguous": FAILED,
    "run_conflict": FAILED,
    "run_exists": FAILED,
    "session_conflict": FAILED,
    "state_conflict": FAILED,
    "run_interrupted": BUSY,
    "already_decided": FAILED,
    "offset_ahead": FAILED,
    "offset_pruned": FAILED,
    "denied": DENIED,
    "workspace_refused": DENIED,
    "approval_expired": NEEDS_APPROVAL,
    "sandbox_too_weak": DENIED,
    "sandbox_failed": FAILED,
    "unauthenticated": AUTH,
    "peer": FAILED,
    "no_daemon": NO_DAEMON,
    "provider_failed": PROVIDER,
    "busy": BUSY,
    "session_busy": BUSY,
    "state_locked": BUSY,
    "disk_low": BUSY,
    "draining": BUSY,
    "journal_stopped": FAILED,
    "journal_invalid": FAILED,
}

_OF_WAITING = {
    "approval": NEEDS_APPROVAL,
    "budget": LIMIT,
    "in_doubt": IN_DOUBT,
}


def of_run(state: str, reason: str) -> int:
    """Return the exit status that tells how a run stands: its state, and the reason on its tape.

    A run that has not ended is busy, unless it waits for something that has a number of its own: a run that was
    interrupted, or is still in line, can come to its end later. A run never fails as a fault of usage.
    """
    if state == "done":
        return OK
    if state == "cancelled":
        return INTERRUPTED
    if state != "failed":
        return _OF_WAITING.get(reason, BUSY)
    if reason.startswith("provider_"):
        return PROVIDER
    if reason == "limit_active_s":
        return TIMEOUT
    if reason.startswith("limit_"):
        return LIMIT
    status = OF_ERROR.get(reason, FAILED)
    return FAILED if status == USAGE else status
