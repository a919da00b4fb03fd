"""Jobs over gRPC: lists by the page, output that is followed by several at once, a stop, and the tree of a run."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from grpclib.exceptions import GRPCError

from palyra_trio.core.identity import Scope
from palyra_trio.pb import jobs_pb2 as pb
from palyra_trio.pb import runs_pb2, sessions_pb2, tokens_pb2
from palyra_trio.runtime.job_output import KEPT_BYTES
from tests.runtime.jobs_of_tests import NEW, start_job
from tests.transports.served import ALICE, Served, code_of, open_served


async def run(served: Served) -> Any:
    start = runs_pb2.StartRun(text="hello", workspace=str(served.runtime.workspace))
    return await served.call("RouteMessage", runs_pb2.RouteMessageRequest(start=start))


async def output(served: Served, **request: Any) -> list[Any]:
    async with served.talk("JobsService/ReadJobOutput") as talk:
        await talk.say(pb.ReadJobOutputRequest(**request))
        return await talk.rest()


async def test_jobs_are_listed_by_the_page_and_shown(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run(served)
        names = [await start_job(served.runtime, done.session_id, done.run_id) for _ in range(3)]
        request = pb.ListJobsRequest(session=done.session_id, page_size=2)
        page = await served.call("JobsService/ListJobs", request)
        rest = await served.call(
            "JobsService/ListJobs", pb.ListJobsRequest(page_size=2, page_token=page.next_page_token)
        )
        assert [each.job_id for each in (*page.jobs, *rest.jobs)] == sorted(names, reverse=True)
        assert rest.next_page_token == ""
        job = (await served.call("JobsService/GetJob", pb.GetJobRequest(job_id=names[0].lower()))).job
        assert (job.session_id, job.run_id, job.program) == (done.session_id, done.run_id, NEW.program)
        assert tuple(job.argv) == NEW.argv
        assert not job.HasField("end")
        assert NEW.mark.encode() not in job.SerializeToString()


async def test_a_job_is_stopped_and_its_end_told(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run(served)
        job_id = await start_job(served.runtime, done.session_id, done.run_id, b"some\n")
        stopped = (await served.call("JobsService/StopJob", pb.StopJobRequest(job_id=job_id))).job
        assert (stopped.end.ending, stopped.end.by, stopped.end.size_bytes) == ("stopped", ALICE, 5)
        assert not stopped.end.HasField("code")
        running = await served.call("JobsService/ListJobs", pb.ListJobsRequest())
        assert not running.jobs
        with pytest.raises(GRPCError) as error:
            await served.call("JobsService/StopJob", pb.StopJobRequest(job_id=job_id))
        assert code_of(error.value) == "state_conflict"


async def test_two_clients_follow_the_same_output_to_its_end(tmp_path: Path) -> None:
    until = trio.Event()
    seen: list[list[Any]] = []
    async with open_served(tmp_path) as served:
        done = await run(served)
        job_id = await start_job(served.runtime, done.session_id, done.run_id, b"one\ntwo\n", until)

        async def follow(**where: Any) -> None:
            seen.append(await output(served, job_id=job_id, follow=True, **where))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(lambda: follow(tail_bytes=4))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not seen
            until.set()
        pieces = sorted(seen, key=lambda each: int(each[0].offset))
        assert [b"".join(each.data for each in one) for one in pieces] == [b"one\ntwo\n", b"two\n"]
        assert all(one[-1].ended for one in pieces)
        (again,) = await output(served, job_id=job_id, since=4)
        assert (again.offset, again.data, again.size_bytes, again.ended) == (4, b"two\n", 8, True)


async def test_what_is_there_is_sent_at_once_and_what_is_gone_is_not_pretended(tmp_path: Path) -> None:
    data = b"0123456\n" * (KEPT_BYTES // 2)
    async with open_served(tmp_path) as served:
        done = await run(served)
        job_id = await start_job(served.runtime, done.session_id, done.run_id, data)
        pieces = await output(served, job_id=job_id)
    assert pieces[0].offset == len(data) - KEPT_BYTES
    assert b"".join(each.data for each in pieces) == data[-KEPT_BYTES:]
    assert not pieces[-1].ended


async def test_who_may_not_read_any_more_is_sent_no_more(tmp_path: Path) -> None:
    until = trio.Event()
    async with open_served(tmp_path) as served:
        done = await run(served)
        job_id = await start_job(served.runtime, done.session_id, done.run_id, b"one\n", until)
        issued = await served.token(ALICE, Scope.READ)
        metadata = {"authorization": f"Bearer {issued.secret}"}
        async with served.talk("JobsService/ReadJobOutput", metadata=metadata) as talk:
            await talk.say(pb.ReadJobOutputRequest(job_id=job_id, follow=True))
            assert (await talk.hear()).data == b"one\n"
            revoke = tokens_pb2.RevokeTokenRequest(token_id=issued.token.token_id)
            await served.call("TokenService/RevokeToken", revoke, "root")
            until.set()
            with pytest.raises(GRPCError) as error:
                await talk.rest()
    assert code_of(error.value) == "unauthenticated"


async def test_an_archived_session_has_no_job_when_that_is_answered(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run(served)
        job_id = await start_job(served.runtime, done.session_id, done.run_id)
        await served.call("ArchiveSession", sessions_pb2.ArchiveSessionRequest(session=done.session_id))
        job = (await served.call("JobsService/GetJob", pb.GetJobRequest(job_id=job_id))).job
        assert job.end.ending == "session_archived"


async def test_a_session_that_is_begun_anew_leaves_its_jobs_behind_dead(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        opened = await served.call("ResolveSession", sessions_pb2.ResolveSessionRequest(key="k"))
        job_id = await start_job(served.runtime, opened.session.session_id, "R1")
        again = await served.call("ResolveSession", sessions_pb2.ResolveSessionRequest(key="k", reset=True))
        assert again.session.session_id != opened.session.session_id
        job = (await served.call("JobsService/GetJob", pb.GetJobRequest(job_id=job_id))).job
        assert job.end.ending == "session_archived"


async def test_the_tree_of_a_run_that_is_over_has_the_jobs_of_its_session(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run(served)
        names = [await start_job(served.runtime, done.session_id, done.run_id) for _ in range(2)]
        tree = await served.call("JobsService/GetRunTree", pb.GetRunTreeRequest(run_id=done.run_id))
    assert (tree.run_id, tree.state, tree.turn) == (done.run_id, runs_pb2.RUN_STATE_DONE, 0)
    assert [each.job.job_id for each in tree.jobs] == names
    assert not tree.calls


async def test_output_begins_nowhere_before_its_beginning(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run(served)
        job_id = await start_job(served.runtime, done.session_id, done.run_id)
        with pytest.raises(GRPCError) as error:
            await output(served, job_id=job_id, since=-1)
    assert code_of(error.value) == "invalid_argument"
