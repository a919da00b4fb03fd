"""The JobsService: the long jobs of the caller's sessions, what they write, and what runs of a run.

Whoever follows a job's output has its own place in it; nothing is queued for them.
"""

import math
from typing import TYPE_CHECKING

from palyra_trio.core.commands import StopJob
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Caller, Scope
from palyra_trio.core.jobs import SessionJob
from palyra_trio.journal.queries import Reader
from palyra_trio.pb import jobs_pb2 as pb
from palyra_trio.pb.jobs_grpc import JobsServiceBase
from palyra_trio.transports.convert_jobs import job_message, tree_message, where_to_begin
from palyra_trio.transports.door import Service, streaming, unary
from palyra_trio.transports.paging import next_page, page_size

if TYPE_CHECKING:
    from grpclib.server import Stream

PIECE_BYTES = 256 * 1024


class JobsService(Service, JobsServiceBase):
    """Jobs, and the processes of runs."""

    @unary
    async def ListJobs(self, request: pb.ListJobsRequest, caller: Caller) -> pb.ListJobsResponse:
        size, principal = page_size(request.page_size), caller.context.principal

        def read(reader: Reader) -> tuple[SessionJob, ...]:
            session_id = reader.find_session(request.session, principal).session_id if request.session else ""
            return reader.jobs.listed(
                principal, session_id=session_id, ended=request.ended, before=request.page_token, most=size
            )

        found = await self.gateway.ask(read)
        more = next_page(found, size, lambda each: each.job_id)
        return pb.ListJobsResponse(jobs=map(job_message, found), next_page_token=more)

    @unary
    async def GetJob(self, request: pb.GetJobRequest, caller: Caller) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=job_message(await self._find(request.job_id, caller)))

    @streaming
    async def ReadJobOutput(
        self, stream: "Stream[pb.ReadJobOutputRequest, pb.ReadJobOutputResponse]", caller: Caller
    ) -> None:
        request = await stream.recv_message()
        if request is None:
            raise InvalidArgument("JobsService/ReadJobOutput was sent no request", remedy="send one message")
        job, jobs = await self._find(request.job_id, caller), self.gateway.jobs
        since, until = where_to_begin(request), math.inf
        while True:
            self.access.require(caller, Scope.READ)
            piece = await jobs.read(job.job_id, since, PIECE_BYTES)
            until = until if request.follow else min(until, piece.size)
            if piece.data or piece.ended or not request.follow:
                await stream.send_message(
                    pb.ReadJobOutputResponse(
                        offset=piece.offset, data=piece.data, size_bytes=piece.size, ended=piece.ended
                    )
                )
            if piece.ended or piece.after >= until:
                return
            since = piece.after
            await jobs.more(job.job_id, since)

    @unary
    async def StopJob(self, request: pb.StopJobRequest, caller: Caller) -> pb.StopJobResponse:
        job = await self._find(request.job_id, caller)
        await self.gateway.submit(StopJob(job.job_id), caller.context)
        return pb.StopJobResponse(job=job_message(await self._find(job.job_id, caller)))

    @unary
    async def GetRunTree(self, request: pb.GetRunTreeRequest, caller: Caller) -> pb.GetRunTreeResponse:
        return tree_message(await self.gateway.tree(request.run_id, caller.context))

    async def _find(self, job_id: str, caller: Caller) -> SessionJob:
        return await self.gateway.ask(lambda reader: reader.jobs.find(job_id, caller.context.principal))
