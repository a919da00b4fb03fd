from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.wire.limits import QuicLimits
from palyra_trio.wire.quic_connection_table import ConnectionTable

HOME, AWAY = b"home", b"away"
NETWORKS = [HOME, AWAY, b"third"]
QUIC = QuicLimits(handshakes=4, address_share=2)


def table(connections: int = 100) -> ConnectionTable[int]:
    return ConnectionTable(QUIC, connections)


def test_the_oldest_handshake_makes_room_and_one_of_an_address_not_validated_takes_none() -> None:
    there = table()
    assert [there.add(connection, b"%d" % connection, validated=True) for connection in range(5)] == [None] * 4 + [0]
    there.remove(0)
    assert len(there._handshaking) == 4
    assert [there.add(connection, HOME, validated=False) for connection in range(10, 20)] == [None] * 10
    assert (len(there._handshaking), there.unvalidated) == (4, 10)


def test_a_network_that_has_its_share_of_the_handshakes_takes_none_of_the_others() -> None:
    there = table()
    assert there.add(0, AWAY, validated=True) is None
    assert [there.add(connection, HOME, validated=True) for connection in range(1, 4)] == [None, None, 1]


def test_an_established_connection_is_no_handshake_any_more_and_only_a_network_that_was_not_validated_is_news() -> None:
    there = table()
    there.add(1, HOME, validated=True)
    there.add(2, AWAY, validated=False)
    assert (there.established(1), there.established(2)) == (None, AWAY)
    assert (len(there._handshaking), there.unvalidated) == (0, 0)
    assert (there.network_of(1), there.network_of(2)) == (HOME, AWAY)


def test_an_address_that_is_not_validated_counts_for_no_network_until_its_connection_is_established() -> None:
    there = table(connections=4)
    for connection in range(2):
        there.add(connection, HOME, validated=False)
    assert not there.is_full(HOME)
    for connection in range(2):
        there.established(connection)
    assert there.is_full(HOME)
    assert not there.is_full(AWAY)


moves = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["validated", "unvalidated", "established", "removed"])), max_size=60
)


@given(moves)
def test_when_all_are_removed_nothing_is_kept_of_them(moves: list[tuple[int, str]]) -> None:
    there, inside, established = table(), set[int](), set[int]()
    for connection, move in moves:
        if move == "removed":
            there.remove(connection)
            inside.discard(connection)
            established.discard(connection)
        elif move == "established":
            if connection in inside - established:
                there.established(connection)
                established.add(connection)
        elif connection not in inside:
            there.add(connection, NETWORKS[connection % len(NETWORKS)], validated=move == "validated")
            inside.add(connection)
        assert there.unvalidated + len(there._handshaking) == len(inside - established)
    for connection in range(10):
        there.remove(connection)
        there.remove(connection)
    assert vars(there) == vars(table())
    assert len(there._of_network) == 0
