"""What a request says, read strictly: a name that is not known is refused with its place, and so is a value of another kind.

A class says what may be said, and its schema is what is published (see `openapi`). Nothing is looked up here.
"""

import re
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import attrs
import msgspec

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import ULID_RANDOM_BYTES, Principal, RunId, mint_ulid
from palyra_trio.guard.auth import Metadata
from palyra_trio.journal.queries import LIST_ROWS
from palyra_trio.transports.paging import DEFAULT_PAGE

IDEMPOTENCY_KEY = "idempotency-key"
KEY_CHARACTERS = 255
KEY_PATTERN = "^[!-~]+$"
QUERY_FIELDS = 100
LARGEST = 2**53 - 1  # what every JSON reader keeps exact

T = TypeVar("T")
Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
PageSize = Annotated[int, msgspec.Meta(ge=1, le=LIST_ROWS, description="How many rows a page may hold.")]


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say: the names of its query, or those of the object that is its body."""


class Paged(Said, frozen=True):
    """A page of a list. The next one begins at `next_page_token` of the one before; an empty one says that it was the last."""

    page_size: PageSize = DEFAULT_PAGE
    page_token: str = ""


class Reason(Said, frozen=True):
    """Why; it is recorded."""

    reason: str = ""


def query_of(text: str, kind: type[T]) -> T:
    """Return what a query string says. Only what is a list may be said twice. Raises InvalidArgument."""
    lists = {field.encode_name for field in msgspec.structs.fields(strict(kind)) if isinstance(field.default, tuple)}
    said: dict[str, Any] = {}
    try:
        for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS):
            if name in lists:
                said.setdefault(name, []).append(value)
            elif name in said:
                raise InvalidArgument(f"the query says {name[:100]!r} twice", remedy="say it once")
            else:
                said[name] = value
        read = msgspec.convert(said, strict(kind), strict=False)
    except ValueError as error:
        raise InvalidArgument(f"the query: {error}", remedy="/api/v1/openapi.json says what it may hold") from error
    return _as(kind, read)


def body_of(body: bytes, kind: type[T]) -> T:
    """Return what a body of JSON says; an empty one is an empty object. Raises InvalidArgument."""
    try:
        read = msgspec.json.decode(body or b"{}", type=strict(kind))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the body: {error}", remedy="/api/v1/openapi.json says what it may hold") from error
    return _as(kind, read)


def _strict(kind: Any) -> Any:
    """Return the class that reads like `kind`, one of attrs, and refuses names that it does not have."""
    if issubclass(kind, msgspec.Struct):
        return kind
    fields: list[Any] = [
        (each.name, each.type) if each.default is attrs.NOTHING else (each.name, each.type, each.default)
        for each in attrs.fields(kind)
    ]
    about = {"__doc__": kind.__doc__}
    return msgspec.defstruct(kind.__name__, fields, frozen=True, forbid_unknown_fields=True, namespace=about)


strict: Callable[[Any], type[msgspec.Struct]] = cache(_strict)


def _as(kind: type[T], read: Any) -> T:
    return read if isinstance(read, kind) else kind(**msgspec.structs.asdict(read))


def key_of(headers: Metadata) -> str:
    """Return the Idempotency-Key of a request, "" without one. Raises InvalidArgument for what is none."""
    sent = [value for name, value in headers.items() if name == IDEMPOTENCY_KEY]
    if not sent:
        return ""
    key = sent[0]
    if len(sent) > 1 or not isinstance(key, str) or len(key) > KEY_CHARACTERS or not re.fullmatch(KEY_PATTERN, key):
        raise InvalidArgument(
            f"{IDEMPOTENCY_KEY} has 1 to {KEY_CHARACTERS} visible ASCII characters, once", remedy="send a UUID"
        )
    return key


def run_id_of(principal: Principal, key: str) -> RunId:
    """Return the id of the run that a principal starts with this key: the same one whenever and wherever it is asked for.

    It is a ULID whose time says nothing.
    """
    return RunId(_id_of("run", principal, key))


def token_id_of(principal: Principal, key: str) -> str:
    """Return the id of the token that a principal makes with this key, likewise."""
    return _id_of("token", principal, key)


def _id_of(what: str, principal: Principal, key: str) -> str:
    made = sha256(canonical_json([what, principal, key])).digest()
    return mint_ulid(int.from_bytes(made[:6], "big"), made[6 : 6 + ULID_RANDOM_BYTES])
