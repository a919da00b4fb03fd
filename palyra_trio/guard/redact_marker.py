"""What stands where a secret was: `[redacted:KIND]`, with four hexadecimal digits where this installation has a key for them.

The digits are of a keyed hash: of one installation, equal secrets have equal markers, and a marker says nothing about its
secret to anybody else. They tell secrets apart for a reader; they prove nothing.
"""

import hmac
import re
from typing import Any

import attrs

MARKER = re.compile(r"\[redacted:[a-z0-9_]+(?::[0-9a-f]{4})?\]")
_DIGEST_BYTES = 2


@attrs.frozen
class Markers:
    """Makes markers. With an empty key they carry no digits."""

    _key: bytes = attrs.field(default=b"", repr=False)

    def of(self, kind: str, secret: bytes) -> bytes:
        if not self._key or not secret:
            return f"[redacted:{kind}]".encode()
        return f"[redacted:{kind}:{hmac.digest(self._key, secret, 'sha256')[:_DIGEST_BYTES].hex()}]".encode()


def has_marker(value: Any) -> bool:
    """Tell whether a JSON-like value holds a redaction marker anywhere, keys included."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            if MARKER.search(each):
                return True
        elif isinstance(each, dict):
            pending += each.keys()
            pending += each.values()
        elif isinstance(each, (list, tuple)):
            pending += each
    return False
