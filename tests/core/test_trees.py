"""A forest told from top to bottom."""

from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.trees import beneath


def test_children_follow_their_parent_in_their_order() -> None:
    assert list(beneath({2: 1, 4: 2, 3: 2, 9: 8, 5: 4})) == [(2, 0), (4, 1), (5, 2), (3, 1), (9, 0)]


@given(st.dictionaries(st.integers(1, 20), st.integers(0, 20)).map(lambda d: {k: v for k, v in d.items() if v < k}))
def test_everybody_is_told_once_one_deeper_than_their_parent(parents: dict[int, int]) -> None:
    told = list(beneath(parents))
    depths = dict(told)
    assert sorted(depths) == sorted(parents)
    assert len(told) == len(parents)
    assert all(depths[each] == (depths[parent] + 1 if parent in parents else 0) for each, parent in parents.items())
