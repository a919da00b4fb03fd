"""The ConsoleService: how a caller who has proved who they are gets into the console with a browser."""

from collections.abc import Callable

import attrs

from palyra_trio.core.errors import PolicyError, StateConflict
from palyra_trio.core.identity import Caller
from palyra_trio.pb import console_pb2 as pb
from palyra_trio.pb.console_grpc import ConsoleServiceBase
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.door import Access, Service, unary


@attrs.frozen
class SignInLink:
    """An address that signs one browser in, once, until `expires_ms` (Unix time)."""

    url: str
    expires_ms: int


Invite = Callable[[Caller], SignInLink]


def no_console(_caller: Caller) -> SignInLink:
    """Raise StateConflict: this process serves no console."""
    raise StateConflict("this process has no console", remedy="run `palyra-trio serve`, with http.enabled")


class ConsoleService(Service, ConsoleServiceBase):
    """Links into the console, which `invite` makes."""

    def __init__(self, gateway: Gateway, access: Access, invite: Invite) -> None:
        super().__init__(gateway, access)
        self._invite = invite

    @unary
    async def CreateSignInLink(
        self, request: pb.CreateSignInLinkRequest, caller: Caller
    ) -> pb.CreateSignInLinkResponse:
        if caller.acting:
            raise PolicyError("nobody signs in as somebody else", remedy="leave out x-palyra-principal")
        link = self._invite(attrs.evolve(caller, context=attrs.evolve(caller.context, channel="console")))
        return pb.CreateSignInLinkResponse(url=link.url, expires_ms=link.expires_ms)
