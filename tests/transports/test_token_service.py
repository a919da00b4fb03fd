"""The tokens of an admin: made, used, rotated, revoked, listed."""

from pathlib import Path

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from palyra_trio.pb import gateway_pb2
from palyra_trio.pb import tokens_pb2 as tokens
from tests.transports.served import ALICE, Served, open_served, pages


async def test_a_token_is_created_used_rotated_revoked_and_listed(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        request = tokens.CreateTokenRequest(name="laptop", principal=ALICE, scopes=[tokens.SCOPE_READ])
        created = await served.call("TokenService/CreateToken", request, "root")
        assert (created.token.name, created.token.principal, created.token.created_by) == ("laptop", ALICE, "user:root")
        assert list(created.token.scopes) == [tokens.SCOPE_READ]
        assert await opens(served, created.secret)
        rotate = tokens.RotateTokenRequest(token_id=created.token.token_id)
        rotated = await served.call("TokenService/RotateToken", rotate, "root")
        assert rotated.token.name == "laptop"
        assert not await opens(served, created.secret)
        assert await opens(served, rotated.secret)
        revoke = tokens.RevokeTokenRequest(token_id=rotated.token.token_id)
        await served.call("TokenService/RevokeToken", revoke, "root")
        assert not await opens(served, rotated.secret)
        listing = tokens.ListTokensRequest(page_size=2, revoked=True)
        found = [each for page in await pages(served, "TokenService/ListTokens", listing, "tokens") for each in page]
        assert [each.name for each in found].count("laptop") == 2
        assert all(each.HasField("revoked_ms") == (each.name == "laptop") for each in found)
        live = await served.call("TokenService/ListTokens", tokens.ListTokensRequest(), "root")
        assert "laptop" not in {each.name for each in live.tokens}


async def test_a_token_without_a_principal_is_the_callers(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        request = tokens.CreateTokenRequest(name="x", scopes=[tokens.SCOPE_RUN, tokens.SCOPE_APPROVE])
        created = await served.call("TokenService/CreateToken", request, "bob")
    assert created.token.principal == "user:bob"


async def opens(served: Served, secret: str) -> bool:
    metadata = {"authorization": f"Bearer {secret}"}
    try:
        await served.call("GetHealth", gateway_pb2.GetHealthRequest(), metadata=metadata)
    except GRPCError as error:
        return error.status is not Status.UNAUTHENTICATED
    return True
