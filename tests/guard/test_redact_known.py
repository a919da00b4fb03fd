"""The values that this installation keeps are found in every encoding and over every cut, and nothing else is."""

import base64
import json
import random
import string
import sysconfig
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.guard.redact_known import MIN_BYTES, KnownValues
from palyra_trio.guard.redact_marker import MARKER, Markers, has_marker
from palyra_trio.guard.redactor import Redactor

KEY = b"the key of this installation"
VALUE = 'p@ss "wörd"\nof two lines'
LETTERS = string.ascii_letters + string.digits + "-_/+.!? \"'\\\né"
WORDS = ["the ", "call ", "to ", "max_tokens=4096 ", "def f(x):\n", '{"usage": 12}', "ü", ", ", "0x7f ", "==\n"]


def knowing(*values: str) -> Redactor:
    redactor = Redactor()
    redactor.know(values, KEY)
    return redactor


def forms(value: str) -> list[str]:
    """Return what others make of a value: the forms that must not show."""
    raw = value.encode()
    return [
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        *(base64.b64encode(b"user:"[:n] + raw + b" and more"[:m]).decode() for n in range(4) for m in range(4)),
        *(base64.urlsafe_b64encode(b"xyz"[:n] + raw).decode() for n in range(3)),
        raw.hex(),
        raw.hex().upper(),
        quote(value, safe=""),
    ]


def leaks(text: str, value: str) -> list[str]:
    """Return the forms of `value` that stand in `text`, each without what its neighbours have a part in."""
    return [
        form for form in (each.strip('"')[4:-6] for each in forms(value)) if len(form) >= MIN_BYTES and form in text
    ]


def cut(text: str, rng: random.Random) -> list[str]:
    pieces, at = [], 0
    while at < len(text):
        size = rng.choice((1, 1, 2, 3, 4, 5, 8, 13, 40))
        pieces.append(text[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("form", range(len(forms(VALUE))))
def test_a_value_is_found_in_every_form(form: int) -> None:
    written = forms(VALUE)[form]
    masked = knowing(VALUE).text(f"before {written} after")

    assert has_marker(masked)
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert not leaks(masked, VALUE)


def test_one_value_has_one_marker_in_all_its_forms_and_another_has_another() -> None:
    redactor = knowing("first secret", "second secret")
    markers = {MARKER.search(redactor.text(form)).group() for form in forms("first secret")}  # type: ignore[union-attr]

    assert len(markers) == 1
    assert redactor.text("second secret") not in markers


def test_a_value_that_ordinary_text_would_hold_is_not_looked_for() -> None:
    text = "a" * MIN_BYTES

    assert knowing("a" * (MIN_BYTES - 1)).text(text) is text
    assert not KnownValues(["short"], Markers())


def test_the_longest_of_two_values_is_the_one_that_is_masked() -> None:
    redactor = knowing("abcdefgh", "abcdefghijkl")

    assert redactor.text("abcdefghijkl") != redactor.text("abcdefgh")
    assert MARKER.fullmatch(redactor.text("abcdefghijkl"))


def test_a_value_that_is_part_of_a_marker_does_not_break_markers() -> None:
    redactor = knowing("redacted:vault", "redacted")
    once = redactor.text(f"ghp_{'a1B2c3D4e5' * 4}")

    assert redactor.text(once) == once


def test_values_can_change_while_a_stream_is_open() -> None:
    redactor = knowing("old secret")
    stream = redactor.stream()
    begun = stream.feed("an old sec")
    redactor.know(["new secret"], KEY)
    shown = begun + stream.feed("ret is none, a new sec") + stream.feed("ret is") + stream.flush()

    assert shown.startswith("an old secret is none, a ")
    assert "new secret" not in shown


def test_a_value_does_not_print() -> None:
    assert "first secret" not in repr(knowing("first secret")) + repr(KnownValues(["first secret"], Markers()))


values = st.lists(st.text('abAB01é\n"', min_size=MIN_BYTES, max_size=14), min_size=1, max_size=4)


@given(values, st.data())
@settings(deadline=None, max_examples=200)
def test_a_stream_says_what_the_whole_would_however_it_is_cut(kept: list[str], data: st.DataObject) -> None:
    redactor = knowing(*kept)
    beginnings = [value[:size] for value in kept for size in (1, 5, len(value) - 1)]
    pieces = st.sampled_from([*kept, *beginnings, *(form for value in kept for form in forms(value)), *WORDS])
    text = "".join(data.draw(st.lists(pieces, max_size=8)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    stream = redactor.stream()
    shown = [stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert "".join([*shown, stream.flush()]) == redactor.text(text)
    assert redactor.text(redactor.text(text)) == redactor.text(text)


def plant(count: int, seed: int) -> None:
    """Plant secrets in texts, each in some form, and look for them in what streams of random pieces show."""
    rng = random.Random(seed)
    for _ in range(count // 40):
        kept = ["".join(rng.choices(LETTERS, k=rng.randint(12, 60))) for _ in range(40)]
        redactor = knowing(*kept)
        for value in kept:
            words = rng.choices(WORDS, k=rng.randint(0, 30))
            written = rng.choice(forms(value))
            text = "".join(words) + written + "".join(rng.choices(WORDS, k=5))
            stream = redactor.stream()
            shown = "".join([*map(stream.feed, cut(text, rng)), stream.flush()])
            assert not leaks(shown, value), (seed, value, written)
            assert MARKER.search(shown)
            assert redactor.text(text) == shown


def test_no_planted_secret_shows_in_a_stream() -> None:
    plant(400, seed=1)


@pytest.mark.slow
def test_of_4000_planted_secrets_none_shows_in_a_stream() -> None:
    plant(4000, seed=2)


def test_ordinary_text_with_a_full_vault_survives_byte_for_byte() -> None:
    rng = random.Random(3)
    redactor = knowing(*("".join(rng.choices(string.ascii_letters + string.digits, k=24)) for _ in range(200)))
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-d]*.py")):
        text = path.read_text(errors="surrogateescape")
        assert redactor.text(text) is text


@pytest.mark.parametrize("count", [5, 1000])
def test_the_median_character_is_shown_with_the_piece_that_it_came_in(count: int) -> None:
    rng = random.Random(5)
    redactor = knowing(*("".join(rng.choices(string.ascii_letters + string.digits, k=40)) for _ in range(count)))
    text = (Path(sysconfig.get_path("stdlib")) / "ast.py").read_text()[:20_000]
    stream, waiting, shown = redactor.stream(), [], 0
    for at in range(0, len(text), 4):
        shown += len(stream.feed(text[at : at + 4]))
        waiting.append(min(at + 4 - shown, 4))

    assert sum(waiting) < len(text) / 4
    if count == 5:
        assert sorted(waiting)[len(waiting) // 2] == 0  # and most pieces are shown whole
