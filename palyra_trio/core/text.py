r"""Text that any encoder accepts: the escape for bytes that are not UTF-8, and for what would deceive a reader.

Python hands undecodable bytes over as lone surrogates (PEP 383); JSON encoders refuse those, and a file name or
an argument that holds one must not end a run. Two escapes, both specified in docs/tape.md:

- `clean` is for text: a lone surrogate becomes its visible `\xNN` or `\uNNNN` spelling. It is not undone.
- `name_to_text` and `text_to_name` are for file names, and are exact inverses of one another.
"""

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME_ESCAPE = re.compile(rb"\\\\|\\x([0-9a-f]{2})")
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")
# Unicode's Default_Ignorable_Code_Point outside Cc, Cf and Cn, and the empty braille pattern. The emoji presentation selectors U+FE0E and U+FE0F stay.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)


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
    undone. An emoji of several people shows its parts, since the joiner U+200D is among them.
    """
    bare = text.replace("\n", "").replace("\t", "")
    if bare.isprintable() and not _INVISIBLE.search(bare):  # most of any text, in any script, at a glance
        return text
    return text.translate(_SHOWN)


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
