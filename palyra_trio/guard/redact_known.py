"""The secrets that this installation keeps, found wherever they stand: as they are, or in an encoding of them.

Looked for are the value itself, its JSON string, base64 (both alphabets, at each of the three places that its first byte
can have in a group of three), hexadecimal and URL quoting. A value shorter than MIN_BYTES is not looked for: it would
be found in ordinary text. Whole texts are searched by one Aho-Corasick automaton. In a stream exactly a suffix that
is the beginning of a pattern is held back.
"""

import base64
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from palyra_trio.guard.redact_marker import Markers

KIND = "vault"
MIN_BYTES = 8
_IN_A_MARKER = b"[redacted:vault:"
_LEFT_OUT = {0: 0, 1: 2, 2: 3}  # base64 digits that the bytes before the value have a part in, by their number


class KnownValues:
    """Finds any of `values` in bytes that are UTF-8. Immutable."""

    def __init__(self, values: Iterable[str], markers: Markers) -> None:
        marker_of: dict[bytes, bytes] = {}
        for value in sorted(set(values), key=len, reverse=True):
            raw = value.encode("utf-8", "surrogatepass")
            for pattern in encodings(value) if len(raw) >= MIN_BYTES else ():
                if len(pattern) >= MIN_BYTES and pattern not in _IN_A_MARKER:
                    marker_of.setdefault(pattern, markers.of(KIND, raw))
        self._patterns = sorted(marker_of)
        self._markers = [marker_of[pattern] for pattern in self._patterns]
        self._longest = max(map(len, self._patterns), default=0)
        self._whole = BytesAhoCorasick(self._patterns, matchkind=MatchKind.LeftmostLongest)
        self._heads = BytesAhoCorasick(sorted({pattern[:MIN_BYTES] for pattern in self._patterns}))
        self._stubs = frozenset(pattern[:size] for pattern in self._patterns for size in range(1, MIN_BYTES))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def mask(self, raw: bytes) -> bytes:
        """Return `raw` with each value replaced by its marker; the same object where there is none."""
        return self.scan(raw, final=True)[0]

    def scan(self, raw: bytes, *, final: bool) -> tuple[bytes, int]:
        """Mask what is certain in `raw`. Return it, and up to where in `raw` it reaches: with `final`, the end."""
        found = self._whole.find_matches_as_indexes(raw)
        cut = len(raw) if final else self._begun_at(raw, 0)
        if not found and cut == len(raw):
            return raw, cut
        pieces: list[bytes] = []
        done = 0
        for index, start, end in found:
            if start >= cut:
                break  # what begins here may become a longer value
            pieces += (raw[done:start], self._markers[index])
            done = end
            if end > cut:
                cut = self._begun_at(raw, end)
        pieces.append(raw[done:cut])
        return b"".join(pieces), cut

    def _begun_at(self, raw: bytes, pos: int) -> int:
        """Return where the longest suffix of `raw[pos:]` begins that is the beginning of a pattern, and not all of it."""
        first = max(pos, len(raw) - self._longest + 1)
        for _, start, _ in self._heads.find_matches_as_indexes(raw[first:], overlapping=True):
            if self._begins_a_pattern(raw[first + start :]):
                return first + start
        for at in range(max(first, len(raw) - MIN_BYTES + 1), len(raw)):
            if raw[at:] in self._stubs:
                return at
        return len(raw)

    def _begins_a_pattern(self, text: bytes) -> bool:
        after = bisect_right(self._patterns, text)
        return after < len(self._patterns) and self._patterns[after].startswith(text)


def encodings(value: str) -> Iterator[bytes]:
    """Yield every way in which a value is looked for, itself first."""
    raw = value.encode("utf-8", "surrogatepass")
    yield raw
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw)
        for before, left_out in _LEFT_OUT.items():
            shifted = encode(bytes(before) + raw)
            cut_off = {0: 0, 1: 3, 2: 2}[
                (before + len(raw)) % 3
            ]  # padding, and the digit that the next byte has a part in
            yield shifted[left_out : len(shifted) - cut_off]
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted.encode()
