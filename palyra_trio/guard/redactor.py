r"""Find and mask secrets at ingress, in whole values and in streams, leaving every other byte as it was.

A secret is known by where it stands (the value of a key such as `password`), because this installation keeps it (the
vault's values and their encodings), or by how it looks (a provider's token, an authorization header, the password in a
URL, a PEM private key). There is no entropy guessing, so prose, code, hashes and token counts pass untouched. What was
a secret becomes a marker. This is a net, not a boundary: a secret that nothing marks as one passes.
"""

from collections.abc import Iterable
from functools import lru_cache
from operator import is_ as _is
from typing import Any

from palyra_trio.core.references import is_use
from palyra_trio.core.text import clean
from palyra_trio.guard import redact_rules as rules
from palyra_trio.guard.redact_keys import secret_kind
from palyra_trio.guard.redact_known import KnownValues
from palyra_trio.guard.redact_marker import MARKER, Markers, has_marker

__all__ = ["DEPTH_MAX", "MARKER", "Redactor", "StreamRedactor", "has_marker"]

DEPTH_MAX = 64  # deeper nesting is masked whole; JSON that people and models write stays below 20
_KEYS_REMEMBERED = 4096


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


class Redactor:
    """Masks secrets in texts and in JSON-like values. What holds none is returned as the same object.

    With `key`, the secret of this installation, equal secrets have equal markers.
    """

    def __init__(self, key: bytes = b"") -> None:
        self._kind = lru_cache(_KEYS_REMEMBERED)(secret_kind)
        self.know((), key)

    def know(self, values: Iterable[str], key: bytes = b"") -> None:
        """Look for exactly these values from now on, in streams that are open too, besides what all secrets look like."""
        markers = Markers(key)
        self._known = KnownValues(values, markers)
        self._markers = markers

    def text(self, text: str) -> str:
        """Return `text` with each secret replaced by its marker. Linear time; lone surrogates pass unchanged."""
        if len(text) < rules.SHORTEST:
            return text
        raw = _encode(text)
        masked = self._masked(raw)
        return text if masked == raw else _decode(masked)

    def recordable(self, text: str) -> str:
        """Return a text from elsewhere as it may be recorded: valid Unicode, without its secrets."""
        return self.text(clean(text))

    def value(self, value: Any) -> Any:
        """Return a JSON-like `value` with its secrets masked: by key first, then by the look of each text and key.

        Under a key that names a secret every text and number is masked, in lists too; the members of an object there
        are judged by their own keys. Dicts, lists and tuples are walked, anything else is itself. Nesting beyond
        DEPTH_MAX is replaced by a marker.
        """
        texts: list[str] = []
        if self._gather(value, texts, DEPTH_MAX):
            together = _encode("\0".join(texts))  # most values hold no secret, and one look is cheaper than one a text
            if self._masked(together) is together:
                return value
        return self._value(value, "", DEPTH_MAX)

    def knows(self, data: bytes) -> bool:
        """Return whether bytes of any kind hold a secret that this installation keeps."""
        return bool(self._known) and self._known.mask(data) is not data

    def stream(self) -> "StreamRedactor":
        """Return a redactor for one text that arrives in pieces."""
        return StreamRedactor(self)

    def _masked(self, raw: bytes) -> bytes:
        masked = self._known.mask(raw) if self._known else raw
        return b"".join(rules.scan(masked, 0, self._markers, final=True)[0]) if rules.found(masked) else masked

    def _gather(self, value: Any, texts: list[str], depth: int) -> bool:
        """Add every text and key of `value` to `texts`; return whether that, and no key or depth, decides what is masked."""
        if isinstance(value, str):
            texts.append(value)
            return True
        if isinstance(value, dict):
            texts.extend(key for key in value if isinstance(key, str))
            if not depth or any(isinstance(key, str) and self._kind(key) for key in value):
                return False
            return all(self._gather(member, texts, depth - 1) for member in value.values())
        if isinstance(value, (list, tuple)):
            return bool(depth) and all(self._gather(item, texts, depth - 1) for item in value)
        return True

    def _value(self, value: Any, kind: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._named(value, kind) if kind else self.text(value)
        if isinstance(value, dict):
            return self._dict(value, depth) if depth else self._marker("too_deep")
        if isinstance(value, (list, tuple)):
            if not depth:
                return self._marker("too_deep")
            items = [self._value(item, kind, depth - 1) for item in value]
            return value if all(map(_is, items, value)) else type(value)(items)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return self._marker(kind, str(value)) if kind and is_number else value

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        changed = False
        members = {}
        for key, member in value.items():
            new_key, kind = (self.text(key), self._kind(key)) if isinstance(key, str) else (key, "")
            new_member = self._value(member, kind, depth - 1)
            changed = changed or new_key is not key or new_member is not member
            members[new_key] = new_member
        return members if changed else value

    def _named(self, text: str, kind: str) -> str:
        if not text or MARKER.fullmatch(text):
            return text
        return self.text(text) if is_use(text) else self._marker(kind, text)

    def _marker(self, kind: str, secret: str = "") -> str:
        return self._markers.of(kind, _encode(secret)).decode()


class StreamRedactor:
    """Masks secrets in a text that arrives in pieces.

    Whatever the pieces, what `feed` and the last `flush` return is, joined, what `Redactor.text` makes of the whole.
    Held back is only a suffix that could be the beginning of a secret: nothing in most prose, at most the longest value
    that is kept, about 800 characters, or 16 KiB inside a PEM block.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._begun = b""  # the beginning of a known value, perhaps
        self._left = b""  # the byte before what is held, for word boundaries
        self._held = b""
        self._tail = ""

    def feed(self, text: str) -> str:
        """Take the next piece; return what is now certain, which may be empty."""
        return _decode(self._advance(_encode(text), final=False))

    def flush(self) -> str:
        """Return what is held back: the text has ended, and the next piece would begin another."""
        rest = self._advance(b"", final=True)
        self._begun = self._left = self._held = b""
        self._tail = ""
        return _decode(rest)

    def _advance(self, raw: bytes, *, final: bool) -> bytes:
        known = self._redactor._known
        if known or self._begun:
            raw = self._begun + raw
            masked, done = known.scan(raw, final=final)
            self._begun = raw[done:]
            raw = masked
        return self._by_look(raw, final=final)

    def _by_look(self, new: bytes, *, final: bool) -> bytes:
        raw = self._left + self._held + new
        pos = len(self._left)
        if self._tail:
            pos = rules.tail_end(self._tail, raw, pos)
            if not final and raw[pos:] in rules.UNDECIDED:
                self._left, self._held = raw[:pos][-1:], raw[pos:]
                return b""
            self._tail = ""
        elif not self._held and not final and not rules.found(raw, pos) and not rules.begun(raw, pos):
            self._left = raw[-1:]
            return new
        pieces, done, self._tail = rules.scan(raw, pos, self._redactor._markers, final=final)
        self._left, self._held = raw[:done][-1:], raw[done:]
        return b"".join(pieces)
