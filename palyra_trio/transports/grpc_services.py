"""All that is served on the gRPC port, service by service. What each does is in a module of its own."""

from typing import TYPE_CHECKING

from palyra_trio.pb import (
    approvals_pb2,
    console_pb2,
    gateway_pb2,
    jobs_pb2,
    journal_pb2,
    operations_pb2,
    policy_pb2,
    search_pb2,
    tokens_pb2,
)
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.approvals_service import ApprovalsService
from palyra_trio.transports.console_service import ConsoleService, Invite, no_console
from palyra_trio.transports.door import Access
from palyra_trio.transports.gateway_service import GatewayService
from palyra_trio.transports.health import HealthService, Where
from palyra_trio.transports.jobs_service import JobsService
from palyra_trio.transports.journal_service import JournalService
from palyra_trio.transports.operations_service import OperationsService
from palyra_trio.transports.policy_service import PolicyService
from palyra_trio.transports.search_service import SearchService
from palyra_trio.transports.token_service import TokenService

if TYPE_CHECKING:
    from grpclib._typing import IServable

SERVICES = tuple(
    service.full_name
    for file in (
        gateway_pb2,
        approvals_pb2,
        policy_pb2,
        jobs_pb2,
        journal_pb2,
        operations_pb2,
        search_pb2,
        console_pb2,
        tokens_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)


def grpc_services(
    gateway: Gateway,
    access: Access,
    health: HealthService,
    where: Where | None = None,
    invite: Invite = no_console,
) -> "list[IServable]":
    """Return all that is served on the gRPC port: our services, grpc.health.v1, and reflection (v1 and v1alpha)."""
    from grpclib.reflection.service import ServerReflection

    kinds = (
        ApprovalsService,
        PolicyService,
        JobsService,
        JournalService,
        OperationsService,
        SearchService,
        TokenService,
    )
    ours: list[IServable] = [
        GatewayService(gateway, access, where or Where()),
        ConsoleService(gateway, access, invite),
        *(kind(gateway, access) for kind in kinds),
    ]
    return ServerReflection.extend([*ours, health])
