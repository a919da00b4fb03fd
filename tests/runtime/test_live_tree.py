"""The tree of a run: empty where nothing is alive, with the jobs of its session only. Real processes: flows/test_long_jobs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.core.errors import NotFound
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.tools.job import MARK
from tests.fakes import ME, OTHER, SECRET, FakeArguments, FakeProvider, fake_tool, open_fake_runtime, says
from tests.runtime.jobs_of_tests import NEW, start_job, writing

SECRETIVE = attrs.evolve(NEW, mark="the-mark-of-this-test")


async def test_a_run_that_is_over_has_no_turn_and_no_calls_but_the_jobs_of_its_session(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        ours, others = await runtime.start(), await runtime.start()
        for each in (ours, others):
            await runtime.ended(each.run_id)
        jobs = [await start_job(runtime, ours.session_id, ours.run_id) for _ in range(2)]
        await start_job(runtime, others.session_id, others.run_id)
        tree = await runtime.gateway.tree(ours.run_id, ME)
        assert (tree.run.run_id, tree.run.state, tree.turn, tree.calls) == (ours.run_id, RunState.DONE, 0, ())
        assert [each.job.job_id for each in tree.jobs] == jobs
        with pytest.raises(NotFound):
            await runtime.gateway.tree(ours.run_id, OTHER)


async def test_a_live_run_has_its_turn_and_the_calls_without_an_outcome(tmp_path: Path) -> None:
    entered = trio.Event()

    async def hangs(_arguments: FakeArguments) -> str:
        entered.set()
        await trio.sleep_forever()
        return ""

    call = ToolCall("c1", "fake.hang")
    tools = [fake_tool("fake.hang", hangs)]
    async with open_fake_runtime(
        tmp_path, FakeProvider(says("", call)), tools=tools, left={RunState.WAITING}
    ) as runtime:
        run = await runtime.start()
        await entered.wait()
        tree = await runtime.gateway.tree(run.run_id, ME)
        assert (tree.run.state, tree.turn) == (RunState.RUNNING, 1)
        (only,) = tree.calls
        assert attrs.astuple(only) == ("c1", "fake.hang", "started", ())


@pytest.fixture
def told_a_secret() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that was started with a secret among its arguments, and has a mark."""
    script = "import select; print(flush=True); select.select([], [], [], 30)"
    environ = {MARK: SECRETIVE.mark, "PATH": os.defpath}
    with subprocess.Popen([sys.executable, "-c", script, SECRET], stdout=subprocess.PIPE, env=environ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        yield popen
        popen.kill()


async def test_secrets_in_the_arguments_of_a_process_are_masked(
    tmp_path: Path, told_a_secret: "subprocess.Popen[bytes]"
) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        run = await runtime.start()
        await runtime.ended(run.run_id)
        await runtime.state.jobs.of_call(run.session_id, run.run_id, "c1").start(SECRETIVE, writing(b""))
        (job,) = (await runtime.gateway.tree(run.run_id, ME)).jobs
    (process,) = job.processes
    assert process.pid == told_a_secret.pid
    assert process.argv[3].startswith("[redacted:")
