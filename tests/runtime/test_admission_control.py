"""Pausing the admission of new runs: at once, on the tape, over restarts, and for new runs only."""

from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.commands import PauseAdmission, ResumeAdmission
from palyra_trio.core.config import Config, LatencyConfig
from palyra_trio.core.errors import Busy, InvalidArgument
from palyra_trio.core.run import RunState
from palyra_trio.core.system_events import AdmissionPaused, AdmissionResumed
from palyra_trio.core.tape import SYSTEM_STREAM, ModelDelta
from palyra_trio.runtime.admission_control import CALM_S, AdmissionControl
from palyra_trio.runtime.latency import Latencies
from tests.fakes import CONFIG, ME, SECRET, FakeProvider, open_fake_runtime, says

BUDGETED = attrs.evolve(CONFIG, latency=LatencyConfig())


@attrs.frozen
class StateSketch:
    """What the load is read from."""

    config: Config = attrs.Factory(Config)
    latencies: Latencies = attrs.Factory(lambda: Latencies(LatencyConfig()))


async def test_new_runs_are_refused_with_who_paused_and_why_and_taken_again_after_a_resume(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.do(PauseAdmission("the disk is being replaced"))
        with pytest.raises(Busy, match=f"{ME.principal} paused that: the disk is being replaced") as refused:
            await runtime.start()
        assert "palyra-trio resume" in refused.value.remedy
        assert not await runtime.gateway.ask(lambda reader: reader.runs(ME.principal))
        await runtime.do(ResumeAdmission())
        assert runtime.gateway.health().paused is None
        assert (await runtime.run()).end == (RunState.DONE, "final_answer")


async def test_runs_that_were_accepted_go_on(tmp_path: Path) -> None:
    release = trio.Event()
    provider = FakeProvider([release.wait, *says("one")])
    async with open_fake_runtime(tmp_path, provider) as runtime:
        live = await runtime.start()
        await runtime.do(PauseAdmission())
        release.set()
        assert (await runtime.ended(live.run_id)).of(ModelDelta)


async def test_a_pause_holds_over_a_restart_and_both_ends_of_it_are_on_the_tape(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.do(PauseAdmission(f"leaked {SECRET}"))
    async with open_fake_runtime(tmp_path, boot_id="boot-2") as runtime:
        with pytest.raises(Busy):
            await runtime.start()
        await runtime.do(ResumeAdmission())
        rows = await runtime.gateway.ask(lambda reader: list(reader.tape(SYSTEM_STREAM)))
    async with open_fake_runtime(tmp_path, boot_id="boot-3") as runtime:
        await runtime.run()
    events = [event for row in rows if isinstance(event := row.event(), AdmissionPaused | AdmissionResumed)]
    assert events == [AdmissionPaused(ME.principal, "leaked [redacted:openai_key]"), AdmissionResumed(ME.principal)]


async def test_new_runs_are_refused_at_once_while_one_that_was_let_in_does_not_begin(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=BUDGETED) as runtime:
        starting = runtime.state.latencies.starting
        starting.admitted("slow", trio.current_time() - 1.0)
        with pytest.raises(Busy, match="more new runs than this daemon can begin within 100 ms"):
            await runtime.start()
        starting.gone("slow")
        assert (await runtime.run()).end == (RunState.DONE, "final_answer")


def test_a_burst_is_let_in_whole_and_once_one_was_late_they_start_one_at_a_time() -> None:
    state = StateSketch()
    door = AdmissionControl(state, None)  # type: ignore[arg-type]
    with ExitStack() as burst:
        for _ in range(50):
            burst.enter_context(door.entering(10.0))
        burst.enter_context(door.entering(10.1))
        with pytest.raises(Busy, match="more new runs than this daemon can begin within 100 ms"):
            burst.enter_context(door.entering(10.101))
    with door.entering(10.2):
        state.latencies.starting.admitted("one", 10.2)
        with pytest.raises(Busy), door.entering(10.2):
            pass
    with pytest.raises(Busy), door.entering(10.2):
        pass
    state.latencies.starting.begun("one", 10.21)
    with door.entering(10.21):
        pass


def test_the_door_is_wide_again_when_nobody_was_refused_for_a_while() -> None:
    state = StateSketch()
    door = AdmissionControl(state, None)  # type: ignore[arg-type]
    state.latencies.starting.admitted("slow", 10.0)
    with pytest.raises(Busy), door.entering(10.2):
        pass
    state.latencies.starting.begun("slow", 10.2)
    with ExitStack() as burst:
        for _ in range(50):
            burst.enter_context(door.entering(10.2 + CALM_S))


async def test_a_run_that_is_refused_for_another_reason_does_not_keep_the_door(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, config=BUDGETED) as runtime:
        starting = runtime.state.latencies.starting
        starting.admitted("slow", trio.current_time() - 1.0)
        with pytest.raises(Busy):
            await runtime.start()
        starting.gone("slow")
        with pytest.raises(InvalidArgument):
            await runtime.start("  ")
        assert (await runtime.run()).end == (RunState.DONE, "final_answer")
