"""A secret in memory is seen only by who asks for it."""

import copy
import pickle

import pytest

from palyra_trio.guard.secret_value import SecretValue

SECRET = SecretValue("hunter2")


def test_a_secret_is_told_on_request_and_in_no_other_way() -> None:
    assert SECRET.reveal() == "hunter2"
    assert {repr(SECRET), str(SECRET), f"{SECRET}", f"{SECRET!s}", "%s" % SECRET} == {"<secret>"}  # ruff: ignore[printf-string-formatting]
    assert "hunter2" not in repr([SECRET, {"a": SECRET}])


@pytest.mark.parametrize("give_away", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_copied_out_of_the_process(give_away: object) -> None:
    with pytest.raises(TypeError):
        give_away(SECRET)  # type: ignore[operator]
