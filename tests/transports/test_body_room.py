"""Bodies keep so much together, and the one that has been coming for longest goes for the next."""

from collections.abc import Callable

from palyra_trio.transports.body_room import BodyRoom


def bodies(count: int) -> tuple[list[int], list[Callable[[], None]]]:
    """Return what was given up, and what gives each of some bodies up."""
    gone: list[int] = []
    return gone, [lambda number=number: gone.append(number) for number in range(count)]  # type: ignore[misc]


def test_the_body_that_has_been_coming_for_longest_goes_for_those_that_need_its_room() -> None:
    room, (gone, each) = BodyRoom(10), bodies(4)
    for one in each[:3]:
        room.grew(one, 3)
    room.grew(each[0], 1)
    assert gone == []
    room.grew(each[3], 5)
    assert gone == [0, 1]
    room.grew(each[3], 2)
    assert gone == [0, 1]


def test_a_body_that_was_received_has_left_its_room() -> None:
    room, (gone, each) = BodyRoom(10), bodies(3)
    room.grew(each[0], 10)
    room.left(each[0])
    room.left(each[0])
    room.grew(each[1], 10)
    assert gone == []
    room.grew(each[2], 1)
    assert gone == [1]


def test_a_body_that_is_longer_than_all_the_room_goes_itself() -> None:
    room, (gone, each) = BodyRoom(10), bodies(2)
    room.grew(each[0], 11)
    assert gone == [0]
    room.grew(each[1], 10)
    assert gone == [0]
