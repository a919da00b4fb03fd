"""What a client is told of an error: the one table from error codes to gRPC and HTTP statuses, and gRPC's details.

The code itself always travels with the status: a client that must tell errors apart looks at the code. Exit statuses
of the command line are in cli.exit_codes.
"""

from http import HTTPStatus

import attrs
import msgspec
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.core.errors import PalyraError

DOMAIN = "palyra-trio"


@attrs.frozen
class Meaning:
    """What a code means to a client. The API over HTTP tells `remedy` where the error itself says nothing better.

    `retry_after_s` is 0 where the same request would fail again.
    """

    grpc: Status
    http: int
    remedy: str
    retry_after_s: int = 0


OF_CODE = {
    "internal": Meaning(Status.INTERNAL, 500, "the log of the daemon says where it happened"),
    "caller": Meaning(Status.FAILED_PRECONDITION, 400, "ask for something else"),
    "invalid_argument": Meaning(Status.INVALID_ARGUMENT, 400, "/api/v1/openapi.json says what can be said"),
    "too_large": Meaning(Status.RESOURCE_EXHAUSTED, 413, "send less"),
    "config_invalid": Meaning(
        Status.FAILED_PRECONDITION, 422, "change the configuration, or ask for what it does not concern"
    ),
    "not_found": Meaning(Status.NOT_FOUND, 404, "the lists tell what there is"),
    "ambiguous": Meaning(Status.INVALID_ARGUMENT, 400, "say more of the id"),
    "run_conflict": Meaning(Status.ALREADY_EXISTS, 409, "ask under another id or key"),
    "run_exists": Meaning(Status.ALREADY_EXISTS, 409, "ask under another id or key"),
    "session_conflict": Meaning(Status.ABORTED, 409, "try again"),
    "state_conflict": Meaning(Status.FAILED_PRECONDITION, 409, "look at how it stands now"),
    "run_interrupted": Meaning(Status.FAILED_PRECONDITION, 409, "start another run in its session"),
    "already_decided": Meaning(Status.FAILED_PRECONDITION, 409, "what was decided stands"),
    "offset_ahead": Meaning(Status.OUT_OF_RANGE, 416, "begin at a row that there is"),
    "offset_pruned": Meaning(Status.OUT_OF_RANGE, 410, "begin at a row after what was erased"),
    "denied": Meaning(Status.PERMISSION_DENIED, 403, "ask who administers the daemon"),
    "workspace_refused": Meaning(Status.PERMISSION_DENIED, 403, "name a folder that is yours to work in"),
    "approval_expired": Meaning(Status.PERMISSION_DENIED, 403, "let the agent ask again"),
    "sandbox_too_weak": Meaning(Status.PERMISSION_DENIED, 403, "`palyra-trio doctor` says what the sandbox lacks"),
    "sandbox_failed": Meaning(Status.INTERNAL, 500, "`palyra-trio doctor` says what the sandbox lacks"),
    "unauthenticated": Meaning(Status.UNAUTHENTICATED, 401, "send `authorization: Bearer TOKEN`"),
    "no_daemon": Meaning(Status.UNAVAILABLE, 503, "`palyra-trio serve` starts one"),
    "peer": Meaning(Status.UNAVAILABLE, 502, "try again later"),
    "provider_failed": Meaning(Status.UNAVAILABLE, 502, "try again later, or name another model"),
    "busy": Meaning(Status.RESOURCE_EXHAUSTED, 429, "try again in a moment", retry_after_s=1),
    "session_busy": Meaning(
        Status.RESOURCE_EXHAUSTED, 409, "wait for the end of its run, or cancel it", retry_after_s=1
    ),
    "state_locked": Meaning(Status.UNAVAILABLE, 503, "try again in a moment", retry_after_s=1),
    "disk_low": Meaning(Status.RESOURCE_EXHAUSTED, 507, "free some space", retry_after_s=60),
    "draining": Meaning(Status.UNAVAILABLE, 503, "try again in a moment", retry_after_s=5),
    "journal_stopped": Meaning(Status.UNAVAILABLE, 503, "start the daemon anew once the disk takes what is written"),
    "journal_invalid": Meaning(Status.DATA_LOSS, 500, "`palyra-trio journal verify` says what is damaged"),
}


def grpc_error(error: PalyraError) -> GRPCError:
    """Return the status of a refusal, with google.rpc.ErrorInfo, and RetryInfo where trying again makes sense."""
    meaning = OF_CODE[error.code]
    info = ErrorInfo(reason=error.code, domain=DOMAIN)
    if error.remedy:
        info.metadata["remedy"] = error.remedy
    details: list[ErrorInfo | RetryInfo] = [info]
    if meaning.retry_after_s:
        details.append(RetryInfo(retry_delay=Duration(seconds=meaning.retry_after_s)))
    return GRPCError(meaning.grpc, error.message, details)


def problem_of(error: PalyraError) -> bytes:
    """Return a refusal as problem details (RFC 9457), with its code and remedy as members of their own."""
    meaning = OF_CODE[error.code]
    return problem(meaning.http, error.message, error.code, error.remedy or meaning.remedy)


def problem(status: int, detail: str, code: str, remedy: str) -> bytes:
    """Return problem details (RFC 9457) of a status."""
    members = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": code, "remedy": remedy}
    return msgspec.json.encode(members)
