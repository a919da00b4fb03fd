"""The shapes of secrets that anybody issues: provider tokens, authorization headers, passwords in URLs, PEM private keys.

A rule is a *head* of bounded length and, where the secret has no fixed end, a *tail* that runs on. From the same table
come the pattern that finds whole secrets and the pattern that tells whether a text ends inside one; a stream holds
back exactly the latter. Once a head is complete its marker goes out and the tail is swallowed, so what is held stays
bounded. There is no entropy guessing. Which secrets this installation keeps is not known here.
"""

import re
from typing import Any

import attrs
import re2

from palyra_trio.guard.redact_marker import Markers

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
        """Return the pattern of a whole secret; its first group is the head."""
        head = "".join(re.escape(p) if isinstance(p, str) else f"{p[0]}{{{p[1]},{p[2]}}}" for p in self.head)
        return f"{self._edge()}({head}){f'(?:{self.tail})*' if self.tail else ''}"

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
SHORTEST = len("://:p@")
UNDECIDED = (b"", b".")  # what may stand between a tail and the end of what has arrived


def _begun_at(raw: bytes, pos: int) -> int:
    match = _BEGUN.search(raw, pos)
    return match.start() if match else len(raw)


def _mask(rule: _Rule, match: Any, end: int, markers: Markers) -> bytes:
    """Return what stands in for a match that reaches to `end`. A tail may still be to come, so a marker is of the head."""
    head: bytes = match.group(1)
    if rule.kind == _URL:
        user, _, password = head[len("://") : -1].partition(b":")
        masked = scan(user, 0, markers, final=True)[0]
        return b"".join((b"://", *masked, b":", markers.of(rule.kind, password), b"@"))
    if rule.kind == _AUTHORIZATION:
        blank = max(head.rfind(b" "), head.rfind(b"\t"))
        return head[: blank + 1] + markers.of(rule.kind, head[blank + 1 :])
    return markers.of(rule.kind, match.string[match.start() : end] if rule.kind == _PEM else head)


def found(raw: bytes, pos: int = 0) -> bool:
    """Tell whether a secret begins in `raw[pos:]`. A key block needs a closer look."""
    return _GATE.search(raw, pos) is not None


def begun(raw: bytes, pos: int = 0) -> bool:
    """Tell whether a secret may begin in `raw[pos:]`, with more to come."""
    return _BEGUN.search(raw, pos) is not None


def tail_end(tail: str, raw: bytes, pos: int) -> int:
    """Return where the tail that is being swallowed ends, as far as `raw` goes."""
    return int(_TAILS[tail].match(raw, pos).end())


def scan(raw: bytes, pos: int, markers: Markers, *, final: bool) -> tuple[list[bytes], int, str]:
    """Mask what is certain in `raw[pos:]`; the byte before `pos` is context.

    Return the pieces, the position up to which they reach, and the tail that is being swallowed there ("" if none).
    With `final` they reach the end.
    """
    pieces: list[bytes] = []
    done = pos
    cut = len(raw) if final else _begun_at(raw, pos)
    while (gate := _GATE.search(raw, pos)) and (start := gate.start()) <= cut:
        rule, match = next((rule, match) for rule, whole in _BY_FIRST[raw[start]] if (match := whole.match(raw, start)))
        pos = match.end()
        if start == cut:
            if rule.tail and raw[pos:] in UNDECIDED:
                return [*pieces, raw[done:start], _mask(rule, match, pos, markers)], pos, rule.tail
            break
        end = _pem_end(raw, pos, final) if rule.kind == _PEM else pos
        if end is None:
            cut = start
            break
        if end > pos or rule.kind != _PEM:
            pieces += (raw[done:start], _mask(rule, match, end, markers))
            done = pos = end
        if pos > cut:
            cut = _begun_at(raw, pos)
    pieces.append(raw[done:cut])
    return pieces, cut, ""
