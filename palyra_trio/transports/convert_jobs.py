"""Between the messages of jobs.proto and the values of the core, both ways."""

from typing import cast

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.session_events import JobEnded, JobEnding, JobStarted
from palyra_trio.pb import jobs_pb2 as pb
from palyra_trio.runtime.live_tree import LiveTree
from palyra_trio.tools.processes import Process
from palyra_trio.transports.convert import state_number


def job_message(job: SessionJob) -> pb.Job:
    """Return a job without its mark, which is nobody's business outside."""
    started = job.started
    message = pb.Job(
        job_id=started.job_id,
        session_id=job.session_id,
        run_id=started.run_id,
        call_id=started.call_id,
        program=started.program,
        argv=started.argv,
        cwd=started.cwd,
        opaque=started.opaque,
        sandbox_tier=started.sandbox_tier,
        started_ms=job.started_ms,
        deadline_ms=started.deadline_ms,
    )
    if (ended := job.ended) is not None:
        message.end.CopyFrom(
            pb.JobEnd(
                ended_ms=job.ended_ms,
                ending=ended.ending,
                code=ended.code,
                by=ended.by,
                detail=ended.detail,
                pids_seen=ended.pids_seen,
                survivors=ended.survivors,
                elapsed_ms=ended.elapsed_ms,
                size_bytes=ended.size_bytes,
            )
        )
    return message


def job_of_message(message: pb.Job, principal: str) -> SessionJob:
    """Return the job that a message says; whose it is, its asker knows. It has no mark, and its output no digest."""
    started = JobStarted(
        message.job_id,
        message.run_id,
        message.call_id,
        message.program,
        tuple(message.argv),
        message.cwd,
        message.sandbox_tier,
        "",
        message.deadline_ms,
        message.opaque,
    )
    if not message.HasField("end"):
        return SessionJob(message.session_id, principal, message.started_ms, started)
    end = message.end
    ended = JobEnded(
        message.job_id,
        cast("JobEnding", end.ending),
        end.code if end.HasField("code") else None,
        end.by,
        end.detail,
        end.pids_seen,
        end.survivors,
        end.elapsed_ms,
        None,
        end.size_bytes,
    )
    return SessionJob(message.session_id, principal, message.started_ms, started, end.ended_ms, ended)


def where_to_begin(request: pb.ReadJobOutputRequest) -> int:
    """Return the first byte that is asked for, a negative one counted from the end. Raises InvalidArgument."""
    if request.since < 0 or request.tail_bytes < 0:
        raise InvalidArgument("output begins at byte 0", remedy="say since or tail_bytes, not less than 0")
    return -request.tail_bytes if request.WhichOneof("from") == "tail_bytes" else request.since


def tree_message(tree: LiveTree) -> pb.GetRunTreeResponse:
    run = tree.run
    return pb.GetRunTreeResponse(
        run_id=run.run_id,
        session_id=run.session_id,
        state=state_number(run.state),
        turn=tree.turn,
        calls=[
            pb.CallProcesses(
                call_id=call.call_id, tool=call.tool, state=call.state, processes=map(_process, call.processes)
            )
            for call in tree.calls
        ],
        jobs=[
            pb.JobProcesses(job=job_message(each.job), processes=map(_process, each.processes)) for each in tree.jobs
        ],
    )


def _process(process: Process) -> pb.Process:
    return pb.Process(
        pid=process.pid,
        parent_pid=process.parent,
        argv=process.argv,
        state=process.state,
        rss_bytes=process.rss_bytes,
        cpu_ms=process.cpu_ms,
        age_ms=process.age_ms,
    )
