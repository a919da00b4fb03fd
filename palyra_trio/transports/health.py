"""grpc.health.v1 on Trio: whether this process takes work, asked once or watched. It needs no token, as probes have none."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthBase
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

if TYPE_CHECKING:
    from grpclib.server import Stream


@attrs.frozen
class Where:
    """Where this process is reached, as it tells its clients.

    `quic_port` is 0 without HTTP/3; `authority_pem`, of the authority that they pin, is empty where its certificates are not
    shown.
    """

    addresses: tuple[str, ...] = ()
    quic_port: int = 0
    authority_pem: str = ""


class HealthService(HealthBase):
    """The health of the process and of each service by name; all are served until `stop_serving`."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset({"", *services})
        self._stopped = trio.Event()

    def stop_serving(self) -> None:
        """Say from now on that no service is served: the process is shutting down."""
        self._stopped.set()

    async def Check(self, stream: "Stream[HealthCheckRequest, HealthCheckResponse]") -> None:
        request = await stream.recv_message()
        service = request.service if request is not None else ""
        if service not in self._services:
            raise GRPCError(Status.NOT_FOUND, f"there is no service {service!r}")
        await stream.send_message(HealthCheckResponse(status=self._status(service)))

    async def Watch(self, stream: "Stream[HealthCheckRequest, HealthCheckResponse]") -> None:
        """Send the status now and when it changes, until the client leaves. Raises GRPCError when this process stops."""
        request = await stream.recv_message()
        service = request.service if request is not None else ""
        await stream.send_message(HealthCheckResponse(status=self._status(service)))
        await self._stopped.wait()
        await stream.send_message(HealthCheckResponse(status=self._status(service)))
        raise GRPCError(Status.UNAVAILABLE, "this process is shutting down")

    def _status(self, service: str) -> "HealthCheckResponse.ServingStatus.ValueType":
        if service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.NOT_SERVING if self._stopped.is_set() else HealthCheckResponse.SERVING
