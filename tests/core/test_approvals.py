"""When a grant is over: ended, used up, or past its time."""

from typing import Any

import attrs
import pytest

from palyra_trio.core.approvals import Grant
from palyra_trio.core.identity import Principal, SessionId
from palyra_trio.core.policy import Pattern

STANDS = Grant("G", Principal("user:me"), SessionId("S"), "/w", Pattern("t.x", "*"), "session", 0, 100, "user:me")


@pytest.mark.parametrize(
    ("fields", "now_ms", "over"),
    [
        ({}, 10**15, False),
        ({"scope": "time", "until_ms": 500}, 499, False),
        ({"scope": "time", "until_ms": 500}, 500, True),
        ({"scope": "once"}, 500, False),
        ({"scope": "once", "used_ms": 300}, 500, True),
        ({"ended_ms": 300}, 500, True),
    ],
)
def test_a_grant_is_over_once_it_ended_was_used_or_its_time_has_come(
    fields: dict[str, Any], now_ms: int, over: bool
) -> None:
    assert attrs.evolve(STANDS, **fields).over(now_ms) is over
