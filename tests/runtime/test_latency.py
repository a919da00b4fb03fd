"""Histograms against budgets: what is counted, what is told, and how often."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.config import LatencyConfig
from palyra_trio.core.system_events import LatencyBreach
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.journal.store import Entry
from palyra_trio.journal.writer import Journal
from palyra_trio.runtime.latency import BOUNDS_MS, REPORT_S, Latencies, Latency, Starting
from tests.fakes import open_fake_runtime


@given(st.lists(st.floats(0, 20_000), max_size=50))
def test_every_observation_is_in_the_first_bucket_that_holds_it(took_ms: list[float]) -> None:
    latency = Latency("x", 25)
    for each in took_ms:
        latency.observe(each / 1000)
    assert latency.count == len(took_ms)
    assert latency.sum_s == pytest.approx(sum(took_ms) / 1000)
    assert latency.breaches == sum(each / 1000 * 1000 > 25 for each in took_ms)
    below = [sum(each / 1000 * 1000 <= bound for each in took_ms) for bound in BOUNDS_MS]
    assert [sum(latency.counts[: index + 1]) for index in range(len(BOUNDS_MS))] == below


def test_a_quantile_is_the_bound_that_holds_that_share() -> None:
    latency = Latency("x", 25)
    assert latency.quantile_ms(0.99) == 0
    for took_ms in [*[1] * 98, 40, 9000]:
        latency.observe(took_ms / 1000)
    assert (latency.quantile_ms(0.5), latency.quantile_ms(0.99), latency.quantile_ms(1)) == (1, 50, math.inf)


def test_a_report_tells_how_often_and_by_how_much_and_begins_anew() -> None:
    latency = Latency("gate", 5)
    latency.observe(0.004)
    assert latency.report() is None
    for took_s in (0.006, 0.0301, 0.02):
        latency.observe(took_s)
    assert latency.report() == LatencyBreach("gate", 5, 31, 3)
    assert latency.report() is None
    assert latency.breaches == 3


def test_the_first_event_is_measured_from_the_admission_and_only_of_what_began() -> None:
    first_event = Latency("first_event", 100)
    starting = Starting(first_event)
    assert starting.longest_s(5.0) == 0
    starting.admitted("a", 1.0)
    starting.admitted("b", 2.0)
    assert starting.longest_s(3.0) == 2
    starting.gone("a")
    assert starting.longest_s(3.0) == 1
    starting.begun("b", 2.03)
    starting.begun("unknown", 9.0)
    assert (first_event.count, first_event.sum_s, starting.longest_s(9.0)) == (1, pytest.approx(0.03), 0.0)


@attrs.define
class Recorded:
    """A journal that keeps when, on the clock, which events were appended to it."""

    rows: list[tuple[float, LatencyBreach]] = attrs.Factory(list)

    async def append(self, entries: Sequence[Entry]) -> None:
        await trio.lowlevel.checkpoint()
        for each in entries:
            assert each.stream == SYSTEM_STREAM
            assert isinstance(each.event, LatencyBreach)
            self.rows.append((trio.current_time(), each.event))


async def test_breaches_are_recorded_at_once_and_then_at_most_once_a_while(autojump_clock: object) -> None:
    latencies, journal = Latencies(LatencyConfig()), Recorded()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(latencies.report, cast("Journal", journal))
        for _ in range(4):
            latencies.gate.observe(1.0)
            latencies.journal_write.observe(2.0)
            await trio.sleep(REPORT_S / 3)
        await trio.sleep(REPORT_S)
        nursery.cancel_scope.cancel()
    first, second, third, fourth = journal.rows
    assert (first[1], second[1]) == (LatencyBreach("journal_write", 25, 2000, 1), LatencyBreach("gate", 5, 1000, 1))
    assert (third[1].count, fourth[1].count) == (3, 3)
    assert third[0] - first[0] >= REPORT_S


async def test_a_run_a_commit_and_a_judgement_are_measured(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.run()
        latencies = runtime.state.latencies
        assert latencies.first_event.count == 1
        assert not latencies.starting.longest_s(trio.current_time() + 100)
