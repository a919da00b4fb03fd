"""The ApprovalsService: what waits for a person, the answers, and what stands allowed since."""

from palyra_trio.core.commands import RevokeGrant
from palyra_trio.core.identity import Caller
from palyra_trio.journal.queries import Reader
from palyra_trio.pb import approvals_pb2 as pb
from palyra_trio.pb.approvals_grpc import ApprovalsServiceBase
from palyra_trio.transports.convert_approvals import approval_message, decision, grant_message
from palyra_trio.transports.door import Service, unary
from palyra_trio.transports.paging import next_page, page_size


class ApprovalsService(Service, ApprovalsServiceBase):
    """Approvals and grants of the caller's runs."""

    @unary
    async def ListApprovals(self, request: pb.ListApprovalsRequest, caller: Caller) -> pb.ListApprovalsResponse:
        size = page_size(request.page_size)
        found = await self.gateway.ask(
            lambda reader: reader.approvals.listed(
                caller.context.principal, pending=not request.decided, before=request.page_token, most=size
            )
        )
        more = next_page(found, size, lambda each: each.approval_id)
        return pb.ListApprovalsResponse(approvals=map(approval_message, found), next_page_token=more)

    @unary
    async def GetApproval(self, request: pb.GetApprovalRequest, caller: Caller) -> pb.GetApprovalResponse:
        def read(reader: Reader) -> pb.GetApprovalResponse:
            found = reader.approvals.find(request.approval_id, caller.context.principal)
            return pb.GetApprovalResponse(approval=approval_message(found), prompt=reader.approvals.prompt(found))

        return await self.gateway.ask(read)

    @unary
    async def DecideApproval(
        self, request: pb.ApprovalsServiceDecideApprovalRequest, caller: Caller
    ) -> pb.ApprovalsServiceDecideApprovalResponse:
        await self.gateway.submit(decision(request.decision), caller.context)
        return pb.ApprovalsServiceDecideApprovalResponse()

    @unary
    async def ListGrants(self, request: pb.ListGrantsRequest, caller: Caller) -> pb.ListGrantsResponse:
        size, now_ms = page_size(request.page_size), self.gateway.health().now_ms
        found = await self.gateway.ask(
            lambda reader: reader.approvals.grants(
                caller.context.principal, now_ms, ended=request.ended, before=request.page_token, most=size
            )
        )
        more = next_page(found, size, lambda each: each.grant_id)
        return pb.ListGrantsResponse(grants=map(grant_message, found), next_page_token=more)

    @unary
    async def RevokeGrant(self, request: pb.RevokeGrantRequest, caller: Caller) -> pb.RevokeGrantResponse:
        await self.gateway.submit(RevokeGrant(request.grant_id), caller.context)
        return pb.RevokeGrantResponse()
