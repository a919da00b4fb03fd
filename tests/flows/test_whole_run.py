"""Whole runs against the tapes that they left when they were recorded.

`python -m tests.flows.test_whole_run` records them again: for a change that is meant, look at the diff, then keep it.
"""

import itertools
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.chain import canonical_json
from palyra_trio.core.codec import KIND_NAMES, decode
from palyra_trio.core.commands import CancelRun, DecideApproval, DefineAgent
from palyra_trio.core.messages import ModelReply, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.session import SessionRef
from palyra_trio.core.tape import ApprovalRequested, ModelDelta
from palyra_trio.core.view import RunView, fold
from palyra_trio.providers.base import ProviderError
from tests.fakes import SECRET, FakeProvider, Runtime, Step, Tape, limited, open_fake_runtime, says

GOLDEN = Path(__file__).parents[1] / "golden" / "runs"
OLD = GOLDEN.with_name("old_runs")  # as they were recorded before events had some of the fields that they have now
NOW_S = 1_760_000_000.0
KINDS = {name: kind for kind, name in KIND_NAMES.items()}

FOREIGN: dict[str, dict[str, Any]] = {
    "Input": {"payload_digest": "0" * 64, "model": ""},  # of the folder, among others; the fake model's address
    "ProviderRequest": {"tools": "0" * 64},  # of every description of a tool
    "PolicyDecision": {"policy_hash": "0" * 64},  # of every policy
    "ApprovalRequested": {"binding": "0" * 64},  # of the folder, among others
    "ToolFinished": {"elapsed_ms": 0},
}

Scenario = Callable[[Runtime], Awaitable[Tape]]


def _run(*turns: Sequence[Step], **fields: Any) -> Scenario:
    async def scenario(runtime: Runtime) -> Tape:
        return await runtime.run("do it", FakeProvider(*turns), **fields)

    return scenario


def _asked(granted: bool, reason: str = "") -> Scenario:
    async def scenario(runtime: Runtime) -> Tape:
        accepted = await runtime.start("write it", FakeProvider(says("", WRITE), says("done")))
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.do(DecideApproval(asked.approval_id, granted, reason))
        return await runtime.ended(accepted.run_id)

    return scenario


async def _corrected(runtime: Runtime) -> Tape:
    schema = {"type": "object", "required": ["ok"]}
    await runtime.do(DefineAgent(AgentSpec("judge", instructions="Judge.", answer_schema=schema)))
    return await runtime.run("is it?", FakeProvider(says("maybe"), says('{"ok": true}')), agent="judge")


async def _cancelled(runtime: Runtime) -> Tape:
    accepted = await runtime.start("think", FakeProvider(["thinking about it ", trio.sleep_forever]))
    await runtime.until(accepted.run_id, ModelDelta)
    await runtime.do(CancelRun(accepted.run_id, "enough"))
    return await runtime.ended(accepted.run_id)


async def _continued(runtime: Runtime) -> Tape:
    provider = FakeProvider(says("", READ), says("one"), says("two"))
    await runtime.run("first", provider, session=SessionRef(key="k"))
    return await runtime.run("second", provider, session=SessionRef(key="k"))


READ = ToolCall("", "files.read", {"path": "a.txt"})
WRITE = ToolCall("w", "files.write", {"path": "a.txt", "text": "one\nthree\n"})
SCENARIOS: dict[str, Scenario] = {
    "answered": _run(says("Let me look.", READ), ["It says ", "one and ", "two.", ModelReply("It says one and two.")]),
    "approved": _asked(True),
    "denied": _asked(False, "not this file"),
    "unattended": _run(says("", WRITE), attended=False),
    "refused": _run(says("", ToolCall("x", "files.read", {"path": "../up"})), says("it cannot be read")),
    "redacted": _run(says(f"The key is {SECRET}.", ToolCall("k", "files.read", {"path": SECRET})), says("done")),
    "retried": _run([ProviderError("overloaded", "no room", retryable=True)], says("at last")),
    "provider_failed": _run([ProviderError("auth", "the key is wrong", remedy="set another")]),
    "limited": _run(says("", READ)),
    "corrected": _corrected,
    "cancelled": _cancelled,
    "continued": _continued,
}


async def _play(scenario: Scenario, folder: Path) -> list[dict[str, Any]]:
    (folder / "work").mkdir()
    (folder / "work" / "a.txt").write_text("one\ntwo\n")
    numbers = itertools.count(1)
    async with open_fake_runtime(
        folder,
        config=limited(turns=2),
        now_s=lambda: NOW_S,
        random=lambda size: next(numbers).to_bytes(size, "big"),
    ) as runtime:
        return _normal(await scenario(runtime), folder)


def _normal(tape: Tape, folder: Path) -> list[dict[str, Any]]:
    """Return a tape without what differs from run to run: the batches of its deltas, durations, and where it ran."""
    lines: list[dict[str, Any]] = []
    for row, kind in zip(tape.rows, tape.kinds, strict=True):
        assert row.body is not None
        assert row.at_ms == NOW_S * 1000
        body = json.loads(row.body.replace(str(folder).encode(), b"/FOLDER"))
        if lines and kind == lines[-1]["kind"] == "ModelDelta":
            lines[-1]["body"]["text"] += body["text"]
            continue
        lines.append({"kind": kind, "body": body | FOREIGN.get(kind, {})})
    return lines


def _read(name: str, folder: Path = GOLDEN) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_run_leaves_the_tape_that_it_always_left(tmp_path: Path, name: str) -> None:
    assert await _play(SCENARIOS[name], tmp_path) == _read(name)


@pytest.mark.parametrize("folder", [GOLDEN, OLD], ids=["today", "old"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_recorded_tape_decodes_to_what_it_says_and_folds_to_its_end(name: str, folder: Path) -> None:
    view = RunView()
    for line in _read(name, folder):
        event = decode(KINDS[line["kind"]], canonical_json(line["body"]))
        assert event is not None
        body = json.loads(canonical_json(event))
        assert _has(body, line["body"])
        assert folder == OLD or body == line["body"]
        fold(view, event)
    assert view.terminal
    assert view.finished is not None
    expected = {
        "unattended": (RunState.FAILED, "approval_expired"),
        "provider_failed": (RunState.FAILED, "provider_auth"),
        "limited": (RunState.FAILED, "limit_turns"),
        "cancelled": (RunState.CANCELLED, "cancelled"),
    }
    assert (view.state, view.reason) == expected.get(name, (RunState.DONE, "final_answer"))


def _has(now: Any, then: Any) -> bool:
    """Return whether `now` says all that `then` said; objects may say more."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(key in now and _has(now[key], each) for key, each in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(_has, now, then))
    return bool(now == then)


def test_every_recorded_tape_is_played() -> None:
    assert {path.stem for path in GOLDEN.glob("*.jsonl")} == set(SCENARIOS)


def _record() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, scenario in SCENARIOS.items():
        with tempfile.TemporaryDirectory() as folder:
            lines = trio.run(_play, scenario, Path(folder))
        text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
        (GOLDEN / f"{name}.jsonl").write_text(text, "utf-8")


if __name__ == "__main__":
    _record()
