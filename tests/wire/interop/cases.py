"""The names and figures of the published interop cases, and what every client says of them: a line for each.

Not among them are the cases of compression, which this system refuses, and those of Google's own accounts.
"""

from typing import Any

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "custom_metadata",
)
PASSED = [f"ok {case}" for case in CASES]
WITHIN_S = 10.0  # for one case
ALL_WITHIN_S = 60.0

REQUESTS = (27182, 8, 1828, 45904)
REPLIES = (31415, 9, 2653, 58979)
LARGE_REQUEST, LARGE_REPLY = 271828, 314159
TIMEOUT_S = 0.001
STATUS, STATUS_MESSAGE = 2, "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
METADATA: dict[str, str | bytes] = {  # the first comes back in the initial metadata, the second in the trailing
    "x-grpc-test-echo-initial": "test_initial_metadata_value",
    "x-grpc-test-echo-trailing-bin": b"\xab\xab\xab",
}


def expect(got: Any, wanted: Any) -> None:
    """Raise AssertionError unless the two are equal."""
    if got != wanted:
        raise AssertionError(f"{got!r:.200} instead of {wanted!r:.200}")


def line(case: str, failure: BaseException | None = None) -> str:
    """Say how a case went."""
    return f"ok {case}" if failure is None else f"FAILED {case}: {' '.join(f'{failure!r}'.split())}"
