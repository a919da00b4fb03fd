r"""Find and mask secrets at ingress, in whole values and in streams, leaving every other byte as it was.

A secret is known by where it stands (the value of a key such as `password`) or by how it looks (a provider's token
prefix, an authorization header, the password in a URL, a PEM private key). There is no entropy guessing, so prose,
code, hashes and token counts pass untouched. What was a secret becomes a marker, `[redacted:KIND]`.

A rule is a *head* of bounded length and, where the secret has no fixed end, a *tail* that runs on. From the same table
come the pattern that finds whole secrets and the pattern that tells whether a text ends inside one; a stream holds
back exactly the latter. Once a head is complete its marker goes out and the tail is swallowed, so what is held stays
bounded. This is a net, not a boundary: a secret that nothing marks as one passes.
"""

import re
from functools import lru_cache
from operator import is_ as _is
from typing import Any

import attrs
import re2

MARKER = re.compile(r"\[redacted:[a-z0-9_]+\]")
DEPTH_MAX = 64  # deeper nesting is masked whole; JSON that people and models write stays below 20

_Span = tuple[str, int, int]  # a character class, and how often at least and at most
_TOKEN = r"[A-Za-z0-9_-]"
_ALNUM = r"[A-Za-z0-9]"
_DOTTED = rf"\.?{_TOKEN}"  # a full stop belongs to it only when more follows
_CREDENTIAL = r"[A-Za-z0-9_~+/=.-]"
_CREDENTIAL_TAIL = r"\.?[A-Za-z0-9_~+/=-]"
_USER = r'[^\s/?#:@"\x27`<>{}\[\]\\]'
_PASSWORD = r'[^\s/?#"\x27`<>{}\[\]\\]'  # may hold @: the last one before the host ends it
_BLANK = r"[ \t]"


@attrs.frozen
class _Rule:
    """One shape of secret: literals and bounded spans, then any number of `tail` (the pattern of one unit).

    A tail takes every word character, so that a secret glued to its end leaves with it.
    """

    kind: str
    head: tuple[str | _Span, ...]
    tail: str = ""

    def whole(self) -> str:
        head = "".join(re.escape(p) if isinstance(p, str) else f"{p[0]}{{{p[1]},{p[2]}}}" for p in self.head)
        return f"{self._edge()}{head}{f'(?:{self.tail})*' if self.tail else ''}"

    def begun(self) -> str:
        """Return the pattern of every text from which, with more to come, a match could grow (and perhaps a few others)."""
        rest = rf"(?:{self.tail})*\.?" if self.tail else ""
        for part in reversed(self.head):
            if isinstance(part, str):
                for char in reversed(part):
                    rest = f"{re.escape(char)}(?:{rest})?"
            else:
                rest = f"{part[0]}{{{min(part[1], 1)},{part[2]}}}(?:{rest})?"
        return f"{self._edge()}{rest}"

    def firsts(self) -> str:
        """Return the characters that it may begin with."""
        first = self.head[0]
        return first[0] if isinstance(first, str) else first[0].strip("[]")

    def _edge(self) -> str:
        return r"\b" if self.firsts().isalnum() else ""


def _any_case(word: str) -> tuple[_Span, ...]:
    return tuple((f"[{char.upper()}{char}]", 1, 1) for char in word)


_HEADER = (
    *_any_case("authorization"),
    ("[\"']", 0, 1),
    (_BLANK, 0, 4),
    ("[:=]", 1, 1),
    (_BLANK, 0, 4),
    ("[\"']", 0, 1),
)
_AUTHORIZATION = "authorization"
_PEM = "private_key"
_URL = "url_password"

_RULES = (
    _Rule("anthropic_key", ("sk-ant-", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("openai_key", ("sk-proj-", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("openai_key", ("sk-svcacct-", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("openai_key", ("sk-admin-", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("openrouter_key", ("sk-or-", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("openai_key", ("sk-", (_ALNUM, 20, 20)), _TOKEN),
    _Rule("groq_key", ("gsk_", (_ALNUM, 20, 20)), _TOKEN),
    _Rule("xai_key", ("xai-", (_ALNUM, 20, 20)), _TOKEN),
    _Rule("perplexity_key", ("pplx-", (_ALNUM, 20, 20)), _TOKEN),
    _Rule("huggingface_token", ("hf_", (_ALNUM, 30, 30)), _TOKEN),
    _Rule("github_token", ("gh", ("[pousr]", 1, 1), "_", (_ALNUM, 30, 30)), _TOKEN),
    _Rule("github_token", ("github_pat_", (_ALNUM, 20, 20)), _TOKEN),
    _Rule("gitlab_token", ("glpat-", (_TOKEN, 20, 20)), _DOTTED),
    _Rule("aws_key", ("A", ("[KS]", 1, 1), "IA", ("[A-Z0-9]", 16, 16)), _TOKEN),
    _Rule("google_key", ("AIza", (_TOKEN, 35, 35)), _TOKEN),
    _Rule("google_secret", ("GOCSPX-", (_TOKEN, 20, 20)), _TOKEN),
    _Rule("google_token", ("ya29.", (_TOKEN, 20, 20)), _DOTTED),
    _Rule("slack_token", ("xox", ("[abeprs]", 1, 1), "-", ("[A-Za-z0-9-]", 10, 10)), _TOKEN),
    _Rule("slack_token", ("xapp-", ("[A-Za-z0-9-]", 20, 20)), _TOKEN),
    _Rule("slack_webhook", ("hooks.slack.com/services/", ("[A-Za-z0-9/]", 16, 16)), "[A-Za-z0-9_/-]"),
    _Rule("stripe_key", (("[rs]", 1, 1), "k_", ("[a-z]", 4, 4), "_", (_ALNUM, 16, 16)), _TOKEN),
    _Rule("stripe_key", ("whsec_", (_ALNUM, 20, 20)), "[A-Za-z0-9_+/=-]"),
    _Rule("sendgrid_key", ("SG.", (_TOKEN, 16, 64), ".", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("palyra_token", ("plt_", (_TOKEN, 43, 43)), _TOKEN),
    _Rule("npm_token", ("npm_", (_ALNUM, 36, 36)), _TOKEN),
    _Rule("pypi_token", ("pypi-AgE", (_TOKEN, 16, 16)), _TOKEN),
    _Rule("age_key", ("AGE-SECRET-KEY-1", ("[A-Z0-9]", 16, 16)), _TOKEN),
    # The header of a JWT (RFC 7519) is ASCII JSON, whose base64url almost never holds - or _.
    _Rule("jwt", ("eyJ", (_ALNUM, 8, 400), ".", (_TOKEN, 6, 6)), _DOTTED),
    _Rule(_AUTHORIZATION, (*_HEADER, *_any_case("bearer"), (_BLANK, 1, 4), (_CREDENTIAL, 8, 8)), _CREDENTIAL_TAIL),
    _Rule(_AUTHORIZATION, (*_HEADER, *_any_case("basic"), (_BLANK, 1, 4), (_CREDENTIAL, 8, 8)), _CREDENTIAL_TAIL),
    _Rule(_AUTHORIZATION, (*_HEADER, *_any_case("token"), (_BLANK, 1, 4), (_CREDENTIAL, 8, 8)), _CREDENTIAL_TAIL),
    _Rule(_AUTHORIZATION, (*_any_case("bearer"), (_BLANK, 1, 4), (_CREDENTIAL, 20, 20)), _CREDENTIAL_TAIL),
    _Rule(_URL, ("://", (_USER, 0, 64), ":", (_PASSWORD, 1, 128), "@")),
    _Rule(_PEM, ("-----BEGIN ", ("[A-Z0-9 ]", 0, 32), "PRIVATE KEY", ("[A-Z ]", 0, 8), "-----")),
)


# --- a PEM block: its end is a line of its own, and a mention of its first line is no key ---

_PEM_WINDOW_BYTES = 16 * 1024  # an RSA-8192 key takes 7 KiB
_PEM_PREAMBLE_BYTES = 300  # RFC 1421 and RFC 9580 headers before the first line of base64


def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 32 * 1024 * 1024  # with the default of 8 MiB the counted spans make RE2 rebuild its automaton
    return re2.compile(pattern.encode(), options)


_PEM_END = _compile("-----END [A-Z0-9 ]{0,32}PRIVATE KEY[A-Z ]{0,8}-----")
_PEM_WORD = _compile("[A-Za-z0-9+/]{40}")
_PEM_CUT_SHORT = _compile(
    r"(?s).{0,300}?[A-Za-z0-9+/]{40,}=*(?:[^A-Za-z0-9+/=].{0,79}?[A-Za-z0-9+/]{40,}=*)*(?:(?:\s|\\[nr]){1,4}[A-Za-z0-9+/=]+)?"
)


def _pem_end(raw: bytes, at: int, final: bool) -> int | None:
    """Return where the key whose first line ends at `at` ends, `at` itself if there is none, None if more must come."""
    preamble = raw[at : at + _PEM_PREAMBLE_BYTES]
    word = _PEM_WORD.search(preamble)
    if word is None:
        return at if final or len(preamble) == _PEM_PREAMBLE_BYTES else None
    window = raw[at : at + _PEM_WINDOW_BYTES]
    if end := _PEM_END.search(window):
        return at + int(end.end()) if end.start() > word.start() else at
    if final or len(window) == _PEM_WINDOW_BYTES:
        return at + int(_PEM_CUT_SHORT.match(window).end())
    return None


# --- the scan that whole texts and streams share ---

_GATE = _compile("|".join(f"(?:{rule.whole()})" for rule in _RULES))
_BEGUN = _compile("(?:" + "|".join(f"(?:{rule.begun()})" for rule in _RULES) + r")\z")
_WHOLE = tuple((rule, _compile(rule.whole())) for rule in _RULES)
_BY_FIRST = {
    ord(first): tuple((rule, whole) for rule, whole in _WHOLE if first in rule.firsts())
    for first in "".join(rule.firsts() for rule in _RULES)
}
_TAILS = {rule.tail: _compile(f"(?:{rule.tail})*") for rule in _RULES if rule.tail}
_SHORTEST = len("://:p@")
_UNDECIDED = (b"", b".")  # what may stand between a tail and the end of what has arrived


def _marker(kind: str) -> str:
    return f"[redacted:{kind}]"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _begun_at(raw: bytes, pos: int) -> int:
    match = _BEGUN.search(raw, pos)
    return match.start() if match else len(raw)


def _mask(rule: _Rule, secret: bytes) -> bytes:
    marker = _marker(rule.kind).encode()
    if rule.kind == _URL:
        user = secret[len("://") :].partition(b":")[0]
        return b"".join((b"://", *_scan(user, 0, True)[0], b":", marker, b"@"))
    if rule.kind == _AUTHORIZATION:
        blank = max(secret.rfind(b" "), secret.rfind(b"\t"))
        return secret[: blank + 1] + marker
    return marker


def _scan(raw: bytes, pos: int, final: bool) -> tuple[list[bytes], int, str]:
    """Mask what is certain in `raw[pos:]`; the byte before `pos` is context.

    Return the pieces, the position up to which they reach, and the tail that is being swallowed there ("" if none).
    With `final` they reach the end.
    """
    pieces: list[bytes] = []
    done = pos
    cut = len(raw) if final else _begun_at(raw, pos)
    while (found := _GATE.search(raw, pos)) and (start := found.start()) <= cut:
        rule, match = next((rule, match) for rule, whole in _BY_FIRST[raw[start]] if (match := whole.match(raw, start)))
        pos = match.end()
        if start == cut:
            if rule.tail and raw[pos:] in _UNDECIDED:
                return [*pieces, raw[done:start], _mask(rule, raw[start:pos])], pos, rule.tail
            break
        end = _pem_end(raw, pos, final) if rule.kind == _PEM else pos
        if end is None:
            cut = start
            break
        if end > pos or rule.kind != _PEM:
            pieces += (raw[done:start], _mask(rule, raw[start:end]))
            done = pos = end
        if pos > cut:
            cut = _begun_at(raw, pos)
    pieces.append(raw[done:cut])
    return pieces, cut, ""


# --- keys that name secrets ---

_SECRET_KEYS = (
    *("password", "passwd", "passphrase", "secret", "authorization", "cookie"),
    *("api key", "apikey", "access key", "account key", "secret key", "private key", "signing key", "encryption key"),
    *("access token", "refresh token", "auth token", "id token", "api token", "bearer token", "session token"),
    *("security token", "bot token", "secret token", "csrf token", "personal access token"),
)
# The words may follow others (`db_password`, `X-Api-Key`) and carry a number, but must end the key: `password_policy`,
# `token_count` and `next_page_token` name no secret.
_SECRET_KEY = re.compile(rf"(?:^| )({'|'.join(_SECRET_KEYS)})s?(?: ?[0-9]+)?$")
_WORD_EDGE = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_KEYS_REMEMBERED = 4096


def _secret_kind(key: str) -> str:
    """Return the kind of secret that the value of `key` is by the key's name, or ""."""
    match = _SECRET_KEY.search(_WORD_EDGE.sub(" ", key).strip().lower())
    return match.group(1).replace(" ", "_") if match else ""


class Redactor:
    """Masks secrets in texts and in JSON-like values. What holds none is returned as the same object."""

    def __init__(self) -> None:
        self._key = lru_cache(_KEYS_REMEMBERED)(lambda key: (self.text(key), _secret_kind(key)))

    def text(self, text: str) -> str:
        """Return `text` with each secret replaced by its marker. Linear time; lone surrogates pass unchanged."""
        if len(text) < _SHORTEST:
            return text
        raw = _encode(text)
        if _GATE.search(raw) is None:
            return text
        masked = b"".join(_scan(raw, 0, True)[0])
        return text if masked == raw else _decode(masked)

    def value(self, value: Any) -> Any:
        """Return a JSON-like `value` with its secrets masked: by key first, then by the look of each text and key.

        Under a key that names a secret every text and number is masked, in lists too; the members of an object there
        are judged by their own keys. Dicts, lists and tuples are walked, anything else is itself. Nesting beyond
        DEPTH_MAX is replaced by a marker.
        """
        return self._value(value, "", DEPTH_MAX)

    def stream(self) -> "StreamRedactor":
        """Return a redactor for one text that arrives in pieces."""
        return StreamRedactor()

    def _value(self, value: Any, kind: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._named(value, kind) if kind else self.text(value)
        if isinstance(value, dict):
            return self._dict(value, depth) if depth else _marker("too_deep")
        if isinstance(value, (list, tuple)):
            if not depth:
                return _marker("too_deep")
            items = [self._value(item, kind, depth - 1) for item in value]
            return value if all(map(_is, items, value)) else type(value)(items)
        return _marker(kind) if kind and isinstance(value, (int, float)) and not isinstance(value, bool) else value

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        changed = False
        members = {}
        for key, member in value.items():
            new_key, kind = self._key(key) if isinstance(key, str) else (key, "")
            new_member = self._value(member, kind, depth - 1)
            changed = changed or new_key is not key or new_member is not member
            members[new_key] = new_member
        return members if changed else value

    @staticmethod
    def _named(text: str, kind: str) -> str:
        return text if not text or MARKER.fullmatch(text) else _marker(kind)


class StreamRedactor:
    """Masks secrets in a text that arrives in pieces.

    Whatever the pieces, what `feed` and the last `flush` return is, joined, what `Redactor.text` makes of the whole.
    Held back is only a suffix that could be the beginning of a secret: nothing in most prose, at most about 800
    characters, or 16 KiB inside a PEM block.
    """

    def __init__(self) -> None:
        self._left = b""  # the byte before what is held, for word boundaries
        self._held = b""
        self._tail = ""

    @property
    def held_chars(self) -> int:
        """How many characters have been fed and neither returned nor swallowed."""
        return len(_decode(self._held))

    def feed(self, text: str) -> str:
        """Take the next piece; return what is now certain, which may be empty."""
        return self._advance(text, final=False)

    def flush(self) -> str:
        """Return what is held back: the text has ended, and the next piece would begin another."""
        rest = self._advance("", final=True)
        self._left = self._held = b""
        self._tail = ""
        return rest

    def _advance(self, text: str, final: bool) -> str:
        raw = self._left + self._held + _encode(text)
        pos = len(self._left)
        if self._tail:
            pos = _TAILS[self._tail].match(raw, pos).end()
            if not final and raw[pos:] in _UNDECIDED:
                self._left, self._held = raw[:pos][-1:], raw[pos:]
                return ""
            self._tail = ""
        elif not self._held and not final and _GATE.search(raw, pos) is None and _BEGUN.search(raw, pos) is None:
            self._left = raw[-1:]
            return text
        pieces, done, self._tail = _scan(raw, pos, final)
        self._left, self._held = raw[:done][-1:], raw[done:]
        return _decode(b"".join(pieces))


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
