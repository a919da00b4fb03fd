"""Where each policy of a set stands: by its id, the file, the line and the text, for a person who asks why.

The sources were checked before; what a policy means is the engine's.
"""

from collections.abc import Iterable, Mapping

import attrs

from palyra_trio.guard.policy_text import PolicySource, statements


@attrs.frozen
class Place:
    """One policy as it was written. `line` is that on which it begins, from 1."""

    id: str
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def places_of(sources: Iterable[PolicySource]) -> Mapping[str, Place]:
    """Return the place of each policy by its id. Raises ValueError for sources that were not checked and do not parse."""
    return {
        place.id: place
        for source in sources
        for statement in statements(source.text)
        for place in [Place(_id(statement.text), source.name, statement.line, statement.text)]
    }


def named(ids: Iterable[str], places: Mapping[str, Place]) -> tuple[Place, ...]:
    """Return the places of some policies. One that is in force no more has nothing but its id."""
    return tuple(places.get(each, Place(each, "", 0, "")) for each in ids)


def _id(statement: str) -> str:
    import cedarpy  # loads the engine: only when somebody asks why

    (policy,) = cedarpy.policies_to_pst(statement).static_policies.values()
    return str(policy.annotations["id"])


def ids_in(rule: str, places: Mapping[str, Place]) -> tuple[str, ...]:
    """Return the ids that a recorded decision names, which are separated by commas and may hold some themselves."""
    parts, ids = rule.split(", ") if rule else [], list[str]()
    while parts:
        lengths = (length for length in range(len(parts), 0, -1) if ", ".join(parts[:length]) in places)
        length = next(lengths, 1)
        ids.append(", ".join(parts[:length]))
        del parts[:length]
    return tuple(ids)
