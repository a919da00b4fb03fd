"""The TokenService: bearer tokens, for whoever may administer them."""

from palyra_trio.core.commands import CreateToken, RevokeToken, RotateToken, TokenIssued
from palyra_trio.core.identity import Caller
from palyra_trio.pb import tokens_pb2 as tokens
from palyra_trio.pb.tokens_grpc import TokenServiceBase
from palyra_trio.transports.convert import scopes, token_message
from palyra_trio.transports.door import Service, unary
from palyra_trio.transports.paging import next_page, page_size


class TokenService(Service, TokenServiceBase):
    """Access tokens."""

    @unary
    async def CreateToken(self, request: tokens.CreateTokenRequest, caller: Caller) -> tokens.CreateTokenResponse:
        principal = request.principal or caller.context.principal
        command = CreateToken(request.name, principal, scopes(request.scopes), request.expires_ms)
        issued = await self.gateway.submit(command, caller.context)
        assert isinstance(issued, TokenIssued)
        return tokens.CreateTokenResponse(token=token_message(issued.token), secret=issued.secret)

    @unary
    async def ListTokens(self, request: tokens.ListTokensRequest, caller: Caller) -> tokens.ListTokensResponse:
        size = page_size(request.page_size)
        found = await self.gateway.ask(
            lambda reader: reader.tokens(before=request.page_token, revoked=request.revoked, most=size)
        )
        more = next_page(found, size, lambda each: each.token_id)
        return tokens.ListTokensResponse(tokens=map(token_message, found), next_page_token=more)

    @unary
    async def RevokeToken(self, request: tokens.RevokeTokenRequest, caller: Caller) -> tokens.RevokeTokenResponse:
        await self.gateway.submit(RevokeToken(request.token_id), caller.context)
        return tokens.RevokeTokenResponse()

    @unary
    async def RotateToken(self, request: tokens.RotateTokenRequest, caller: Caller) -> tokens.RotateTokenResponse:
        issued = await self.gateway.submit(RotateToken(request.token_id), caller.context)
        assert isinstance(issued, TokenIssued)
        return tokens.RotateTokenResponse(token=token_message(issued.token), secret=issued.secret)
