"""Sessions and links end when they should, and open nothing twice."""

import itertools

import pytest

from palyra_trio.core.errors import Busy
from palyra_trio.core.identity import Caller, Principal, RequestContext, Scope
from palyra_trio.guard.web_session import (
    ABSOLUTE_S,
    ADDRESSES_KEPT,
    FAILURES_PER_MIN,
    IDLE_S,
    LINK_S,
    LINKS_KEPT,
    LINKS_OF_ONE,
    SESSIONS_KEPT,
    SESSIONS_OF_ONE,
    Failures,
    WebSessions,
)

ALICE = Caller(RequestContext(Principal("user:alice")), frozenset(Scope))
BOB = Caller(RequestContext(Principal("user:bob")), frozenset(Scope))


def sessions() -> WebSessions:
    count = itertools.count(1)
    return WebSessions(lambda size: next(count).to_bytes(size, "big"))


def test_a_link_signs_in_once() -> None:
    kept = sessions()
    secret = kept.open_link(ALICE, 0)
    assert kept.take_link(secret, LINK_S - 1) == ALICE
    assert kept.take_link(secret, LINK_S - 1) is None


def test_a_link_that_is_too_old_signs_nobody_in() -> None:
    kept = sessions()
    assert kept.take_link(kept.open_link(ALICE, 0), LINK_S) is None


def test_what_is_no_link_signs_nobody_in() -> None:
    kept = sessions()
    kept.open_link(ALICE, 0)
    assert kept.take_link("", 0) is None
    assert kept.take_link("\udcff", 0) is None


def test_a_session_is_found_by_its_secret_until_nobody_has_come_for_a_while() -> None:
    kept = sessions()
    secret, session = kept.begin(ALICE, 0)
    assert kept.find(secret, IDLE_S - 1) is session
    assert kept.find(secret, 2 * IDLE_S - 2) is session
    assert kept.find(secret, 3 * IDLE_S - 2) is None


def test_a_session_in_use_ends_at_last() -> None:
    kept = sessions()
    secret, session = kept.begin(ALICE, 0)
    for now_s in range(0, ABSOLUTE_S, IDLE_S // 2):
        assert kept.find(secret, now_s) is session
    assert kept.find(secret, ABSOLUTE_S) is None


def test_the_key_by_which_a_session_is_kept_opens_nothing() -> None:
    kept = sessions()
    _, session = kept.begin(ALICE, 0)
    assert kept.find(session.key, 0) is None


def test_a_session_that_was_ended_does_not_go_on() -> None:
    kept = sessions()
    secret, session = kept.begin(ALICE, 0)
    assert kept.goes_on(session, 0)
    kept.end(session)
    assert not kept.goes_on(session, 0)
    assert kept.find(secret, 0) is None


def test_signing_out_everywhere_ends_sessions_and_links_of_that_principal_alone() -> None:
    kept = sessions()
    mine, theirs = [kept.begin(ALICE, 0) for _ in range(2)], kept.begin(BOB, 0)
    link, other_link = kept.open_link(ALICE, 0), kept.open_link(BOB, 0)
    kept.end_all(ALICE.context.principal)
    assert [kept.find(secret, 0) for secret, _ in mine] == [None, None]
    assert kept.find(theirs[0], 0) is theirs[1]
    assert kept.take_link(link, 0) is None
    assert kept.take_link(other_link, 0) == BOB


def test_a_form_is_of_a_session_only_with_its_token() -> None:
    kept = sessions()
    (_, one), (_, other) = kept.begin(ALICE, 0), kept.begin(ALICE, 0)
    assert one.vouches_for(one.csrf)
    assert not one.vouches_for(other.csrf)
    assert not one.vouches_for("")
    assert not one.vouches_for("ä\udcff")


def test_who_signs_in_often_ends_its_own_oldest_sessions_and_links_and_nobody_elses() -> None:
    kept = sessions()
    (theirs, _), link = kept.begin(ALICE, 0), kept.open_link(ALICE, 0)
    own = [kept.begin(BOB, 0)[0] for _ in range(SESSIONS_OF_ONE + 1)]
    links = [kept.open_link(BOB, 0) for _ in range(LINKS_OF_ONE + 1)]
    assert [kept.find(secret, 0) is None for secret in own] == [True] + [False] * SESSIONS_OF_ONE
    assert [kept.take_link(secret, 0) is None for secret in links] == [True] + [False] * LINKS_OF_ONE
    assert kept.find(theirs, 0) is not None
    assert kept.take_link(link, 0) == ALICE


def test_where_all_have_too_many_the_oldest_goes_of_who_has_the_most() -> None:
    kept = sessions()
    first, _ = kept.begin(ALICE, 0)
    greedy, *_ = [kept.begin(BOB, 0)[0] for _ in range(2)]
    for number in range(SESSIONS_KEPT - 2):
        secret, _ = kept.begin(Caller(RequestContext(Principal(f"user:{number}")), frozenset()), 0)
    assert kept.find(greedy, 0) is None
    assert kept.find(first, 0) is not None
    assert kept.find(secret, 0) is not None
    kept.begin(Caller(RequestContext(Principal("user:last")), frozenset()), 0)
    assert kept.find(first, 0) is None
    link, *_ = [kept.open_link(BOB, 0) for _ in range(2)]
    for number in range(LINKS_KEPT - 1):
        kept.open_link(Caller(RequestContext(Principal(f"user:{number}")), frozenset()), 0)
    assert kept.take_link(link, 0) is None


def test_an_address_that_fails_too_often_waits_a_minute_and_others_do_not() -> None:
    failures = Failures()
    for _ in range(FAILURES_PER_MIN):
        failures.check("1.2.3.4", 0)
        failures.add("1.2.3.4", 0)
    with pytest.raises(Busy):
        failures.check("1.2.3.4", 59)
    failures.check("1.2.3.5", 59)
    failures.check("1.2.3.4", 60)


def test_failures_of_very_many_addresses_are_kept_for_the_last_of_them() -> None:
    failures = Failures()
    for number in range(ADDRESSES_KEPT + 1):
        for _ in range(FAILURES_PER_MIN):
            failures.add(str(number), 0)
    failures.check("0", 0)
    for number in (1, ADDRESSES_KEPT):
        with pytest.raises(Busy):
            failures.check(str(number), 0)
