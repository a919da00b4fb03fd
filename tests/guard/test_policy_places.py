"""Where a policy stands, by its id: for a person who asks what decided."""

from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_places import Place, ids_in, named, places_of
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.posture import Posture, posture_file
from palyra_trio.guard.presets import PRESETS, preset

MINE = PolicySource(
    "mine.cedar",
    """// the first
@id("one")
permit (principal, action, resource);

@reason("because")
@id("two, or \\"three\\"")
forbid (principal, action, resource) when { false };
""",
)


def test_a_policy_is_found_by_its_id_with_file_line_and_text() -> None:
    places = places_of([MINE])
    assert list(places) == ["one", 'two, or "three"']
    assert places["one"] == Place("one", "mine.cedar", 2, '@id("one")\npermit (principal, action, resource);')
    assert str(places['two, or "three"']) == "mine.cedar:5"


def test_every_policy_that_an_engine_can_name_has_a_place() -> None:
    for name in PRESETS:
        sources = [preset(name), MINE, posture_file([Posture("files.*", "ask", "workspace", '/a, "b"')])]
        assert set(places_of(sources)) == set(CedarEngine(sources).ids)


def test_the_ids_of_a_recorded_decision_are_told_apart_even_with_commas_in_them() -> None:
    places = places_of([MINE])
    assert ids_in("", places) == ()
    assert ids_in('gone, two, or "three", one', places) == ("gone", 'two, or "three"', "one")
    assert ids_in("invalid_argument", {}) == ("invalid_argument",)


def test_a_policy_that_is_in_force_no_more_has_nothing_but_its_id() -> None:
    places = places_of([MINE])
    assert named(["one", "gone"], places) == (places["one"], Place("gone", "", 0, ""))
