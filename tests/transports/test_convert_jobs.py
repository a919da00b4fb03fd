"""A job over the wire is the job that was sent, without its mark and without the digest of its output."""

import attrs
import pytest
from hypothesis import given

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.jobs import SessionJob
from palyra_trio.core.session_events import JobEnded, JobStarted
from palyra_trio.pb import jobs_pb2 as pb
from palyra_trio.transports.convert_jobs import job_message, job_of_message, where_to_begin
from tests.core.instances import instances


def small(event: object) -> bool:
    numbers = [value for value in attrs.astuple(event) if isinstance(value, int)]  # type: ignore[arg-type]
    return all(0 <= each < 2**31 for each in numbers)


@given(instances(JobStarted).filter(small), instances(JobEnded).filter(small))
def test_a_job_survives_the_way(started: JobStarted, ended: JobEnded) -> None:
    ended = attrs.evolve(ended, job_id=started.job_id, output=None, v=1)
    started = attrs.evolve(started, mark="", v=1)
    for job in (SessionJob("S1", "user:me", 7, started), SessionJob("S1", "user:me", 7, started, 9, ended)):
        assert job_of_message(job_message(job), "user:me") == job


def test_where_output_begins() -> None:
    assert where_to_begin(pb.ReadJobOutputRequest()) == 0
    assert where_to_begin(pb.ReadJobOutputRequest(since=7)) == 7
    assert where_to_begin(pb.ReadJobOutputRequest(tail_bytes=7)) == -7
    with pytest.raises(InvalidArgument):
        where_to_begin(pb.ReadJobOutputRequest(tail_bytes=-7))
