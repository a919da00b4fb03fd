"""ULIDs keep the order of time and come back as they were; what is no ULID, or no principal, is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import (
    ULID_RANDOM_BYTES,
    Principal,
    RequestContext,
    mint_ulid,
    parse_principal,
    parse_ulid,
    ulid_number,
)

TIMES = st.integers(0, 2**48 - 1)
RANDOMS = st.binary(min_size=ULID_RANDOM_BYTES, max_size=ULID_RANDOM_BYTES)


def test_the_time_part_is_that_of_the_specification() -> None:
    assert mint_ulid(1469918176385, bytes(10)) == "01ARYZ6S410000000000000000"


def test_the_smallest_and_the_greatest_ulid() -> None:
    assert mint_ulid(0, bytes(10)) == "0" * 26
    assert mint_ulid(2**48 - 1, b"\xff" * 10) == "7" + "Z" * 25


@given(TIMES, RANDOMS)
def test_a_ulid_parses_and_tells_its_time(now_ms: int, random: bytes) -> None:
    ulid = mint_ulid(now_ms, random)
    assert parse_ulid(ulid) == parse_ulid(ulid.lower()) == ulid
    assert ulid_number(ulid) == now_ms << 80 | int.from_bytes(random, "big")


@given(st.tuples(TIMES, RANDOMS), st.tuples(TIMES, RANDOMS))
def test_ulids_sort_by_time_and_then_by_randomness(one: tuple[int, bytes], other: tuple[int, bytes]) -> None:
    assert (mint_ulid(*one) < mint_ulid(*other)) == (one < other)
    assert (mint_ulid(*one) == mint_ulid(*other)) == (one == other)


@pytest.mark.parametrize("length", [0, 9, 11])
def test_a_ulid_takes_exactly_ten_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="takes 10 random bytes"):
        mint_ulid(0, bytes(length))


@pytest.mark.parametrize("now_ms", [-1, 2**48])
def test_a_time_that_does_not_fit_is_refused(now_ms: int) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        mint_ulid(now_ms, bytes(10))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 25,
        "0" * 27,
        "8" + "0" * 25,
        "U" + "0" * 25,
        *("0" * 25 + char for char in "ILOU-ſ"),
        "0" + "ß" * 12 + "0",
    ],
)
def test_what_is_no_ulid_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"run id .* is not a ULID"):
        parse_ulid(text, "run id")


@pytest.mark.parametrize(
    "text", ["user:alice", "user:DOM\\alice", "service:ci@example.org", "x:" + "y" * 128, "a-b_0:c"]
)
def test_a_principal_is_a_kind_and_a_name(text: str) -> None:
    assert parse_principal(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "user:",
        ":alice",
        "User:alice",
        "user: alice",
        "user:al ice",
        "user:é",
        "user:alice\n",
        "x:" + "y" * 129,
    ],
)
def test_what_is_no_principal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no principal"):
        parse_principal(text)


def test_nobody_is_the_local_user_unless_it_was_found_out() -> None:
    assert not RequestContext(Principal("user:alice"), channel="cli").local
