"""How an OpenAI-compatible server says no: status, headers and error object to a `ProviderError`. Pure; takes `now`."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from palyra_trio.core.text import clean
from palyra_trio.providers.base import FailureKind, ProviderError
from palyra_trio.providers.retry_after import retry_after_s

RETRYABLE: frozenset[FailureKind] = frozenset({"rate_limited", "overloaded", "network", "idle"})
_MESSAGE_CHARACTERS = 500
_KINDS_BY_STATUS: dict[int, FailureKind] = {401: "auth", 402: "quota", 403: "auth", 408: "network", 429: "rate_limited"}
_KINDS_BY_CODE: dict[str, FailureKind] = {
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "context_length_exceeded": "context_window",
    "content_filter": "refused",
    "content_policy_violation": "refused",
    "invalid_api_key": "auth",
    "rate_limit_exceeded": "rate_limited",
    "server_error": "overloaded",
    "overloaded_error": "overloaded",
}
_CONTEXT_WINDOW = re.compile(r"context (length|window|size)|prompt is too long|too many tokens", re.IGNORECASE)
_REMEDIES: dict[FailureKind, str] = {
    "auth": "check the API key",
    "quota": "check the plan and billing of the account, or name another model",
    "context_window": "start a new session, or choose a model with a larger context window",
    "bad_request": "check the model's name and the base URL",
}


def failure(
    status: int, headers: Mapping[str, str], body: bytes, now: float, *, provider: str, secret: str = ""
) -> ProviderError:
    """Return the error that a response of `status` other than 200 means. `headers` has lower-case names.

    `now` is Unix seconds; `secret` never appears in the message, whatever the server echoes.
    """
    try:
        error = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        error = body.decode("utf-8", "replace")
    if isinstance(error, dict):
        error = error.get("error") or error
    return _error(status, error, f"{provider} answered {status}", retry_after_s(headers, now), secret)


def stream_failure(error: Any, *, provider: str, secret: str = "") -> ProviderError:
    """Return the error that an `error` object in the middle of a stream means."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) else 500
    return _error(status, error, f"{provider} broke the answer off", 0.0, secret)


def scrub(text: str, secret: str) -> str:
    """Return `text` without `secret`."""
    return text.replace(secret, "[key]") if secret else text


def _error(status: int, error: Any, happened: str, wait_s: float, secret: str) -> ProviderError:
    code, said = "", error
    if isinstance(error, dict):
        said = error.get("message") or error.get("detail") or error
        codes = (error.get("code"), error.get("type"))
        code = next((each for each in codes if isinstance(each, str) and each in _KINDS_BY_CODE), "")
    text = " ".join(clean(scrub(str(said), secret)).split())
    kind = _KINDS_BY_CODE.get(code) or _kind(status, text)
    message = f"{happened}: {text[:_MESSAGE_CHARACTERS]}" if text else happened
    return ProviderError(
        kind, message, retryable=kind in RETRYABLE, retry_after_s=wait_s, remedy=_REMEDIES.get(kind, "")
    )


def _kind(status: int, text: str) -> FailureKind:
    if status in _KINDS_BY_STATUS:
        return _KINDS_BY_STATUS[status]
    if status >= 500:
        return "overloaded"
    return "context_window" if _CONTEXT_WINDOW.search(text) else "bad_request"
