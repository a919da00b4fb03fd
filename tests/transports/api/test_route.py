"""A route is made of its handler's own types."""

import attrs
import pytest

from palyra_trio.core.identity import Scope
from palyra_trio.transports.api.reading import Paged, Reason
from palyra_trio.transports.api.route import Answered, Ask, get, post


@attrs.frozen
class Thing:
    name: str


async def change(ask: Ask, thing: str, part: str, query: Paged, body: Reason) -> Thing:
    """Change a thing.

    Or a part of it.
    """
    return Thing(f"{thing}/{part}")


def test_what_a_handler_takes_and_returns_is_what_its_route_says() -> None:
    made = post("/things/{thing}/parts/{part}", Scope.RUN)(change)
    assert (made.method, made.scope, made.name) == ("POST", Scope.RUN, "change")
    assert (made.variables, made.query, made.body) == (("thing", "part"), Paged, Reason)
    assert made.answers == (Answered(200, Thing),)
    assert made.words == "Change a thing.\n\nOr a part of it."
    found = made.pattern.fullmatch("/things/a b/parts/c")
    assert found is not None
    assert found.groups() == ("a b", "c")
    assert made.pattern.fullmatch("/things//parts/c") is None
    assert made.pattern.fullmatch("/things/a/b/parts/c") is None


@pytest.mark.parametrize("path", ["/things/{thing}", "/things/{thing}/{other}"])
def test_a_handler_that_does_not_take_what_the_path_has_is_refused(path: str) -> None:
    with pytest.raises(LookupError, match="change"):
        post(path, Scope.RUN)(change)


def test_its_statuses_are_those_of_the_codes_that_it_refuses_with() -> None:
    made = post("/things/{thing}/parts/{part}", Scope.RUN, refuses=("run_conflict",))(change)
    assert made.statuses == (400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503)

    @get("/things", None)
    async def things(ask: Ask) -> Thing:
        return Thing("")

    assert things.statuses == (400, 500)
