r"""Text that any encoder accepts: the escape for bytes that are not UTF-8, and for what would deceive a reader.

Python hands undecodable bytes over as lone surrogates (PEP 383); JSON encoders refuse those, and a file name or
an argument that holds one must not end a run. Two escapes, both specified in docs/tape.md:

- `clean` is for text: a lone surrogate becomes its visible `\xNN` or `\uNNNN` spelling. It is not undone.
- `name_to_text` and `text_to_name` are for file names, and are exact inverses of one another.
"""

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_VIRAMA = 9  # its canonical combining class
_NAME_ESCAPE = re.compile(rb"\\\\|\\x([0-9a-f]{2})")
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")
# Unicode's Default_Ignorable_Code_Point outside Cc, Cf and Cn, and the empty braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_FORMING = re.compile("[\u200c\u200d\ufe0e\ufe0f]")  # joiners, and the selectors of an emoji's presentation
# Extended_Pictographic (emoji-data.txt) as far as it is assigned, and with it the five modifiers of skin.
_PICTOGRAPH = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u2388\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2605\u2607-\u2612\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2714"
    "\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763-\u2767\u2795-\u2797\u27a1"
    "\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f004\U0001f0cf"
    "\U0001f170\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a\U0001f201\U0001f202\U0001f21a\U0001f22f"
    "\U0001f232-\U0001f23a\U0001f250\U0001f251\U0001f300-\U0001f53d\U0001f546-\U0001f64f\U0001f680-\U0001f6d7"
    "\U0001f6dd-\U0001f6ec\U0001f6f0-\U0001f6fc\U0001f7e0-\U0001f7eb\U0001f7f0\U0001f90c-\U0001f93a\U0001f93c-\U0001f945"
    "\U0001f947-\U0001f9ff\U0001fa70-\U0001fa74\U0001fa78-\U0001fa7c\U0001fa80-\U0001fa86\U0001fa90-\U0001faac"
    "\U0001fab0-\U0001faba\U0001fac0-\U0001fac5\U0001fad0-\U0001fad9\U0001fae0-\U0001fae7\U0001faf0-\U0001faf6]"
)
# UTS #51: the joiner between two emoji, a presentation selector, and the one in a keycap.
_EMOJI = re.compile(f"{_PICTOGRAPH}(?:\ufe0f?\u200d{_PICTOGRAPH}|[\ufe0e\ufe0f])|[0-9#*]\ufe0f\u20e3")


def clean(text: str) -> str:
    r"""Return `text` with each lone surrogate spelled out: U+DC80..U+DCFF as `\xNN`, the others as `\uNNNN`."""
    return _SURROGATE.sub(_spell, text) if _has_surrogate(text) else text


def name_to_text(name: bytes) -> str:
    r"""Return a file name (or path) as text that encodes as UTF-8 and maps back to exactly these bytes.

    A name that is valid UTF-8 and holds no `\x` is itself. In any other name each undecodable byte becomes
    `\xNN` and each backslash `\\`, so an escaped name can be told by the `\x` that it holds.
    """
    text = name.decode("utf-8", "surrogateescape")
    if "\\x" not in text and not _has_surrogate(text):
        return text
    return _SURROGATE.sub(_spell, text.replace("\\", "\\\\"))


def text_to_name(text: str) -> bytes:
    """Return the file name that `name_to_text` spelled as `text`. Raises ValueError for an escape it never writes."""
    raw = text.encode("utf-8", "surrogateescape")
    if b"\\x" not in raw:
        return raw
    name = _NAME_ESCAPE.sub(_unspell, raw)
    if name_to_text(name) != text:
        raise ValueError(f"not an escaped file name: {text!r}")
    return name


def visible(text: str) -> str:
    r"""Return `text` with every character that a terminal would act on or hide spelled out as `\uNNNN`.

    Newline and tab stay. Control characters, bidirectional overrides, zero-width and other invisible characters,
    line separators, private and unassigned ones do not (Unicode general categories Cc, Cf, Cs, Zl, Zp, Co, Cn and
    Default_Ignorable_Code_Point), so what a person reads is what a tool will get. This is for reading only and is not
    undone. What forms the characters at both its sides stays: the joiner and the selectors of emoji (UTS #51), and joiners
    within the words of cursive and Indic scripts (after UAX #31, 2.3).
    """
    bare = text.replace("\n", "").replace("\t", "")
    if bare.isprintable() and not _INVISIBLE.search(bare):  # most of any text, in any script, at a glance
        return text
    shown, done = list[str](), 0
    for each in _FORMING.finditer(text):
        if _forms(text, at := each.start()):
            shown += [text[done:at].translate(_SHOWN), text[at]]
            done = at + 1
    return "".join([*shown, text[done:].translate(_SHOWN)])


def _forms(text: str, at: int) -> bool:
    """Return whether the joiner or selector there forms what is at both its sides, or before it."""
    for start in range(max(at - 2, 0), at):
        if (emoji := _EMOJI.match(text, start, at + 2)) and emoji.end() > at:
            return True
    before, after = text[max(at - 2, 0) : at], text[at + 1 : at + 2]
    if text[at] in "\ufe0e\ufe0f" or not before or not _is_letter(after):
        return False
    if unicodedata.combining(before[-1]) == _VIRAMA:
        return _is_letter(before[:-1]) and len({ord(char) >> 7 for char in before + after}) == 1  # of one Indic block
    return _is_letter(before[-1]) and {unicodedata.bidirectional(char) for char in (before[-1], after)} == {"AL"}


def _is_letter(char: str) -> bool:
    return char != "" and unicodedata.category(char) == "Lo"


class _Shown(dict[int, int | str]):
    """What each character is shown as, found out when it is met first. Those of the higher planes are rare, and not kept."""

    def __missing__(self, point: int) -> int | str:
        shown = point if chr(point) in "\n\t" or _is_plain(chr(point)) else _spell_point(point)
        if point <= 0xFFFF:
            self[point] = shown
        return shown


_SHOWN = _Shown()


def _is_plain(char: str) -> bool:
    return unicodedata.category(char) not in _HIDDEN_CATEGORIES and not _INVISIBLE.match(char)


def _has_surrogate(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _spell(match: re.Match[str]) -> str:
    point = ord(match.group())
    return f"\\x{point - 0xDC00:02x}" if 0xDC80 <= point <= 0xDCFF else _spell_point(point)


def _spell_point(point: int) -> str:
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _unspell(match: re.Match[bytes]) -> bytes:
    digits = match.group(1)
    return bytes([int(digits, 16)]) if digits else b"\\"
