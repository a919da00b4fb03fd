"""The tree of what is alive of a run, as lines and as plain values: the run, its turn's calls, their processes, the jobs."""

from collections.abc import Iterable, Iterator
from typing import Any

from palyra_trio.cli.door import ask_process
from palyra_trio.core.identity import RunId
from palyra_trio.core.trees import beneath
from palyra_trio.core.words import ahead, duration, one_line
from palyra_trio.pb import jobs_pb2 as pb
from palyra_trio.pb.jobs_grpc import JobsServiceStub

ARGV_CHARACTERS = 100


def ask_tree(run_id: RunId) -> pb.GetRunTreeResponse | None:
    """Return the tree as the process that holds the state directory sees it, None where none does."""
    tree: pb.GetRunTreeResponse | None
    tree = ask_process(JobsServiceStub, "GetRunTree", pb.GetRunTreeRequest(run_id=run_id))
    return tree


def tree_lines(tree: pb.GetRunTreeResponse, state: str, now_ms: int) -> Iterator[str]:
    """Yield the tree, a line a call, job or process. `state` is the run's in a word."""
    turn = f", turn {tree.turn}" if tree.turn else ""
    yield f"run {tree.run_id} {state}{turn}"
    for call in tree.calls:
        yield f"  call {one_line(call.call_id)} {one_line(call.tool)} {call.state}"
        yield from _process_lines(call.processes, 4)
    yield f"session {tree.session_id}"
    for each in tree.jobs:
        left = ahead(each.job.deadline_ms, now_ms)
        command = one_line(" ".join(each.job.argv), ARGV_CHARACTERS)
        yield f"  job {each.job.job_id} for {left} more at most, sandbox tier {each.job.sandbox_tier}: {command}"
        yield from _process_lines(each.processes, 4)


def tree_plain(tree: pb.GetRunTreeResponse, state: str) -> dict[str, Any]:
    return {
        "run_id": tree.run_id,
        "session_id": tree.session_id,
        "state": state,
        "turn": tree.turn,
        "calls": [
            {"call_id": call.call_id, "tool": call.tool, "state": call.state, "processes": _plain(call.processes)}
            for call in tree.calls
        ],
        "jobs": [
            {
                "job_id": each.job.job_id,
                "run_id": each.job.run_id,
                "argv": list(each.job.argv),
                "sandbox_tier": each.job.sandbox_tier,
                "deadline_ms": each.job.deadline_ms,
                "processes": _plain(each.processes),
            }
            for each in tree.jobs
        ],
    }


def _process_lines(processes: Iterable[pb.Process], indent: int) -> Iterator[str]:
    """Yield a line a process, each beneath its parent."""
    known = {each.pid: each for each in processes}
    for pid, depth in beneath({each.pid: each.parent_pid for each in known.values()}):
        yield f"{' ' * (indent + 2 * depth)}{_in_words(known[pid])}"


def _in_words(process: pb.Process) -> str:
    used = f"{process.rss_bytes / 1e6:.1f} MB, {duration(process.cpu_ms)} CPU, {duration(process.age_ms)} old"
    command = one_line(" ".join(process.argv), ARGV_CHARACTERS) or "(no arguments)"
    return f"{process.pid} {process.state} {used}: {command}"


def _plain(processes: Iterable[pb.Process]) -> list[dict[str, Any]]:
    names = [field.name for field in pb.Process.DESCRIPTOR.fields if field.name != "argv"]
    return [{**{name: getattr(each, name) for name in names}, "argv": list(each.argv)} for each in processes]
