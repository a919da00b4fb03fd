"""What is said is read strictly, and a key is always the same run."""

import json
from contextlib import suppress

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, parse_ulid
from palyra_trio.transports.api.reading import KEY_CHARACTERS, Paged, Said, body_of, key_of, query_of, run_id_of, strict


class Inner(Said, frozen=True):
    count: int


class Outer(Said, frozen=True):
    name: str
    inner: tuple[Inner, ...] = ()


@attrs.frozen
class Plain:
    name: str
    size: int = 3


class Query(Paged, frozen=True):
    flag: bool = False
    word: tuple[str, ...] = ()


def test_a_body_is_read() -> None:
    assert body_of(b'{"name":"a","inner":[{"count":1}]}', Outer) == Outer(name="a", inner=(Inner(count=1),))
    assert body_of(b'{"name":"a"}', Plain) == Plain("a")


def test_an_empty_body_is_an_empty_object() -> None:
    assert body_of(b"", Paged) == Paged()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"name":"a","more":1}', "`more`"),
        (b'{"name":"a","inner":[{"count":1,"x":2}]}', "`$.inner[0]`"),
        (b'{"name":"a","inner":[{"count":"1"}]}', "`$.inner[0].count`"),
        (b"", "`name`"),
        (b"[]", "object"),
        (b"{", "truncated"),
        (b'{"name":"\xff"}', "utf-8"),
        (b'{"name":"\\ud800"}', "truncated"),
        (b'{"name":"a","inner":' + b"[" * 100_000, "body"),
    ],
)
def test_a_body_that_says_something_else_is_refused_with_its_place(body: bytes, place: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        body_of(body, Outer)
    assert place in refused.value.message.lower() or place in refused.value.message


def test_a_class_of_ours_is_read_as_strictly() -> None:
    with pytest.raises(InvalidArgument, match="more"):
        body_of(b'{"name":"a","more":1}', Plain)


def test_a_query_is_read() -> None:
    found = query_of("page_size=5&flag=true&word=a&word=b%20c&page_token=", Query)
    assert found == Query(page_size=5, flag=True, word=("a", "b c"))
    assert query_of("", Query) == Query()


@pytest.mark.parametrize(
    "text",
    [
        "page_size=0",
        "page_size=501",
        "page_size=1.5",
        "flag=maybe",
        "more=1",
        "page_size=1&page_size=2",
        "a",
        "&".join("word=a" for _ in range(200)),
    ],
)
def test_a_query_that_says_something_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        query_of(text, Query)


@given(st.binary(max_size=200))
def test_no_body_and_no_query_does_more_than_be_refused(noise: bytes) -> None:
    for read in (lambda: body_of(noise, Outer), lambda: query_of(noise.decode("latin-1"), Query)):
        with suppress(InvalidArgument):
            read()


@given(st.builds(Outer, name=st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_was_written_is_what_is_read(said: Outer) -> None:
    assert body_of(msgspec.json.encode(said), Outer) == said
    assert body_of(json.dumps({"name": said.name}).encode(), Outer) == said


def test_the_strict_class_has_the_names_and_defaults_of_ours() -> None:
    fields = msgspec.structs.fields(strict(Plain))
    assert [(each.name, each.default) for each in fields] == [("name", msgspec.NODEFAULT), ("size", 3)]


# --- idempotency keys ---

WHO = Principal("user:alice")


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "é", "x" * (KEY_CHARACTERS + 1), " a"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgument):
        key_of({"idempotency-key": key})


def test_a_key_is_sent_once_or_not_at_all() -> None:
    assert key_of({}) == ""
    assert key_of({"idempotency-key": "x" * KEY_CHARACTERS}) == "x" * KEY_CHARACTERS
    with pytest.raises(InvalidArgument):
        key_of(MultiDict([("idempotency-key", "a"), ("idempotency-key", "a")]))


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_principals_key_is_always_the_same_run_and_no_other_one_is(one: str, other: str) -> None:
    one, other = (each.encode("utf-8", "replace").decode() for each in (one, other))
    run_id = run_id_of(WHO, one)
    assert parse_ulid(run_id) == run_id == run_id_of(WHO, one)
    assert (run_id == run_id_of(WHO, other)) is (one == other)
    assert run_id != run_id_of(Principal("user:bob"), one)
