"""A run's own life: what it records and in which order, how it ends, and what its tape says whichever way it does."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.commands import CancelRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Correction, LimitReached, ModelDelta, ProviderRequest, RunFinished, RunInterrupted
from palyra_trio.runtime.runs import Run
from palyra_trio.tools.workspace import Workspace
from tests.fakes import (
    CONFIG,
    SECRET,
    FakeProvider,
    Runtime,
    Tape,
    assert_journal,
    limited,
    open_fake_runtime,
    says,
    scripted,
)


async def _driven(monkeypatch: pytest.MonkeyPatch, runtime: Runtime, body: Any) -> Tape:
    """Return the tape of a run whose loop is `body(run)`."""

    async def drive(run: Run, _workspace: Workspace) -> None:
        await body(run)

    monkeypatch.setattr("palyra_trio.runtime.sessions.drive", drive)
    return await runtime.run()


async def test_what_is_recorded_is_in_the_view_when_record_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(run: Run) -> None:
        await run.record(Correction("one"), Correction("two"))
        assert [message.text for message in run.view.messages[1:]] == ["one", "two"]
        assert run.view.seq == 3
        assert run.view.corrections == 2

    async with open_fake_runtime(tmp_path) as runtime:
        tape = await _driven(monkeypatch, runtime, body)
    assert len(tape.of(Correction)) == 2


async def test_events_land_in_the_order_of_the_calls_also_when_the_queue_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []

    async def body(run: Run) -> None:
        async def record(number: int) -> None:
            order.append(number)
            await run.record(Correction(f"{number} " + "x" * 20_000))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(record, number)
        assert run.state.journal._pending_bytes == 0

    config = attrs.evolve(CONFIG, journal=attrs.evolve(CONFIG.journal, queue_bytes=50_000))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        tape = await _driven(monkeypatch, runtime, body)
    assert [int(event.text.split()[0]) for event in tape.of(Correction)] == order


async def test_a_loop_that_returns_without_an_ending_ends_the_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(_run: Run) -> None:
        await trio.lowlevel.checkpoint()

    async with open_fake_runtime(tmp_path) as runtime:
        tape = await _driven(monkeypatch, runtime, body)
    assert tape.kinds == ["Input", "RunFinished"]


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (
            InvalidArgument(f"no {SECRET} \udcff", remedy="go"),
            "invalid_argument",
            "no [redacted:openai_key] \\xff (go)",
        ),
        (ZeroDivisionError("a bug"), "internal", "ZeroDivisionError: a bug"),
    ],
)
async def test_an_error_of_the_loop_is_the_runs_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, detail: str
) -> None:
    async def body(_run: Run) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async with open_fake_runtime(tmp_path) as runtime:
        tape = await _driven(monkeypatch, runtime, body)
        monkeypatch.undo()
        assert (await runtime.run()).end == (RunState.DONE, "final_answer")
    assert tape.end == (RunState.FAILED, reason)
    assert tape.one(RunFinished).detail == detail


async def test_a_cancel_of_a_stream_drops_the_request_and_keeps_what_arrived(tmp_path: Path) -> None:
    provider = FakeProvider(["what has arrived", trio.sleep_forever])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ModelDelta)
        await runtime.do(CancelRun(accepted.run_id))
        tape = await runtime.ended(accepted.run_id)
        assert provider.open_streams == 0
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.one(ModelDelta).text == "what has arrived"


async def test_a_cancel_that_was_acknowledged_stands_though_the_process_then_ends(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"text": "thinking", "hang": True})) as runtime:
        accepted = await runtime.start()
        await runtime.until(accepted.run_id, ProviderRequest)
        await runtime.do(CancelRun(accepted.run_id))
    (tape,) = assert_journal(tmp_path / "state").values()
    assert tape.end == (RunState.CANCELLED, "cancelled")
    assert tape.of(RunInterrupted) == []


async def test_a_run_may_be_active_for_its_time_and_no_longer(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, scripted({"hang": True}), config=limited(active_s=1)) as runtime:
        began = trio.current_time()
        tape = await runtime.run()
        assert 1 <= trio.current_time() - began < 10
    assert tape.one(LimitReached).limit == "active_s"


async def test_nothing_of_a_run_is_left_when_its_last_row_is_there(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, FakeProvider(says("done"))) as runtime:
        before = len(runtime.gateway._nursery.child_tasks)
        tape = await runtime.run()
        await wait_all_tasks_blocked(0.01)
        assert tape.end == (RunState.DONE, "final_answer")
        assert runtime.gateway.sessions._sessions == {}
        assert len(runtime.gateway._nursery.child_tasks) == before


async def test_a_call_does_not_run_under_a_grant_that_was_revoked_right_after_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(run: Run) -> None:
        run.revoke("one")
        with trio.CancelScope() as one, run.under("one", one):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope() as other, run.under("other", other):
            await trio.lowlevel.checkpoint()
        assert (one.cancelled_caught, other.cancelled_caught) == (True, False)
        await run.record(RunFinished(run.view.state, RunState.DONE, "final_answer"))

    async with open_fake_runtime(tmp_path) as runtime:
        await _driven(monkeypatch, runtime, body)
