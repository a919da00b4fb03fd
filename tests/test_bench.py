"""The benches' last line keeps its form. What the figures are is the benches' own business."""

import json

import pytest

from bench import (
    append,
    catch_up,
    console,
    fan_out,
    gate,
    idle,
    injection,
    live,
    overload,
    quic,
    quic_loads,
    redact,
    steps,
    stream,
)
from bench.contest import NOT_INSTALLED, Peer
from bench.report import Bar, Report
from tests.flows.agentdojo.corpus import load


def last_line(report: Report, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    report.show()
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_append_ends_with_its_result_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = last_line(append.compare(round_s=0.5, rounds=1, appenders=(1, 100)), capsys)
    assert result.keys() == {"name", "bars", "peers", "machine"}
    assert result["name"] == "append"
    bars = result["bars"]
    assert isinstance(bars, list)
    assert len(bars) == 4
    for bar in bars:
        assert bar.keys() == {"what", "value", "unit", "bar", "ok"}
        assert bar["value"] > 0
    machine = result["machine"]
    assert isinstance(machine, dict)
    assert {"cpu", "cores", "kernel", "python", "sqlite", "fdatasync_p50_us"} <= machine.keys()


def test_a_bar_says_whether_it_is_met_in_its_own_direction() -> None:
    assert Bar("throughput", 10, "1/s", 10).ok
    assert not Bar("throughput", 9, "1/s", 10).ok
    assert Bar("latency", 9, "ms", 10, at_most=True).ok
    assert not Bar("latency", 11, "ms", 10, at_most=True).ok
    assert not Bar("ratio", None, "x", 10).ok


def test_a_peer_that_is_not_installed_leaves_the_ratios_unmeasured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Peer, "version", lambda _: "")
    result = last_line(steps.compare(rounds=1), capsys)
    bars, peers = result["bars"], result["peers"]
    assert isinstance(bars, list)
    assert isinstance(peers, dict)
    assert [(bar["value"], bar["ok"]) for bar in bars] == [(None, False), (None, False)]
    assert all(peer == {"version": NOT_INSTALLED} for peer in peers.values())


def test_stream_measures_catch_up_live_deltas_and_cancels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "WARM_UP_S", 0.1)
    monkeypatch.setattr(live, "RATES", (100,))
    monkeypatch.setattr(catch_up, "TAPES_EACH", {1: 1})
    result = last_line(stream.compare(tapes=2, rows=300, rounds=1, seconds=0.4, clients=4), capsys)
    bars, peers = result["bars"], result["peers"]
    assert isinstance(bars, list)
    assert isinstance(peers, dict)
    assert [bar["unit"] for bar in bars] == ["x", "x", "ms", "ms", "ms"]
    assert peers["palyra-trio"]["events/s, 1 follower"] > 0
    assert peers["live, 4 runs at 100 deltas/s"]["p50 ms"] > 0


def test_idle_watches_a_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    result = last_line(idle.watch(seconds=0.3, settling_s=0), capsys)
    bars = result["bars"]
    assert isinstance(bars, list)
    assert [bar["unit"] for bar in bars] == ["%", "MB"]
    assert bars[1]["value"] > 10


def test_console_measures_pages_events_and_overload(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overload, "ONSET_S", 0.3)
    monkeypatch.setattr(fan_out, "FOLLOWERS", 5)
    result = last_line(console.compare(rows=3_000, loads=1, fan_out_rows=50, seconds=0.5), capsys)
    bars, peers = result["bars"], result["peers"]
    assert isinstance(bars, list)
    assert isinstance(peers, dict)
    assert [bar["unit"] for bar in bars] == ["ms", "KB", "ms", "KB", "x", "ms"]
    assert peers["server-sent events, 5 followers"]["events/s"] > 0
    assert peers["runs, unloaded"]["first event p99 ms"] > 0
    assert peers["runs, at 3 times the capacity"]["capacity/s"] > 0


def test_gate_times_both_passes_with_few_and_with_many_policies(capsys: pytest.CaptureFixture[str]) -> None:
    result = last_line(gate.compare(calls=10, rounds=1, extra=20), capsys)
    bars, peers = result["bars"], result["peers"]
    assert isinstance(bars, list)
    assert isinstance(peers, dict)
    assert [(bar["unit"], bar["bar"]) for bar in bars] == [("us", 300)]
    assert len(peers) == 3
    for figures in peers.values():
        assert 0 < figures["p50 us"] <= figures["p99 us"]


def test_injection_counts_what_took_effect_with_the_gate_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = load()
    result = last_line(injection.compare([next(corpus.sample())], [next(corpus.tasks())]), capsys)
    bars, peers = result["bars"], result["peers"]
    assert isinstance(bars, list)
    assert isinstance(peers, dict)
    assert all(bar["ok"] for bar in bars)
    assert peers["attacks, no gate"]["took effect"] == 1
    assert peers["attacks, default, a person refuses"]["took effect"] == 0
    assert {len(figures) for figures in peers.values()} == {6, 7}


def test_redact_measures_texts_values_and_streams(capsys: pytest.CaptureFixture[str]) -> None:
    result = last_line(redact.compare(calls=3, vaults=(0, 2)), capsys)
    peers = result["peers"]
    assert isinstance(peers, dict)
    assert peers.keys() == {"0 values kept", "2 values kept"}
    assert all(figure > 0 for figures in peers.values() for figure in figures.values())


def test_quic_lets_servers_take_turns_under_every_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quic_loads, "SETTLING_S", 0)
    amounts = quic.Amounts(rounds=1, seconds=0.2, megabytes=1, idle=50, idle_s=0.1)
    result = last_line(quic.compare(amounts, quic.PEERS[:2]), capsys)
    bars, peers = result["bars"], result["peers"]
    assert isinstance(bars, list)
    assert isinstance(peers, dict)
    values = {bar["what"]: bar["value"] for bar in bars}
    assert values["32 in flight: requests/s, ratio to aioquic, asyncio"] > 0
    assert values["32 in flight: requests/s, ratio to Hypercorn, Trio"] is None
    for what in ("1 in flight", "100 in flight", "ping", "handshakes"):
        for name in (quic.OURS, quic.AIOQUIC):
            assert 0 < peers[f"{what}: {name}"]["p50 ms"] <= peers[f"{what}: {name}"]["p99 ms"]
    assert peers[f"idle: {quic.OURS}"]["KB each"] > 1


def test_quic_measures_bulk_where_its_client_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not {"down", "up"} & {what for what, _ in quic._loads(quic.QUICK)}
    assert "apt-get install ngtcp2-client" in capsys.readouterr().err
