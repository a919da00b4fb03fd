"""The OperationsService: what an operator does to a daemon as a whole."""

import trio

from palyra_trio.core.commands import PauseAdmission, ResumeAdmission
from palyra_trio.core.identity import Caller
from palyra_trio.pb import operations_pb2 as pb
from palyra_trio.pb.operations_grpc import OperationsServiceBase
from palyra_trio.runtime.task_tree import task_tree
from palyra_trio.transports.door import Service, unary


class OperationsService(Service, OperationsServiceBase):
    """This process, from outside."""

    @unary
    async def PauseAdmission(self, request: pb.PauseAdmissionRequest, caller: Caller) -> pb.PauseAdmissionResponse:
        await self.gateway.submit(PauseAdmission(request.reason), caller.context)
        return pb.PauseAdmissionResponse()

    @unary
    async def ResumeAdmission(self, request: pb.ResumeAdmissionRequest, caller: Caller) -> pb.ResumeAdmissionResponse:
        await self.gateway.submit(ResumeAdmission(), caller.context)
        return pb.ResumeAdmissionResponse()

    @unary
    async def ListTasks(self, request: pb.ListTasksRequest, caller: Caller) -> pb.ListTasksResponse:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        return pb.ListTasksResponse(lines=task_tree(root))
