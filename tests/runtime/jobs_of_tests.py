"""Jobs without programs, for tests of what is around them: they write what they are told to, and go on until they are ended."""

import os
from collections.abc import Callable

import trio

from palyra_trio.tools.job import KillReceipt, Outcome, Take
from palyra_trio.tools.session_jobs import NewJob, Work
from tests.fakes import Runtime

NEW = NewJob("/usr/bin/true", ("true", "an argument"), "/work", "", 4, "no-process-has-this-mark", 3600)


def writing(data: bytes, until: trio.Event | None = None) -> Work:
    """Return work that writes `data` and then goes on until it is ended, or `until` is set."""

    async def work(take: Take, killed: Callable[[KillReceipt], None], stdin: int) -> Outcome:
        os.close(stdin)
        take("stdout", data)
        await (trio.Event() if until is None else until).wait()
        return Outcome(0)

    return work


async def start_job(
    runtime: Runtime, session_id: str, run_id: str, data: bytes = b"", until: trio.Event | None = None
) -> str:
    jobs = runtime.state.jobs.of_call(session_id, run_id, "c1")
    return (await jobs.start(NEW, writing(data, until))).job_id
