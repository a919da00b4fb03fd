import pytest

from palyra_trio.core.errors import Busy
from palyra_trio.wire.limits import Bucket, Limits


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(3, 2, now=10)
    assert [bucket.take(10) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(11) for _ in range(3)] == [True, True, False]


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    bucket = Bucket(2, 1, now=0)
    assert [bucket.take(1000) for _ in range(3)] == [True, True, False]


def test_looking_into_a_bucket_takes_nothing() -> None:
    bucket = Bucket(1, 1, now=0)
    assert [bucket.has(0), bucket.has(0), bucket.take(0), bucket.has(0), bucket.has(1)] == [True] * 3 + [False, True]


def test_what_nobody_has_read_yet_is_bounded() -> None:
    limits = Limits(unread_bytes=10)
    limits.check_unread(10)
    with pytest.raises(Busy, match="over 10 bytes of requests on this connection"):
        limits.check_unread(11)
