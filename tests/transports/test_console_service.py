"""A caller who has proved who they are is given a link, as themselves and nobody else."""

from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.identity import Caller
from palyra_trio.pb.console_pb2 import CreateSignInLinkRequest
from palyra_trio.transports.console_service import ConsoleService, SignInLink, no_console
from tests.transports.served import ALICE, Served, code_of, open_served

REQUEST = CreateSignInLinkRequest()
METHOD = "ConsoleService/CreateSignInLink"


def invited(served: Served) -> list[Caller]:
    """Let links be made, and return for whom."""
    callers: list[Caller] = []

    def invite(caller: Caller) -> SignInLink:
        callers.append(caller)
        return SignInLink("http://127.0.0.1:7142/sign-in?link=x", 5)

    handler: Any = served.handlers["/palyra.gateway.v1.ConsoleService/CreateSignInLink"]
    service = handler.func.__self__
    assert isinstance(service, ConsoleService)
    service._invite = invite
    return callers


async def test_a_link_is_for_the_caller_with_their_scopes(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        callers = invited(served)
        link = await served.call(METHOD, REQUEST)
        assert (link.url, link.expires_ms) == ("http://127.0.0.1:7142/sign-in?link=x", 5)
        (caller,) = callers
        assert (caller.context.principal, caller.context.channel) == (ALICE, "console")
        assert caller.token_id


async def test_nobody_gets_a_link_in_the_name_of_another(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        callers = invited(served)
        metadata = served.metadata("root") | {"x-palyra-principal": "user:alice"}
        with pytest.raises(GRPCError) as caught:
            await served.call(METHOD, REQUEST, metadata=metadata)
        assert code_of(caught.value) == "denied"
        assert callers == []


async def test_without_a_console_there_is_no_link(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        with pytest.raises(GRPCError) as caught:
            await served.call(METHOD, REQUEST)
        assert code_of(caught.value) == "state_conflict"
    with pytest.raises(StateConflict):
        no_console(None)  # type: ignore[arg-type]
