"""What Prometheus reads agrees with the tape, and is in its format."""

from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from palyra_trio import __version__
from palyra_trio.core.codec import KIND_NAMES
from palyra_trio.journal.feed import Feed
from palyra_trio.runtime.counters import Counters
from palyra_trio.transports.metrics import Metrics
from tests.fakes import assert_journal, open_fake_runtime


async def test_the_numbers_are_those_of_the_tape(tmp_path: Path) -> None:
    counters = Counters(spans_lost=2, spans_rejected=3)
    async with open_fake_runtime(tmp_path, feed=Feed(watch=counters.take), counters=counters) as runtime:
        for _ in range(3):
            await runtime.run()
        text = Metrics(runtime.gateway).text().decode()
    samples = {
        " ".join([sample.name, *map("=".join, sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    of_runs = Counter(KIND_NAMES[row.kind] for tape in assert_journal(tmp_path / "state").values() for row in tape.rows)
    assert {kind: samples[f"palyra_events_total kind={kind}"] for kind in of_runs} == of_runs
    assert samples["palyra_runs_ended_total state=done"] == 3
    assert samples["palyra_latency_seconds_count name=first_event"] == 3
    assert samples["palyra_latency_seconds_bucket le=+Inf name=first_event"] == 3
    assert samples["palyra_latency_budget_seconds name=gate"] * 1000 == pytest.approx(5)
    assert samples[f"palyra_build_info version={__version__}"] == 1
    assert samples["palyra_processes_survived_total"] == 0
    assert (samples["palyra_trace_spans_lost_total"], samples["palyra_trace_spans_rejected_total"]) == (2, 3)
    assert samples["process_open_fds"] > 0
    assert "# HELP palyra_live_runs Runs that are running" in text
