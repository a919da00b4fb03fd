"""Secrets to plant: of every provider's shape, the vault's in every spelling, in texts whose other words are known.

What is said of a text is exact: `expected` is the text as it must be recorded, each marker standing as MASK.
"""

import base64
import json
import random
import string
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

import attrs

MASK = "\N{SECTION SIGN}"
_ALNUM = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + string.digits
_TOKEN = _ALNUM + "-_"
WINDOW = 12  # so many characters of a secret in a row are a leak


@attrs.frozen
class Secret:
    """A secret as it is written. `needles` are pieces none of which may be anywhere, `masked` is what is to stand there."""

    kind: str
    written: str
    needles: tuple[str, ...]
    masked: str = MASK


def _windows(text: str) -> tuple[str, ...]:
    middle = (len(text) - WINDOW) // 2
    return tuple(dict.fromkeys((text[:WINDOW], text[middle : middle + WINDOW], text[-WINDOW:])))


class Planter:
    """Makes secrets and texts, the same for the same `seed`. `vault` are the values that the installation keeps."""

    def __init__(self, seed: int, vault: Sequence[str] = ()) -> None:
        self.random = random.Random(seed)
        self._vault = vault
        self._word = 0

    # --- secrets ---

    def _some(self, least: int, most: int, alphabet: str = _ALNUM) -> str:
        return "".join(self.random.choices(alphabet, k=self.random.randint(least, most)))

    def provider(self) -> Secret:
        """Return a new secret of a random provider's shape."""
        head, body, tail = self.random.choice(_SHAPES)(self)
        return Secret("provider", f"{head}{body}{tail}", _windows(body))

    def placed(self) -> Secret:
        """Return a new secret that is one by what stands before it."""
        body = self._some(20, 40)
        if self.random.random() < 0.5:
            return Secret("header", f"Authorization: Bearer {body}", _windows(body), f"Authorization: Bearer {MASK}")
        return Secret("url", f"https://app:{body}@db.example/x", _windows(body), f"https://app:{MASK}@db.example/x")

    def private_key(self) -> Secret:
        """Return a PEM block of up to fifteen lines."""
        kind = self.random.choice(["", "RSA ", "EC ", "OPENSSH "]) + "PRIVATE"
        lines = [self._some(64, 64, _ALNUM + "+/") for _ in range(self.random.randint(2, 15))]
        needles = tuple(each[:WINDOW] for each in lines) + tuple(each[-WINDOW:] for each in lines)
        block = "\n".join((f"-----BEGIN {kind} KEY-----", *lines, f"-----END {kind} KEY-----"))
        return Secret("pem", block, needles)

    def kept(self) -> Secret:
        """Return a value of the vault in a random spelling."""
        value = self.random.choice(self._vault)
        raw = value.encode()
        written, spelled = self.random.choice(
            [
                (value, value),
                (json.dumps(value)[1:-1], value),
                (json.dumps(value, ensure_ascii=False)[1:-1], value),
                (raw.hex(), raw.hex()),
                (raw.hex().upper(), raw.hex().upper()),
                (quote(value, safe=""), value),
                (base64.b64encode(raw).decode(), base64.b64encode(raw).decode()),
                (base64.urlsafe_b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()),
            ]
        )
        letters = max("".join(each if each in _ALNUM else " " for each in spelled).split(), key=len)
        return Secret("vault", written, _windows(letters))

    def within_base64(self) -> Secret:
        """Return a value of the vault inside base64 of more: its own digits must go, those of its surroundings stay."""
        value = self.random.choice(self._vault).encode()
        before, after = b"=" * self.random.randint(1, 4), b"?" * self.random.randint(1, 4)
        written = base64.b64encode(before + value + after).decode()
        return Secret("vault", written, _windows(written[8:-8]), "")

    def any(self) -> Secret:
        makers: list[Callable[[], Secret]] = [self.provider] * 6 + [self.placed] * 2 + [self.private_key]
        if self._vault:
            makers += [self.kept] * 4
        return self.random.choice(makers)()

    # --- texts ---

    def text(self, secrets: Sequence[Secret]) -> tuple[str, str]:
        """Return a text that holds the secrets, and what must be recorded of it."""
        pieces, expected = [], []
        for secret in secrets:
            words = self.words()
            pieces += [words, secret.written]
            expected += [words, secret.masked]
        last = self.words()
        return "".join((*pieces, last)), "".join((*expected, last))

    def words(self) -> str:
        """Return golden text: no two are alike, and what looks like a secret in it is none."""
        self._word += 1
        some = self.random.sample(_GOLDEN, 3)
        return f" «{self._word}» {' '.join(some)}{self.random.choice(_EDGES)}"

    def chunks(self, text: str) -> list[str]:
        """Cut a text at random: in one, anywhere, into characters, or from its end in growing pieces."""
        match self.random.randrange(4):
            case 0:
                return [text]
            case 1:
                return list(text) if len(text) < 2000 else self._cut(text, 3)
            case 2:
                return self._cut(text, self.random.choice([2, 7, 40, 400]))
            case _:
                return [each[::-1] for each in self._cut(text[::-1], 17)][::-1]

    def _cut(self, text: str, about: int) -> list[str]:
        pieces, at = [], 0
        while at < len(text):
            size = self.random.randint(1, 2 * about)
            pieces.append(text[at : at + size])
            at += size
        return pieces


def vault_values(random_: random.Random, count: int) -> Iterator[str]:
    """Yield values to keep: plain ones, and some with what an encoding has to spell."""
    for number in range(count):
        halves = ["".join(random_.choices(_ALNUM, k=random_.randint(14, 30))) for _ in range(2)]
        yield random_.choice(["", '"q"', "/+&", "\\n", "é€", " and ", "%41"]).join(halves) + str(number)


_Shape = Callable[[Planter], tuple[str, str, str]]


def _shape(head: str, least: int, most: int, alphabet: str = _ALNUM, tail: str = "") -> _Shape:
    return lambda planter: (head, planter._some(least, most, alphabet), tail)


_SHAPES: tuple[_Shape, ...] = (
    _shape("sk-ant-api03-", 60, 95, _ALNUM, "AA"),
    _shape("sk-proj-", 48, 150, _ALNUM),
    _shape("sk-svcacct-", 48, 60),
    _shape("sk-admin-", 48, 60),
    _shape("sk-or-v1-", 64, 64),
    _shape("sk-", 48, 48),
    _shape("gsk_", 52, 52),
    _shape("xai-", 80, 80),
    _shape("pplx-", 48, 56),
    _shape("hf_", 34, 37),
    *(_shape(f"gh{each}_", 36, 36) for each in "pousr"),
    _shape("github_pat_", 82, 82, _ALNUM),
    _shape("glpat-", 20, 26),
    _shape("AKIA", 16, 16, _UPPER),
    _shape("ASIA", 16, 16, _UPPER),
    _shape("AIza", 35, 35),
    _shape("GOCSPX-", 28, 28),
    _shape("ya29.", 60, 150),
    *(_shape(f"xox{each}-", 40, 56) for each in "abeprs"),
    _shape("xapp-", 50, 60),
    _shape("hooks.slack.com/services/", 40, 44),
    _shape("sk_live_", 24, 99),
    _shape("rk_test_", 24, 99),
    _shape("whsec_", 32, 32),
    lambda planter: (f"SG.{planter._some(22, 22)}.", planter._some(43, 43), ""),
    _shape("plt_", 43, 43, _TOKEN),
    _shape("npm_", 36, 36),
    _shape("pypi-AgEIcHlwaS5vcmc", 60, 150),
    _shape("AGE-SECRET-KEY-1", 58, 58, _UPPER),
    lambda planter: ("eyJhbGciOiJIUzI1NiJ9.", planter._some(40, 300), f".{planter._some(43, 43)}"),
)

_GOLDEN = (
    "a task-force", "sk-folding-cube", "max_tokens=4096", "commit 3f9d2c1e8a7b", "http://localhost:8080/path", "naïve",
    "the `token` count", "if (a < b && c)", "sha256:9f86d081884c7d65", "Basic English", "npm_config_registry", "漢字",
    "eyJuZXh0IjoiY3Vyc29yIn0", "user@example.com", "next_page_token", "risk-averse", "/etc/ssl", "ghost_writer",
)  # fmt: skip
_EDGES = (" ", "\n", ' "', " (", " = ", ", ")
