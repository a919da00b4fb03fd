import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.tools.fetch_body import ContentType, Unpacker, content_type, decode

HTML = ContentType("text/html")
TEXT = ContentType("text/plain")


@pytest.mark.parametrize(
    ("field", "media", "charset", "is_text"),
    [
        ("text/plain", "text/plain", "", True),
        ("Text/HTML; charset=UTF-8", "text/html", "utf-8", True),
        ('text/html;charset="iso-8859-1"; x=y', "text/html", "iso-8859-1", True),
        ("application/json", "application/json", "", True),
        ("application/problem+json", "application/problem+json", "", True),
        ("image/svg+xml", "image/svg+xml", "", True),
        ("image/png", "image/png", "", False),
        ("application/pdf", "application/pdf", "", False),
        ("application/x-json", "application/x-json", "", False),
        ("", "application/octet-stream", "", False),
        ("; charset=utf-8", "application/octet-stream", "utf-8", False),
    ],
)
def test_a_content_type_says_what_is_text(field: str, media: str, charset: str, is_text: bool) -> None:
    kind = content_type(field)
    assert kind == ContentType(media, charset)
    assert kind.is_text == is_text


# --- size ---


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 100))
def test_what_is_kept_is_the_beginning_and_full_says_whether_there_was_more(pieces: list[bytes], limit: int) -> None:
    whole, unpacker = b"".join(pieces), Unpacker(limit, gzip=False)
    for piece in pieces:
        if not unpacker.full:
            unpacker.feed(piece)
    assert unpacker.body == whole[:limit]
    assert unpacker.full == (len(whole) > limit)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.integers(1, 50))
def test_packed_members_are_unpacked_one_after_the_other(members: list[bytes], size: int) -> None:
    packed, unpacker = b"".join(map(gzip.compress, members)), Unpacker(4096, gzip=True)
    for start in range(0, len(packed), size):
        unpacker.feed(packed[start : start + size])
    assert unpacker.body == b"".join(members)
    assert not unpacker.full


def test_a_bomb_is_cut_at_the_limit_and_never_held_whole() -> None:
    bomb, unpacker = gzip.compress(bytes(16 * 1024 * 1024)), Unpacker(1000, gzip=True)
    tracemalloc.start()
    unpacker.feed(bomb)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert unpacker.full
    assert unpacker.body == bytes(1000)
    assert peak_bytes < 1024 * 1024


def test_a_bomb_of_nothing_is_cut_too() -> None:
    nothing, unpacker = gzip.compress(b""), Unpacker(1000, gzip=True)
    fed = 0
    while not unpacker.full:
        unpacker.feed(nothing)
        fed += len(nothing)
    assert not unpacker.body
    assert fed <= 1000 + len(nothing)


def test_a_packed_body_that_breaks_off_is_broken() -> None:
    packed = gzip.compress(b"whole")
    unpacker = Unpacker(1000, gzip=True)
    assert not unpacker.broken
    unpacker.feed(packed[:-1])
    assert unpacker.broken
    unpacker.feed(packed[-1:])
    assert not unpacker.broken


def test_what_is_no_gzip_is_told() -> None:
    with pytest.raises(zlib.error):
        Unpacker(1000, gzip=True).feed(b"plain text")


# --- characters ---


@pytest.mark.parametrize(
    ("body", "kind", "text", "codec"),
    [
        ("žluť".encode(), TEXT, "žluť", "utf-8"),
        ("žluť".encode("cp1250"), ContentType("text/plain", "windows-1250"), "žluť", "cp1250"),
        ("“é”".encode("cp1252"), ContentType("text/plain", "iso-8859-1"), "“é”", "cp1252"),
        ("日本".encode("shift_jis"), ContentType("text/plain", "shift_jis"), "日本", "cp932"),
        ("日本".encode("euc_jp"), ContentType("text/plain", "euc-jp"), "日本", "euc_jp"),
        ("中文".encode("gb18030"), ContentType("text/plain", "gb2312"), "中文", "gb18030"),
        (b"\xef\xbb\xbf" + "é".encode(), ContentType("text/plain", "iso-8859-1"), "é", "utf-8"),
        (b"\xff\xfe" + "é".encode("utf-16-le"), TEXT, "é", "utf-16-le"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), TEXT, "é", "utf-16-be"),
        ("é".encode("utf-16-le"), ContentType("text/plain", "utf-16"), "é", "utf-16-le"),
        ("<meta charset=koi8-r>да".encode("koi8-r"), HTML, "<meta charset=koi8-r>да", "koi8-r"),
        ("<p>é".encode("cp1252"), HTML, "<p>é", "cp1252"),
        (
            '<?xml version="1.0" encoding="windows-1250"?>ž'.encode("cp1250"),
            ContentType("application/xml"),
            '<?xml version="1.0" encoding="windows-1250"?>ž',
            "cp1250",
        ),
        (b"<meta charset=utf-16>x", HTML, "<meta charset=utf-16>x", "utf-8"),
    ],
)
def test_a_body_is_read_in_its_charset(body: bytes, kind: ContentType, text: str, codec: str) -> None:
    read = decode(body, kind)
    assert (read.text, read.codec, read.remark) == (text, codec, "")


def test_a_declaration_in_plain_text_or_far_down_declares_nothing() -> None:
    body = "<meta charset=koi8-r>é".encode()
    assert decode(body, TEXT).codec == "utf-8"
    assert decode(b" " * 1024 + body, HTML).codec == "utf-8"


def test_a_wrong_charset_becomes_marks_and_a_remark() -> None:
    read = decode(b"caf\xe9 \xff", ContentType("text/plain", "utf-8"))
    assert read.text == "caf� �"
    assert read.remark == "2 places are not valid utf-8 and became U+FFFD"
    assert decode("really �".encode(), TEXT).remark == ""


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "rot13", "hex", "utf-7", "undefined", "x"])
def test_a_codec_that_is_no_charset_is_not_used(charset: str) -> None:
    read = decode(b"+AGEAYg-", ContentType("text/plain", charset))
    assert read.text == "+AGEAYg-"
    assert read.remark == f"the charset {charset} is unknown, so it was read as UTF-8"


def test_a_character_that_a_cut_split_is_dropped() -> None:
    body = "aé".encode()[:-1]
    assert decode(body, TEXT, cut=True).text == "a"
    assert decode(body, TEXT).text == "a�"


@given(
    st.binary(), st.sampled_from(["", "utf-8", "gb18030", "utf-16", "iso-2022-jp", "big5", "euc-kr", "cp1252", "hz"])
)
def test_any_bytes_become_text_that_encodes(body: bytes, charset: str) -> None:
    decode(body, ContentType("text/html", charset)).text.encode()
