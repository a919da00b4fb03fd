"""Who stands beneath whom: a forest, told from top to bottom."""

from collections.abc import Iterator, Mapping


def beneath(parents: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Yield each key of `parents`, which says whose child it is, with its depth from 0, behind its parent.

    One whose parent is not among them stands at the top. The order of children is that of the mapping.
    """
    children: dict[int, list[int]] = {}
    for each, parent in parents.items():
        children.setdefault(parent, []).append(each)
    waiting = [(each, 0) for each, parent in reversed([*parents.items()]) if parent not in parents]
    while waiting:
        each, depth = waiting.pop()
        yield each, depth
        waiting += [(child, depth + 1) for child in reversed(children.get(each, []))]
