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
    """What a code means to a client. `retry_after_s` is 0 where the same request would fail again."""

    grpc: Status
    http: int
    retry_after_s: int = 0


OF_CODE = {
    "internal": Meaning(Status.INTERNAL, 500),
    "caller": Meaning(Status.FAILED_PRECONDITION, 400),
    "invalid_argument": Meaning(Status.INVALID_ARGUMENT, 400),
    "too_large": Meaning(Status.RESOURCE_EXHAUSTED, 413),
    "config_invalid": Meaning(Status.FAILED_PRECONDITION, 422),
    "not_found": Meaning(Status.NOT_FOUND, 404),
    "ambiguous": Meaning(Status.INVALID_ARGUMENT, 400),
    "run_conflict": Meaning(Status.ALREADY_EXISTS, 409),
    "run_exists": Meaning(Status.ALREADY_EXISTS, 409),
    "session_conflict": Meaning(Status.ABORTED, 409),
    "state_conflict": Meaning(Status.FAILED_PRECONDITION, 409),
    "run_interrupted": Meaning(Status.FAILED_PRECONDITION, 409),
    "already_decided": Meaning(Status.FAILED_PRECONDITION, 409),
    "offset_ahead": Meaning(Status.OUT_OF_RANGE, 416),
    "offset_pruned": Meaning(Status.OUT_OF_RANGE, 410),
    "denied": Meaning(Status.PERMISSION_DENIED, 403),
    "workspace_refused": Meaning(Status.PERMISSION_DENIED, 403),
    "approval_expired": Meaning(Status.PERMISSION_DENIED, 403),
    "sandbox_too_weak": Meaning(Status.PERMISSION_DENIED, 403),
    "sandbox_failed": Meaning(Status.INTERNAL, 500),
    "unauthenticated": Meaning(Status.UNAUTHENTICATED, 401),
    "no_daemon": Meaning(Status.UNAVAILABLE, 503),
    "peer": Meaning(Status.UNAVAILABLE, 502),
    "provider_failed": Meaning(Status.UNAVAILABLE, 502),
    "busy": Meaning(Status.RESOURCE_EXHAUSTED, 429, retry_after_s=1),
    "session_busy": Meaning(Status.RESOURCE_EXHAUSTED, 409, retry_after_s=1),
    "state_locked": Meaning(Status.UNAVAILABLE, 503, retry_after_s=1),
    "disk_low": Meaning(Status.RESOURCE_EXHAUSTED, 507, retry_after_s=60),
    "draining": Meaning(Status.UNAVAILABLE, 503, retry_after_s=5),
    "journal_stopped": Meaning(Status.UNAVAILABLE, 503),
    "journal_invalid": Meaning(Status.DATA_LOSS, 500),
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
    more = {"remedy": error.remedy} if error.remedy else {}
    return problem(OF_CODE[error.code].http, error.message, code=error.code, **more)


def problem(status: int, detail: str, **members: str) -> bytes:
    """Return problem details (RFC 9457) of a status."""
    return msgspec.json.encode({"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members})
