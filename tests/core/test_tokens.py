"""A secret is random, told by its prefix and known by its hash; a token that could open nothing is not made."""

import re

import attrs
import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, Scope
from palyra_trio.core.tokens import (
    SECRET_RANDOM_BYTES,
    Token,
    TokenCreated,
    check_new,
    hash_of,
    secret_of,
    token_of,
)
from palyra_trio.guard.redactor import Redactor

TOKEN = Token("T", "laptop", Principal("user:alice"), (Scope.READ,), hash_of("secret"), 2000, 1000, "user:root")


@pytest.mark.parametrize("byte", [b"\0", b"\xfb", b"\xff"])
def test_a_secret_is_safe_in_a_header_and_known_to_the_redactor(byte: bytes) -> None:
    secret = secret_of(byte * SECRET_RANDOM_BYTES)
    assert re.fullmatch(r"plt_[A-Za-z0-9_-]{43}", secret)
    assert Redactor().text(f"it is {secret}, really") == "it is [redacted:palyra_token], really"


def test_every_byte_of_the_randomness_makes_another_secret() -> None:
    random = bytes(range(SECRET_RANDOM_BYTES))
    changed = {secret_of(random[:i] + b"\xff" + random[i + 1 :]) for i in range(SECRET_RANDOM_BYTES)}
    assert len(changed | {secret_of(random)}) == SECRET_RANDOM_BYTES + 1


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_takes_exactly_32_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="takes 32 random bytes"):
        secret_of(bytes(length))


def test_a_secret_is_known_by_its_sha_256() -> None:
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len(hash_of("\udc80")) == 64  # whatever a client sends has a hash


def test_neither_a_token_nor_its_event_prints_a_secret() -> None:
    assert TOKEN.hash not in repr(TOKEN)


@pytest.mark.parametrize(
    ("expires_ms", "revoked_ms", "now_ms", "state"),
    [
        (2000, None, 1999, "active"),
        (2000, None, 2000, "expired"),
        (0, None, 2**48, "active"),
        (0, 1500, 1400, "revoked"),
        (2000, 1500, 3000, "revoked"),
    ],
)
def test_a_token_is_active_until_it_expires_or_is_revoked(
    expires_ms: int, revoked_ms: int | None, now_ms: int, state: str
) -> None:
    assert attrs.evolve(TOKEN, expires_ms=expires_ms, revoked_ms=revoked_ms).state(now_ms) == state


@pytest.mark.parametrize(
    ("name", "principal", "scopes", "expires_ms", "said"),
    [
        ("", "user:a", ("run",), 0, "a token's name has 1 to 200"),
        ("x" * 201, "user:a", ("run",), 0, "a token's name has 1 to 200"),
        ("a\nb", "user:a", ("run",), 0, "visible characters"),
        ("n", "alice", ("run",), 0, "'alice' is no principal"),
        ("n", "user:a b", ("run",), 0, "is no principal"),
        ("n", "user:a", (), 0, "at least one scope"),
        ("n", "user:a", ("run", "root"), 0, "there is no scope 'root'"),
        ("n", "user:a", ("run",), -1, "expired already"),
        ("n", "user:a", ("run",), 5000, "expired already"),
        ("n", "user:a", ("run",), 253_402_300_800_000, "after the year 9999"),
    ],
)
def test_a_token_that_may_not_be_made_is_refused(
    name: str, principal: str, scopes: tuple[str, ...], expires_ms: int, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(said)):
        check_new(name, principal, scopes, expires_ms, now_ms=5000)


def test_a_token_that_may_be_made_is_let_through() -> None:
    check_new("Ana's läptop", "user:ana", list(Scope), 5001, now_ms=5000)
    check_new("x" * 200, "service:ci", ("worker",), 0, now_ms=5000)


def test_a_scope_of_a_newer_program_opens_nothing_here() -> None:
    event = TokenCreated("T", "laptop", "user:alice", ("read", "fly"), hash_of("secret"), 2000, "user:root")
    assert token_of(event, 1000) == TOKEN
