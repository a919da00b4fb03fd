"""Every way to name a session: found, to be created, or refused."""

import attrs
import pytest

from palyra_trio.core.errors import InvalidArgument, NotFound, PalyraError, SessionConflict, StateConflict
from palyra_trio.core.identity import Principal, SessionId
from palyra_trio.core.session import MAX_KEY_LENGTH, Session, SessionRef, resolve

ALICE, BOB = Principal("user:alice"), Principal("user:bob")
ID, OTHER_ID = SessionId("S1"), SessionId("S2")
MINE = Session(ID, ALICE, "work", "", 0)
UNNAMED = attrs.evolve(MINE, key=None)
ARCHIVED = attrs.evolve(UNNAMED, archived_ms=5)
HIS = Session(OTHER_ID, BOB, "play", "", 0)
ELSE = attrs.evolve(MINE, session_id=OTHER_ID, key="play")


@pytest.mark.parametrize(
    ("ref", "by_id", "by_key", "found"),
    [
        (SessionRef(), None, None, None),
        (SessionRef(key="work"), None, None, None),
        (SessionRef(key="work"), None, MINE, MINE),
        (SessionRef(ID), UNNAMED, None, UNNAMED),
        (SessionRef(ID, "work"), MINE, MINE, MINE),
        (SessionRef(key="work", require_existing=True), None, MINE, MINE),
        (SessionRef(ID, require_existing=True), MINE, None, MINE),
    ],
)
def test_a_session_is_found_or_to_be_created(
    ref: SessionRef, by_id: Session | None, by_key: Session | None, found: Session | None
) -> None:
    assert resolve(ref, by_id, by_key, ALICE) is found


@pytest.mark.parametrize(
    ("ref", "by_id", "by_key", "error", "message"),
    [
        (SessionRef(ID), None, None, NotFound, "no session S1"),
        (SessionRef(ID, "work"), None, None, NotFound, "no session S1"),
        (SessionRef(ID, "play"), None, ELSE, NotFound, "no session S1"),
        (SessionRef(key="work", require_existing=True), None, None, NotFound, "the key 'work'"),
        (SessionRef(require_existing=True), None, None, NotFound, "no session was named"),
        (SessionRef(ID, "play"), MINE, None, SessionConflict, "S1 does not have the key 'play'"),
        (SessionRef(ID, "play"), MINE, ELSE, SessionConflict, "S1 does not have the key 'play'"),
        (SessionRef(ID, "work"), UNNAMED, None, SessionConflict, "S1 does not have the key 'work'"),
        (SessionRef(OTHER_ID), HIS, None, NotFound, "no session S2"),
        (SessionRef(ID), ARCHIVED, None, StateConflict, "S1 is archived"),
        (SessionRef(key=""), None, None, InvalidArgument, "1 to 200 characters"),
        (SessionRef(key="k" * (MAX_KEY_LENGTH + 1)), None, None, InvalidArgument, "1 to 200 characters"),
    ],
)
def test_a_session_is_refused(
    ref: SessionRef, by_id: Session | None, by_key: Session | None, error: type[PalyraError], message: str
) -> None:
    with pytest.raises(error, match=message) as refused:
        resolve(ref, by_id, by_key, ALICE)
    assert type(refused.value) is error


def test_the_longest_key_is_a_key() -> None:
    assert resolve(SessionRef(key="k" * MAX_KEY_LENGTH), None, None, ALICE) is None


def test_another_principal_cannot_tell_a_session_from_one_that_is_not_there() -> None:
    archived_and_named = attrs.evolve(HIS, archived_ms=5, title="secret plans")
    told = []
    for by_id in (archived_and_named, None):
        with pytest.raises(NotFound) as refused:
            resolve(SessionRef(OTHER_ID, "other"), by_id, None, ALICE)
        told.append(str(refused.value))
    assert told[0] == told[1]
