"""The body of an answer, made text: what is taken, how much of it, and in which characters. Sync and pure.

Only text is taken. What grows when it is unpacked is bounded by what comes out, and what is cut is said to be cut.
"""

import codecs
import re
import zlib

import attrs

_TEXT_TYPES = (
    "application/json",
    "application/xml",
    "application/javascript",
    "application/x-ndjson",
    "application/yaml",
    "application/toml",
)
_TEXT_SUFFIXES = ("+json", "+xml", "+yaml")  # RFC 6839, RFC 9512
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_GZIP_WINDOW = 31  # zlib.decompressobj: a gzip header, the largest window
_DECLARED_IN = 1024  # bytes in which a page must declare its characters (HTML, section 4.2.5.4)
_DECLARATION = re.compile(rb"""<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([\w.:-]+)""", re.IGNORECASE)
# Python's names of codecs that are charsets; its other codecs are none, or take quadratic time (punycode).
_CHARSETS = re.compile(r"utf-8|utf-16-[bl]e|ascii|(iso8859-|iso2022_|cp|koi8-|gb|big5|euc_|shift_jis|mac-|tis-)\w*|hz")
_WIDER = {  # what a browser reads under that name (WHATWG Encoding, section 4.2)
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "utf-16": "utf-16-le",
}


@attrs.frozen
class ContentType:
    """A media type in lower case, without parameters, and the charset that it declares, or ""."""

    media: str
    charset: str = ""

    @property
    def is_text(self) -> bool:
        return self.media.startswith("text/") or self.media in _TEXT_TYPES or self.media.endswith(_TEXT_SUFFIXES)

    @property
    def is_html(self) -> bool:
        return self.media in _HTML_TYPES


def content_type(field: str) -> ContentType:
    """Return what a Content-Type field says (RFC 9110, section 8.3). Of a missing one it is the type of any bytes."""
    charset = _CHARSET.search(field)
    media = field.partition(";")[0].strip().lower()
    return ContentType(media or "application/octet-stream", charset[1].lower() if charset else "")


class Unpacker:
    """Takes a body in pieces, unpacks gzip (RFC 1952) on the way, and keeps at most `limit_bytes` of what comes out.

    `full` says that there was more; `feed` must not be called after that. What came in is bounded too, since packed
    nothing may be endless.
    """

    def __init__(self, limit_bytes: int, *, gzip: bool) -> None:
        self.body = bytearray()
        self.full = False
        self._limit_bytes = limit_bytes
        self._gzip = gzip
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._taken_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece. Raises zlib.error when it is no gzip."""
        self._taken_bytes += len(piece)
        if self._gzip:
            self._unpack(piece)
        else:
            self.body += piece[: self._limit_bytes + 1 - len(self.body)]
        if len(self.body) > self._limit_bytes or (self._gzip and self._taken_bytes > self._limit_bytes):
            del self.body[self._limit_bytes :]
            self.full = True

    @property
    def broken(self) -> bool:
        """Whether the gzip has not come to its end, though there is no more of it."""
        return self._gzip and self._taken_bytes > 0 and not self.full and not self._member.eof

    def _unpack(self, piece: bytes) -> None:
        while piece and len(self.body) <= self._limit_bytes:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            self.body += self._member.decompress(piece, self._limit_bytes + 1 - len(self.body))
            piece = self._member.unused_data


@attrs.frozen
class Decoded:
    """Text, the codec that it was read with, and a remark on the reading, or ""."""

    text: str
    codec: str
    remark: str = ""


def decode(body: bytes, kind: ContentType, *, cut: bool = False) -> Decoded:
    """Return a body as text: by its byte order mark, else as declared outside or inside, else as UTF-8.

    Nothing is raised: bytes without a meaning become U+FFFD, and the remark says so. A character that `cut` left
    incomplete is dropped.
    """
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return _read(body[len(mark) :], codec, cut)
    declared = kind.charset or _declared(body, kind)
    known = _codec(declared)
    if known:
        return _read(body, known, cut)
    read = _read(body, "utf-8", cut)
    if declared:
        return attrs.evolve(read, remark=f"the charset {declared} is unknown, so it was read as UTF-8")
    if read.remark and kind.is_html:
        return _read(body, "cp1252", cut)  # what browsers take for a page that declares nothing
    return read


def _declared(body: bytes, kind: ContentType) -> str:
    if not (kind.is_html or kind.media.endswith(("/xml", "+xml"))):
        return ""
    found = _DECLARATION.search(body, 0, _DECLARED_IN)
    name = found[1].decode("ascii", "replace").lower() if found else ""
    return "utf-8" if name.startswith("utf-16") else name  # it could not have been read, were it so


def _codec(name: str) -> str:
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        return ""
    codec = _WIDER.get(codec, codec)
    return codec if _CHARSETS.fullmatch(codec) else ""


def _read(body: bytes, codec: str, cut: bool) -> Decoded:
    text = codecs.getincrementaldecoder(codec)("replace").decode(body, not cut)
    wrong = text.count("�") - body.count("�".encode())
    return Decoded(text, codec, f"{wrong} places are not valid {codec} and became U+FFFD" if wrong > 0 else "")
