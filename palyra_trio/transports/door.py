"""What every RPC passes before its handler: who asks, and whether they may.

A handler is written for a request and a Caller; `unary` and `streaming` make of it what grpclib's generated bases want.
What the bases call a Stream is a `wire.call.Call` here, which turns a refusal that a handler raises into a status.
An RPC without a row in SCOPES cannot be written: its decorator raises when the module is loaded.
"""

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from palyra_trio.core.commands import StartRun
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Caller, Peer, Scope
from palyra_trio.guard.auth import Metadata
from palyra_trio.runtime.gateway import Gateway

if TYPE_CHECKING:
    from grpclib.server import Stream

    from palyra_trio.wire.call import Call

SCOPES = {
    "GatewayService/GetHealth": Scope.READ,
    "GatewayService/RunStream": Scope.RUN,
    "GatewayService/RouteMessage": Scope.RUN,
    "GatewayService/CancelRun": Scope.RUN,
    "GatewayService/TakeUpRun": Scope.RUN,
    "GatewayService/GetRun": Scope.READ,
    "GatewayService/ListRuns": Scope.READ,
    "GatewayService/ReadTape": Scope.READ,
    "GatewayService/GetRunChanges": Scope.READ,
    "GatewayService/UndoRun": Scope.RUN,
    "GatewayService/DecideApproval": Scope.APPROVE,
    "GatewayService/ResolveSession": Scope.RUN,
    "GatewayService/ListSessions": Scope.READ,
    "GatewayService/GetSession": Scope.READ,
    "GatewayService/RenameSession": Scope.RUN,
    "GatewayService/ArchiveSession": Scope.RUN,
    "GatewayService/ListAgents": Scope.READ,
    "GatewayService/GetAgent": Scope.READ,
    "GatewayService/CreateAgent": Scope.ADMIN,
    "GatewayService/DeleteAgent": Scope.ADMIN,
    "GatewayService/SetDefaultAgent": Scope.ADMIN,
    "GatewayService/BindAgent": Scope.ADMIN,
    "GatewayService/UnbindAgent": Scope.ADMIN,
    "GatewayService/ResolveAgent": Scope.READ,
    "GatewayService/RecentEvents": Scope.READ,
    "GatewayService/UsageSummary": Scope.READ,
    "ApprovalsService/ListApprovals": Scope.READ,
    "ApprovalsService/GetApproval": Scope.READ,
    "ApprovalsService/DecideApproval": Scope.APPROVE,
    "ApprovalsService/ListGrants": Scope.READ,
    "ApprovalsService/RevokeGrant": Scope.APPROVE,
    "PolicyService/GetPolicies": Scope.READ,
    "PolicyService/ReloadPolicies": Scope.ADMIN,
    "PolicyService/ExplainCall": Scope.READ,
    "PolicyService/WhyCall": Scope.READ,
    "PolicyService/ListPostures": Scope.READ,
    "PolicyService/SetPosture": Scope.ADMIN,
    "PolicyService/RemovePosture": Scope.ADMIN,
    "ConsoleService/CreateSignInLink": Scope.READ,
    "OperationsService/PauseAdmission": Scope.ADMIN,
    "OperationsService/ResumeAdmission": Scope.ADMIN,
    "OperationsService/ListTasks": Scope.ADMIN,
    "JournalService/EraseValue": Scope.ADMIN,
    "JobsService/ListJobs": Scope.READ,
    "JobsService/GetJob": Scope.READ,
    "JobsService/ReadJobOutput": Scope.READ,
    "JobsService/StopJob": Scope.RUN,
    "JobsService/GetRunTree": Scope.READ,
    "SearchService/SearchSession": Scope.READ,
    "TokenService/CreateToken": Scope.ADMIN,
    "TokenService/ListTokens": Scope.ADMIN,
    "TokenService/RevokeToken": Scope.ADMIN,
    "TokenService/RotateToken": Scope.ADMIN,
}


class Access(Protocol):
    """Who lets requests in; `runtime.access.Access` does."""

    async def admit(self, metadata: Metadata, peer: Peer, scope: Scope, method: str = "") -> Caller:
        """Return who asks for what needs `scope`. Raises Unauthenticated, PolicyError, InvalidArgument and Busy."""
        ...

    def readmit(self, caller: Caller, scope: Scope) -> None:
        """Return if one who was let in earlier may ask again. Raises Unauthenticated, PolicyError and Busy."""
        ...

    def require(self, caller: Caller, scope: Scope) -> None:
        """Return if the caller may ask for what needs `scope`, now. Raises Unauthenticated and PolicyError."""
        ...


def require_for_start(access: Access, caller: Caller, command: StartRun) -> None:
    """Return if the caller may start this run, now: to allow its tools beforehand is to approve.

    Raises Unauthenticated and PolicyError.
    """
    access.require(caller, Scope.RUN)
    if command.allowed_tools:
        access.require(caller, Scope.APPROVE)


class Service:
    """What every service stands on. Mixed into grpclib's generated base of the service."""

    def __init__(self, gateway: Gateway, access: Access) -> None:
        self.gateway = gateway
        self.access = access

    async def admit(self, call: "Call", method: str) -> Caller:
        """Return who makes this call, when they may. Raises what `Access` raises; the call's transport translates it."""
        return await self.access.admit(call.metadata, call.peer, SCOPES[method], method)


S = TypeVar("S", bound=Service)
Request = TypeVar("Request")
Response = TypeVar("Response")
Served = Callable[[S, "Stream[Request, Response]"], Coroutine[Any, Any, None]]


def unary(handler: Callable[[S, Request, Caller], Awaitable[Response]]) -> "Served[S, Request, Response]":
    """Serve one request with one response."""
    method = _method(handler)

    @functools.wraps(handler)
    async def serve(self: S, stream: "Stream[Request, Response]") -> None:
        caller = await self.admit(cast("Call", stream), method)
        request = await stream.recv_message()
        if request is None:
            raise InvalidArgument(f"{method} was sent no request", remedy="send one message")
        await stream.send_message(await handler(self, request, caller))

    return serve


def streaming(
    handler: Callable[[S, "Stream[Request, Response]", Caller], Awaitable[None]],
) -> "Served[S, Request, Response]":
    """Serve a call whose handler receives and sends messages itself."""
    method = _method(handler)

    @functools.wraps(handler)
    async def serve(self: S, stream: "Stream[Request, Response]") -> None:
        await handler(self, stream, await self.admit(cast("Call", stream), method))

    return serve


def _method(handler: Callable[..., Any]) -> str:
    """Return `Service/Method` of a handler, which has the names of both. Raises LookupError without a scope for it."""
    method = handler.__qualname__.replace(".", "/")
    if method not in SCOPES:
        raise LookupError(f"{method} has no row in SCOPES")
    return method
