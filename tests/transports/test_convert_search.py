"""A hit over the wire is the hit that was found."""

from typing import get_args

import pytest

from palyra_trio.core.identity import RunId
from palyra_trio.journal.search import Hit, Part, Piece
from palyra_trio.transports.convert_search import hit_message, hit_of_message

EXCERPT = (Piece("…", found=False), Piece("ü", found=True))


@pytest.mark.parametrize("part", get_args(Part))
def test_a_hit_survives_the_way(part: Part) -> None:
    for hit in (Hit(RunId("R"), 7, 9, part, EXCERPT, turn=3), Hit(RunId("R"), 7, 9, part, (), 0, "call", "tool", 5)):
        assert hit_of_message(hit_message(hit)) == hit
