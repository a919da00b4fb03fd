"""Markers tell equal secrets by a key, and are known again wherever they stand."""

import pytest

from palyra_trio.guard.redact_marker import MARKER, Markers, has_marker


def test_equal_secrets_have_equal_markers_under_one_key_and_others_under_another() -> None:
    ours, theirs = Markers(b"one key"), Markers(b"another")

    assert ours.of("jwt", b"secret") == ours.of("jwt", b"secret")
    assert len({ours.of("jwt", b"secret"), ours.of("jwt", b"other"), theirs.of("jwt", b"secret")}) == 3


def test_without_a_key_or_a_secret_a_marker_has_no_digits() -> None:
    assert Markers().of("jwt", b"secret") == b"[redacted:jwt]"
    assert Markers(b"one key").of("too_deep", b"") == b"[redacted:too_deep]"


def test_the_key_does_not_print() -> None:
    assert "one key" not in repr(Markers(b"one key"))


@pytest.mark.parametrize("marker", ["[redacted:jwt]", Markers(b"one key").of("private_key", b"x").decode()])
def test_has_marker_finds_one_in_texts_keys_and_lists(marker: str) -> None:
    assert MARKER.fullmatch(marker)
    assert has_marker(f"x {marker} y")
    assert has_marker({"a": [1, (marker,)]})
    assert has_marker({marker: 1})


@pytest.mark.parametrize(
    "text", ["[redacted]", "redacted:jwt", "[redacted:jwt:xyz]", "[redacted:jwt:12345]", "[redacted:]"]
)
def test_what_is_no_marker_is_none(text: str) -> None:
    assert not has_marker({"a": [1, None, text]})
