"""What an agent may be bound to, and what is asked first."""

import pytest

from palyra_trio.core.bindings import NAME_CHARACTERS, BindingPlace, Target, check_place, places
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Principal, RequestContext

ALICE = RequestContext(Principal("user:alice"), channel="chat")
CHANNEL, PRINCIPAL = BindingPlace(Target.CHANNEL, "chat"), BindingPlace(Target.PRINCIPAL, "user:alice")


def test_the_session_is_asked_before_the_channel_and_the_channel_before_the_principal() -> None:
    assert places(ALICE, "S1") == (BindingPlace(Target.SESSION, "S1"), CHANNEL, PRINCIPAL)


def test_a_run_of_a_new_session_has_no_session_to_ask() -> None:
    assert places(ALICE, None) == (CHANNEL, PRINCIPAL)


@pytest.mark.parametrize("name", ["", "x" * (NAME_CHARACTERS + 1)])
def test_a_place_that_nothing_is_called_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_place(BindingPlace(Target.CHANNEL, name))


def test_a_place_of_any_other_name_is_not() -> None:
    check_place(BindingPlace(Target.CHANNEL, "x" * NAME_CHARACTERS))
