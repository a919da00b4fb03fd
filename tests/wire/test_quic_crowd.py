import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.wire.limits import QuicLimits
from palyra_trio.wire.quic_crowd import Crowd, is_loopback, network_of

HOME, AWAY = b"home", b"away"
NETWORKS = [network_of((each, 1)) for each in ("127.0.0.1", "192.0.2.1", "2001:db8::1")]
QUIC = QuicLimits(handshakes=4, address_share=2)


def crowd(connections: int = 100) -> Crowd[int]:
    return Crowd(QUIC, connections)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("127.0.0.1", "127.9.9.9", True),
        ("127.0.0.1", "::1", True),
        ("::1", "::2", False),
    ],
)
def test_what_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (network_of((one, 1)) == network_of((other, 2))) is same


def test_loopback_is_known() -> None:
    assert is_loopback(network_of(("127.0.0.1", 1)))
    assert not is_loopback(network_of(("192.0.2.1", 1)))


def test_the_oldest_handshake_makes_room_and_an_unproven_one_takes_none() -> None:
    there = crowd()
    assert [there.comes(guest, b"%d" % guest, shown=True) for guest in range(5)] == [None] * 4 + [0]
    there.leaves(0)
    assert there.shaking == 4
    assert [there.comes(guest, HOME, shown=False) for guest in range(10, 20)] == [None] * 10
    assert (there.shaking, there.unproven) == (4, 10)


def test_a_network_that_has_its_share_of_the_handshakes_takes_none_of_the_others() -> None:
    there = crowd()
    assert there.comes(0, AWAY, shown=True) is None
    assert [there.comes(guest, HOME, shown=True) for guest in range(1, 4)] == [None, None, 1]


def test_who_stands_is_no_handshake_any_more_and_only_the_unproven_are_news() -> None:
    there = crowd()
    there.comes(1, HOME, shown=True)
    there.comes(2, AWAY, shown=False)
    assert (there.stands(1), there.stands(2)) == (None, AWAY)
    assert (there.shaking, there.unproven) == (0, 0)
    assert (there.network_of(1), there.network_of(2)) == (HOME, AWAY)


def test_the_unproven_count_for_no_network_until_they_stand() -> None:
    there = crowd(connections=4)
    for guest in range(2):
        there.comes(guest, HOME, shown=False)
    assert not there.is_full(HOME)
    for guest in range(2):
        there.stands(guest)
    assert there.is_full(HOME)
    assert not there.is_full(AWAY)


moves = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["shown", "unproven", "stands", "leaves"])), max_size=60)


@given(moves)
def test_when_all_have_left_nothing_is_kept_of_them(moves: list[tuple[int, str]]) -> None:
    there, inside, standing = crowd(), set[int](), set[int]()
    for guest, move in moves:
        if move == "leaves":
            there.leaves(guest)
            inside.discard(guest)
            standing.discard(guest)
        elif move == "stands":
            if guest in inside - standing:
                there.stands(guest)
                standing.add(guest)
        elif guest not in inside:
            there.comes(guest, NETWORKS[guest % len(NETWORKS)], shown=move == "shown")
            inside.add(guest)
        assert there.unproven + there.shaking == len(inside - standing)
    for guest in range(10):
        there.leaves(guest)
        there.leaves(guest)
    assert vars(there) == vars(crowd())
    assert len(there._of_network) == 0
