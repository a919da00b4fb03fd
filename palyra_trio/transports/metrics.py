"""What a daemon says of itself to Prometheus: counters and histograms as they stand, in its text format.

The numbers are folded where things happen (`runtime.counters`, `runtime.latency`); here they only get names and labels.
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from palyra_trio import __version__
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.runtime.latency import BOUNDS_MS, Latency

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one process."""

    def __init__(self, gateway: Gateway) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(gateway))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return the metrics as they stand, in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Collected(Collector):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def describe(self) -> list[Metric]:
        return []  # else registering would collect

    def collect(self) -> Iterator[Metric]:
        counters, latencies, health = self._gateway.counters, self._gateway.latencies, self._gateway.health()
        yield _labelled("palyra_events", "Events that became durable, by kind.", "kind", counters.events)
        yield _labelled("palyra_runs_ended", "Runs that ended, by state.", "state", counters.runs_ended)
        yield _labelled(
            "palyra_tool_results", "Tool calls that ended, ok or by error.", "result", counters.tool_results
        )
        yield _labelled("palyra_policy_decisions", "Decisions of policy.", "outcome", counters.policy_decisions)
        yield _labelled("palyra_approvals_decided", "Approvals decided.", "outcome", counters.approvals_decided)
        usage = counters.usage
        tokens = Counter(input=usage.input_tokens, cached_input=usage.cached_input_tokens, output=usage.output_tokens)
        yield _labelled("palyra_model_tokens", "Tokens as providers count them.", "direction", tokens)
        yield _counter("palyra_processes_killed", "Processes of tools that were killed.", counters.processes_killed)
        yield _counter("palyra_processes_survived", "Processes that survived that; must stay 0.", counters.survivors)
        yield GaugeMetricFamily("palyra_live_runs", "Runs that are running, not those that wait.", health.live_runs)
        yield _counter("palyra_trace_spans_lost", "Spans of traces that could not be sent.", counters.spans_lost)
        yield _counter("palyra_trace_spans_rejected", "Spans that the collector rejected.", counters.spans_rejected)
        yield GaugeMetricFamily("palyra_journal_position", "The place of the newest row of this process.", health.g)
        yield GaugeMetricFamily("palyra_draining", "1 while the process shuts down.", int(health.draining))
        paused = int(health.paused is not None)
        yield GaugeMetricFamily("palyra_admission_paused", "1 while new runs are not taken.", paused)
        yield GaugeMetricFamily(
            "palyra_sandbox_tier", "The tier that programs run in; 0 for none.", health.sandbox.tier
        )
        built = GaugeMetricFamily("palyra_build_info", "The version.", labels=["version"])
        built.add_metric([__version__], 1)
        yield built
        yield _histogram(latencies.all)
        budgets = GaugeMetricFamily("palyra_latency_budget_seconds", "What each may take.", labels=["name"])
        for each in latencies.all:
            budgets.add_metric([each.name], each.budget_ms / 1000)
        yield budgets
        breaches = Counter({each.name: each.breaches for each in latencies.all})
        yield _labelled("palyra_latency_breaches", "How often it took longer.", "name", breaches)


def _counter(name: str, words: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(name, words, value)


def _labelled(name: str, words: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, words, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(latencies: tuple[Latency, ...]) -> HistogramMetricFamily:
    family = HistogramMetricFamily("palyra_latency_seconds", "How long what people wait for takes.", labels=["name"])
    for each in latencies:
        running, buckets = 0, list[tuple[str, float]]()
        for bound_ms, count in zip((*BOUNDS_MS, None), each.counts, strict=True):
            running += count
            buckets.append(("+Inf" if bound_ms is None else str(bound_ms / 1000), running))
        family.add_metric([each.name], buckets, each.sum_s)
    return family
