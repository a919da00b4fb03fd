"""What a refusal of a server means: the kind, whether to try again and when, and never the key."""

from typing import Any

import msgspec
import pytest

from palyra_trio.providers.openai_errors import failure, stream_failure

NOW = 1_700_000_000.0


def refusal(status: int, error: Any = None, headers: dict[str, str] | None = None, secret: str = "") -> Any:
    body = error if isinstance(error, bytes) else msgspec.json.encode({"error": error or {}})
    return failure(status, headers or {}, body, NOW, provider="openai", secret=secret)


@pytest.mark.parametrize(
    ("status", "error", "kind", "retryable"),
    [
        (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}, "auth", False),
        (403, {"message": "Country not supported"}, "auth", False),
        (402, {"message": "Payment required"}, "quota", False),
        (429, {"message": "Rate limit reached", "code": "rate_limit_exceeded"}, "rate_limited", True),
        (429, {"message": "You exceeded your current quota", "type": "insufficient_quota"}, "quota", False),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "quota", False),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "context_window", False),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, "context_window", False),
        (400, {"message": "filtered", "code": "content_filter"}, "refused", False),
        (400, {"message": "Unknown parameter", "code": {"odd": 1}}, "bad_request", False),
        (404, {"message": "The model does not exist", "code": "model_not_found"}, "bad_request", False),
        (408, None, "network", True),
        (500, {"message": "oops"}, "overloaded", True),
        (503, b"<html>Service unavailable</html>", "overloaded", True),
        (529, {"message": "Overloaded", "type": "overloaded_error"}, "overloaded", True),
        (301, b"", "bad_request", False),
    ],
)
def test_a_status_and_an_error_object_map_to_a_kind(status: int, error: Any, kind: str, retryable: bool) -> None:
    raised = refusal(status, error)
    assert (raised.kind, raised.retryable) == (kind, retryable)
    assert str(status) in raised.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b'"text"',
        b"[]",
        b'{"error": "text"}',
        b'{"detail": "no"}',
        b"{}",
        b"null",
        b'{"error": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
    ids=range(9),
)
def test_any_body_makes_an_error(body: bytes) -> None:
    assert refusal(500, body).kind == "overloaded"


def test_a_server_that_is_busy_says_when_to_try_again() -> None:
    assert refusal(429, None, {"retry-after": "7"}).retry_after_s == pytest.approx(7)


def test_the_key_that_a_server_echoes_is_not_repeated() -> None:
    raised = refusal(401, {"message": "Incorrect API key provided: sk-secret."}, secret="sk-secret")
    assert "sk-secret" not in str(raised)
    assert "[key]" in str(raised)


def test_a_long_message_is_cut() -> None:
    assert len(refusal(500, {"message": "x" * 100_000}).message) < 1000


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "busy", "code": 503}, "overloaded"),
        ({"message": "slow down", "code": 429}, "rate_limited"),
        ({"message": "no", "code": "insufficient_quota"}, "quota"),
        ("plain words", "overloaded"),
    ],
)
def test_an_error_in_the_stream_maps_like_a_status(error: Any, kind: str) -> None:
    assert stream_failure(error, provider="openai").kind == kind
