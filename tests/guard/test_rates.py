"""A second's worth at once, then as many a second as are allowed, for each token and kind of request by itself."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.config import RatesConfig
from palyra_trio.core.errors import Busy
from palyra_trio.core.identity import Caller, Principal, RequestContext, Scope
from palyra_trio.guard import rates as module
from palyra_trio.guard.rates import Rates

LIMITS = RatesConfig(admin_per_s=2, reads_per_s=5)
ALICE = Caller(RequestContext(Principal("user:alice")), frozenset(Scope), "alice")
ALICE_TOO = attrs.evolve(ALICE, token_id="alice-2")
LOCAL = attrs.evolve(ALICE, token_id="")


def taken(rates: Rates, now_s: float, tries: int, caller: Caller = ALICE, scope: Scope = Scope.READ) -> int:
    """Return how many of so many requests at once were let through."""
    through = 0
    for _ in range(tries):
        try:
            rates.take(caller, scope, LIMITS, now_s)
            through += 1
        except Busy:
            pass
    return through


def test_a_seconds_worth_may_come_at_once_and_is_there_again_a_second_later() -> None:
    rates = Rates()
    assert taken(rates, 100.0, 9) == 5
    assert taken(rates, 100.1, 9) == 0
    assert taken(rates, 100.25, 9) == 1
    assert taken(rates, 101.3, 9) == 5
    assert taken(rates, 1000.0, 9) == 5


def test_each_token_and_each_kind_of_request_has_a_bucket_of_its_own() -> None:
    rates = Rates()
    for caller in (ALICE, ALICE_TOO):
        assert taken(rates, 0.0, 9, caller) == 5
        assert taken(rates, 0.0, 9, caller, Scope.ADMIN) == 2


@pytest.mark.parametrize(
    ("caller", "scope"), [(LOCAL, Scope.READ), (LOCAL, Scope.ADMIN), (ALICE, Scope.RUN), (ALICE, Scope.APPROVE)]
)
def test_the_local_user_is_not_counted_and_neither_are_starts_stops_and_decisions(caller: Caller, scope: Scope) -> None:
    assert taken(Rates(), 0.0, 1000, caller, scope) == 1000


def test_a_refusal_names_what_to_do() -> None:
    rates = Rates()
    assert taken(rates, 0.0, 2, scope=Scope.ADMIN) == 2
    with pytest.raises(Busy, match="token alice has asked 2 times within a second") as refused:
        rates.take(ALICE, Scope.ADMIN, LIMITS, 0.0)
    assert "rates.admin_per_s" in refused.value.remedy


def test_a_limit_that_was_lowered_holds_at_once() -> None:
    rates = Rates()
    rates.take(ALICE, Scope.READ, LIMITS, 0.0)
    lower = RatesConfig(reads_per_s=1)
    rates.take(ALICE, Scope.READ, lower, 0.0)
    with pytest.raises(Busy):
        rates.take(ALICE, Scope.READ, lower, 0.5)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKETS_KEPT", 3)
    rates = Rates()
    for number in range(20):
        rates.take(attrs.evolve(ALICE, token_id=str(number)), Scope.READ, LIMITS, 0.0)
    assert len(rates._buckets) <= 3


@given(st.lists(st.floats(0, 2), max_size=200))
def test_in_any_second_no_more_get_through_than_twice_the_rate(gaps: list[float]) -> None:
    rates, now_s, through = Rates(), 0.0, list[float]()
    for gap in gaps:
        now_s += gap / 10
        through += [now_s] * taken(rates, now_s, 3)
    for first in through:
        assert sum(first <= each < first + 1 for each in through) <= 2 * LIMITS.reads_per_s
