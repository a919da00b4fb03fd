"""What a decision of the gate costs: both passes over one resource, as a call that has to be asked for takes them.

Every call is of another path, so no verdict is remembered from another call. Measured with the default
set, and with a thousand policies beside it that never match; and the whole of `decide_tool_call`, which also asks
whether a person may allow the call for longer.
"""

import time
from collections.abc import Callable
from statistics import median

from bench.report import Bar, Report, machine, progress
from palyra_trio.core.policy import CallFacts, PathResource, Subject, decide_tool_call
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_text import PolicySource, written
from palyra_trio.guard.presets import preset

BAR_US = 300
EXTRA = 1000
SUBJECT = Subject("01HZZZZZZZ0000000000000001", "user:me", "main")

Figures = dict[str, float]


def measure(quick: bool) -> Report:
    return compare(calls=500 if quick else 5000, rounds=3 if quick else 5)


def compare(calls: int, rounds: int, extra: int = EXTRA) -> Report:
    """Time `calls` decisions of each kind in turn, `rounds` times, and report the medians of the rounds."""
    facts = machine()
    default, own = (CedarEngine([preset("default")]) for _ in range(2))  # each remembers its own verdicts
    large = CedarEngine([preset("default"), _policies(extra)])
    contestants: dict[str, Callable[[CallFacts], object]] = {
        "both passes, default set": lambda call: both_passes(default, call),
        f"both passes, {extra:,} policies more": lambda call: both_passes(large, call),
        "decide_tool_call, default set": lambda call: decide_tool_call(SUBJECT, call, own),
    }
    found: dict[str, list[Figures]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, decide in contestants.items():
            found[name].append(_timed(decide, range(number * calls, (number + 1) * calls)))
            progress(f"round {number + 1} of {rounds}: {name}: {found[name][-1]['p50 us']:,.0f} us")
    peers = {name: {what: median(each[what] for each in rows) for what in rows[0]} for name, rows in found.items()}
    bar = Bar("p50, both passes, default set", peers["both passes, default set"]["p50 us"], "us", BAR_US, at_most=True)
    return Report("gate", [bar], peers, facts)


def both_passes(engine: CedarEngine, call: CallFacts) -> None:
    """Evaluate a call as if nobody had approved it, then as if somebody had."""
    engine.evaluate(SUBJECT, call, call.resources[0], "none")
    engine.evaluate(SUBJECT, call, call.resources[0], "once")


def _policies(count: int) -> PolicySource:
    """Return policies of the action that is measured, each for another agent and folder."""
    conditions = (f'principal.agent == "agent{each}" && resource.path like "{each}/*"' for each in range(count))
    policies = (
        written("permit", f"extra{each}", "", actions=["fs.write"], when=when) for each, when in enumerate(conditions)
    )
    return PolicySource("extra.cedar", "\n".join(policies))


def _call(number: int) -> CallFacts:
    return CallFacts(
        tool="files.write",
        action="fs.write",
        risk="medium",
        read_only=False,
        resources=(PathResource(f"src/file{number}.py"),),
        arguments_digest=f"{number:064x}",
        workspace="/home/me/project",
        calls_left=200,
        now_s=1_760_000_000 + number,
    )


def _timed(decide: Callable[[CallFacts], object], numbers: range) -> Figures:
    times = []
    for number in numbers:
        call = _call(number)
        began = time.perf_counter()
        decide(call)
        times.append(time.perf_counter() - began)
    times.sort()
    return {"p50 us": times[len(times) // 2] * 1e6, "p99 us": times[len(times) * 99 // 100] * 1e6}
