"""The two escapes are what docs/tape.md says; what is shown hides nothing."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.text import clean, name_to_text, text_to_name, visible

NAMES: list[tuple[str, str]] = json.loads((Path(__file__).parents[1] / "golden/chain.json").read_text("utf-8"))["names"]
ANY_TEXT = st.text(st.characters())
FORMING = frozenset("\u200c\u200d\ufe0e\ufe0f")
FORMS = re.compile(
    "(?<=[😀🏽♀])(?:\ufe0f?\u200d(?=[😀🏽♀])|\ufe0f)|(?<=1)\ufe0f(?=\u20e3)"
    "|(?<=[به])[\u200c\u200d](?=[به])|(?<=[कष]\u094d)[\u200c\u200d](?=[कष])"
)
TRICKY_TEXT = st.text(st.sampled_from([*"😀🏽♀بهकषab1\u094d\u20e3\u200b\n\u200c\u200d\ufe0f"]))
FILE_NAMES = st.binary(max_size=60).map(lambda name: name.replace(b"\0", b"").replace(b"/", b""))
TRICKY_NAMES = st.lists(
    st.sampled_from([b"\\", b"x", b"\\x", b"ff", b"5c", b"\xff", b"\xc3", b"\xa9", "é".encode(), b"\xed\xa0\x80"])
).map(b"".join)


@pytest.mark.parametrize(("name", "text"), NAMES)
def test_a_golden_name_is_written_as_the_specification_says(name: str, text: str) -> None:
    assert name_to_text(bytes.fromhex(name)) == text
    assert text_to_name(text) == bytes.fromhex(name)


@given(FILE_NAMES | TRICKY_NAMES)
def test_a_name_comes_back_as_exactly_its_bytes(name: bytes) -> None:
    text = name_to_text(name)
    text.encode()
    assert text_to_name(text) == name


@given(FILE_NAMES | TRICKY_NAMES, FILE_NAMES | TRICKY_NAMES)
def test_two_names_never_share_a_text(one: bytes, other: bytes) -> None:
    assert (name_to_text(one) == name_to_text(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\")))
def test_a_utf8_name_without_a_backslash_is_itself(text: str) -> None:
    assert name_to_text(text.encode()) == text


@given(ANY_TEXT | TRICKY_NAMES.map(lambda name: name.decode("latin-1")))
def test_a_text_is_a_name_only_if_that_name_is_written_so(text: str) -> None:
    try:
        name = text_to_name(text)
    except ValueError:
        return
    assert name_to_text(name) == clean(text)


@pytest.mark.parametrize("text", [r"a\xzz", r"C:\xampp", r"\xFF", r"\x41", r"a\b\xff", "\\\\x\ud800"])
def test_an_escape_that_no_name_is_written_with_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an escaped file name|surrogates not allowed"):
        text_to_name(text)


@given(ANY_TEXT)
def test_clean_text_encodes_and_is_clean_for_good(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert clean(cleaned) == cleaned


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_without_surrogates_is_clean_as_it_is(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\udcffb", r"a\xffb"),
        ("\udc80", r"\x80"),
        ("\udc7f", r"\udc7f"),
        ("\udd00", r"\udd00"),
        ("\ud800", r"\ud800"),
        ("\ud83d\ude00", r"\ud83d\ude00"),
        ("é\\\udcfc", r"é\\xfc"),
    ],
)
def test_a_lone_surrogate_is_spelled_out(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\u001b[2Jgone"),
        ("\x9b31m", r"\u009b31m"),
        ("a\rb\x08\x7f\0", r"a\u000db\u0008\u007f\u0000"),
        ("\u202etxt.exe\u202c", r"\u202etxt.exe\u202c"),
        ("\u2066\u2067\u2068\u2069\u200e\u200f\u061c", r"\u2066\u2067\u2068\u2069\u200e\u200f\u061c"),
        ("pass\u200bword\ufeff\u2060", r"pass\u200bword\ufeff\u2060"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\U000e0041", r"\U000e0041"),
        ("\u3164\u115f\u034f\ufe00\U000e0100", r"\u3164\u115f\u034f\ufe00\U000e0100"),
        ("pass\u200dword \u200c😀", r"pass\u200dword \u200c😀"),
        ("\u200d😀\u200d", r"\u200d😀\u200d"),
        ("😀\u200d\u200d😀", r"😀\u200d\u200d😀"),
        ("😀\u200c😀", r"😀\u200c😀"),
        ("a\ufe0f\u200d😀", r"a\ufe0f\u200d😀"),
        ("😀\ufe0f\ufe0f 1\ufe0f", "😀\ufe0f\\ufe0f 1\\ufe0f"),
        ("سلام\u200d ب\u200c\u200cه", r"سلام\u200d ب\u200c\u200cه"),
        ("क\u094d\u200d世", "क\u094d\\u200d世"),
        ("क\u200dष a\u094d\u200dष", "क\\u200dष a\u094d\\u200dष"),
        ("ש\u200dל 世\u200c界", r"ש\u200dל 世\u200c界"),
        ("\ue000\ufdd0", r"\ue000\ufdd0"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_acts_on_a_terminal_or_hides_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\tand a tab",
        "Grüße, 世界, Привет, سلام",
        "é e\u0301",
        "😀 ⚠\ufe0f ⌨\ufe0e 🇩🇪 👍🏽 1\ufe0f\u20e3 #\ufe0f\u20e3",
        "👩\u200d👩\u200d👧 👩🏽\u200d🚀 🏳\ufe0f\u200d🌈 ❤\ufe0f\u200d🔥 🙅\u200d♀\ufe0f",
        "می\u200cخواهم",
        "क्\u200dष क्\u200cष ක්\u200dර",
        "a b",
    ],
)
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@given(ANY_TEXT.filter(lambda text: not FORMING.intersection(text)), ANY_TEXT)
def test_only_what_forms_its_neighbours_is_shown_by_them(one: str, other: str) -> None:
    assert visible(f"{one} {other}") == f"{visible(one)} {visible(other)}"
    assert visible(one) == "".join(map(visible, one))


@given(TRICKY_TEXT)
def test_nothing_invisible_is_shown_but_what_forms_its_neighbours(text: str) -> None:
    left = FORMS.sub("", visible(text))
    assert not FORMING.intersection(left)
    assert {unicodedata.category(char) for char in left if char != "\n"}.isdisjoint({"Cc", "Cf"})


def test_a_long_row_of_joiners_is_shown_in_no_time() -> None:
    assert visible("😀\u200d" * 100_000) == "😀\u200d" * 99_999 + "😀\\u200d"
    assert visible("\u200d\ufe0f" * 100_000) == "\\u200d\\ufe0f" * 100_000


def test_every_character_is_shown_as_it_is_or_spelled_out() -> None:
    for point in range(0x110000):
        char = chr(point)
        hides = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn") and char not in "\n\t"
        shown = visible(char)
        assert shown in (char, f"\\u{point:04x}", f"\\U{point:08x}")
        assert not (hides and shown == char)


@given(ANY_TEXT)
def test_nothing_that_is_shown_is_a_control_or_format_character(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert {unicodedata.category(char) for char in shown if char not in FORMING | {"\n", "\t"}}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )


def test_every_pictograph_is_a_visible_character() -> None:
    table = [chr(point) for point in range(0x80, 0x110000) if visible(f"{chr(point)}\ufe0f")[-1:] == "\ufe0f"]
    assert len(table) > 1200
    assert {unicodedata.category(char) for char in table} <= {"So", "Sm", "Sk", "Po", "Pd", "Ll"}
    assert {"So"} == {unicodedata.category(char) for char in table if ord(char) > 0xFFFF} - {"Sk"}
