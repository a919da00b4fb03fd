"""Codes are stable, and every error says where and what to do."""

from palyra_trio.core import errors
from palyra_trio.core.errors import PalyraError

# What was once released as a code stays one.
CODES = {
    "AlreadyDecided": "already_decided",
    "Ambiguous": "ambiguous",
    "Busy": "busy",
    "CallerError": "caller",
    "ConfigInvalid": "config_invalid",
    "DiskLow": "disk_low",
    "Draining": "draining",
    "Interrupted": "run_interrupted",
    "InvalidArgument": "invalid_argument",
    "JournalInvalid": "journal_invalid",
    "JournalStopped": "journal_stopped",
    "NoDaemon": "no_daemon",
    "NotFound": "not_found",
    "OffsetAhead": "offset_ahead",
    "OffsetPruned": "offset_pruned",
    "PalyraError": "internal",
    "PeerError": "peer",
    "PolicyError": "denied",
    "ProviderFailed": "provider_failed",
    "RunConflict": "run_conflict",
    "SessionBusy": "session_busy",
    "SessionConflict": "session_conflict",
    "StateConflict": "state_conflict",
    "StateLocked": "state_locked",
    "TooLarge": "too_large",
    "Unauthenticated": "unauthenticated",
    "WorkspaceRefused": "workspace_refused",
}


def test_every_error_has_a_code_of_its_own_that_never_changes() -> None:
    classes = {
        name: each.code
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, PalyraError)
    }
    assert classes == CODES
    assert len(set(CODES.values())) == len(CODES)


def test_an_error_reads_as_its_message_and_its_remedy() -> None:
    error = errors.NotFound("there is no run X", remedy="see `runs list`")
    assert str(error) == "there is no run X (see `runs list`)"
    assert (error.message, error.remedy) == ("there is no run X", "see `runs list`")


def test_an_error_without_a_remedy_reads_as_its_message() -> None:
    assert str(errors.NotFound("there is no run X")) == "there is no run X"


def test_an_error_is_known_again_by_its_code() -> None:
    for name, code in CODES.items():
        if code != "internal":
            again = errors.of_code(code, "no", "try this")
            assert (type(again).__name__, again.message, again.remedy) == (name, "no", "try this")


def test_a_code_of_a_newer_version_is_a_peers_error_that_names_it() -> None:
    again = errors.of_code("moon_phase", "not tonight", "wait")
    assert type(again) is errors.PeerError
    assert str(again) == "not tonight [moon_phase] (wait)"
