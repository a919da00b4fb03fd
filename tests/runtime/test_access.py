"""Acting as another is on the tape before it happens, and the local user's token file opens."""

import stat
from pathlib import Path

import attrs
import pytest
from trio.testing import MockClock

from palyra_trio.core.commands import CreateToken, RevokeToken, TokenIssued
from palyra_trio.core.config import RatesConfig
from palyra_trio.core.errors import Busy, InvalidArgument, PolicyError, Unauthenticated
from palyra_trio.core.identity import Peer, Scope
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.core.tokens import ActedAs, Token, hash_of
from palyra_trio.guard.auth import AUTHORIZATION, CHANNEL, PRINCIPAL, Authenticator
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.access import LOCAL_SCOPES, TOKEN_FILE, Access, keep_local_token
from tests.fakes import CONFIG, ME, SECRET, Runtime, open_fake_runtime

UID = 1000
TCP, LOCAL = Peer(address="10.0.0.7:5000"), Peer(UID)
NOW_MS = 10_000


def access_to(runtime: Runtime) -> Access:
    authenticator = Authenticator(runtime.gateway.tokens, UID, ME.principal, runtime.state.now_s)
    return Access(authenticator, runtime.gateway)


async def acts(runtime: Runtime) -> list[ActedAs]:
    rows = await runtime.gateway.ask(lambda reader: reader.page(SYSTEM_STREAM, 0))
    return [event for row in rows if isinstance(event := row.event(), ActedAs)]


async def make(runtime: Runtime, *scopes: Scope) -> TokenIssued:
    issued = await runtime.gateway.submit(CreateToken("t", "user:root", scopes), ME)
    assert isinstance(issued, TokenIssued)
    return issued


async def test_an_admin_who_acts_as_another_is_on_the_tape_before_being_let_in(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        issued, access = await make(runtime, Scope.ADMIN), access_to(runtime)
        sent = {AUTHORIZATION: f"Bearer {issued.secret}", PRINCIPAL: "user:alice", CHANNEL: "phone"}
        caller = await access.admit(sent, TCP, Scope.ADMIN, "/x/CancelRun")
        assert caller.context.principal == "user:alice"
        by_token = ActedAs(issued.token.token_id, "user:root", "user:alice", "", "phone", "/x/CancelRun")
        assert await acts(runtime) == [by_token]
        await access.admit({PRINCIPAL: "user:alice"}, LOCAL, Scope.RUN)
        assert (await acts(runtime))[1:] == [ActedAs("", ME.principal, "user:alice", "", "grpc")]


async def test_a_secret_in_the_name_of_a_channel_is_masked(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        sent = {PRINCIPAL: "user:alice", CHANNEL: SECRET}
        caller = await access_to(runtime).admit(sent, LOCAL, Scope.RUN)
        assert caller.context.channel == "[redacted:openai_key]"
        assert [each.channel for each in await acts(runtime)] == [caller.context.channel]


async def test_a_secret_in_the_place_of_whom_to_act_as_is_refused_recorded_nowhere_and_not_repeated(
    tmp_path: Path,
) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(InvalidArgument, match=f"{PRINCIPAL} holds a secret") as refused:
            await access_to(runtime).admit({PRINCIPAL: f"user:{SECRET}"}, LOCAL, Scope.RUN)
        assert SECRET not in str(refused.value)
        assert await acts(runtime) == []
    assert SECRET.encode() not in (tmp_path / "state" / FILE_NAME).read_bytes()


async def test_who_acts_in_their_own_name_or_is_refused_leaves_no_record(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        issued, access = await make(runtime, Scope.RUN), access_to(runtime)
        sent = {AUTHORIZATION: f"Bearer {issued.secret}"}
        caller = await access.admit(sent | {PRINCIPAL: "user:root"}, TCP, Scope.RUN)
        with pytest.raises(PolicyError):
            await access.admit(sent | {PRINCIPAL: "user:alice"}, TCP, Scope.RUN)
        with pytest.raises(PolicyError, match="scope read"):
            await access.admit(sent, TCP, Scope.READ)
        admin = {AUTHORIZATION: f"Bearer {(await make(runtime, Scope.ADMIN)).secret}", PRINCIPAL: "user:alice"}
        with pytest.raises(PolicyError, match="scope run"):
            await access.admit(admin, TCP, Scope.RUN)
        assert await acts(runtime) == []
        access.require(caller, Scope.RUN)
        with pytest.raises(PolicyError, match="scope admin"):
            access.require(caller, Scope.ADMIN)


async def test_a_token_that_is_revoked_is_refused_from_the_reply_on(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        issued, access = await make(runtime, Scope.RUN), access_to(runtime)
        sent = {AUTHORIZATION: f"Bearer {issued.secret}"}
        caller = await access.admit(sent, TCP, Scope.RUN)
        await runtime.do(RevokeToken(issued.token.token_id))
        with pytest.raises(Unauthenticated):
            access.require(caller, Scope.RUN)
        with pytest.raises(Unauthenticated):
            await access.admit(sent, TCP, Scope.RUN)


async def test_a_token_that_asks_too_often_is_busy_for_a_second_and_the_local_user_never(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    config = attrs.evolve(CONFIG, rates=RatesConfig(admin_per_s=2, reads_per_s=3))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        issued, access = await make(runtime, Scope.ADMIN), access_to(runtime)
        sent = {AUTHORIZATION: f"Bearer {issued.secret}", PRINCIPAL: "user:alice"}
        for _ in range(2):
            for _ in range(2):
                await access.admit(sent, TCP, Scope.ADMIN)
            with pytest.raises(Busy):
                await access.admit(sent, TCP, Scope.ADMIN)
            autojump_clock.jump(1.0)
        assert len(await acts(runtime)) == 4
        for _ in range(10):
            await access.admit({}, LOCAL, Scope.ADMIN)
        runtime.gateway.reload(attrs.evolve(config, rates=RatesConfig(admin_per_s=1)), runtime.state.config_in)
        await access.admit(sent, TCP, Scope.ADMIN)
        with pytest.raises(Busy):
            await access.admit(sent, TCP, Scope.ADMIN)


# --- the local user's token ---


async def kept(runtime: Runtime, now_ms: float = NOW_MS) -> tuple[str, Token | None]:
    """Keep the token and return what the file then holds, and the token that this opens as."""
    await keep_local_token(runtime.gateway, runtime.state_dir, ME, now_ms)
    held = (runtime.state_dir / TOKEN_FILE).read_text()
    return held, runtime.gateway.tokens.find(hash_of(held.strip()))


async def test_the_first_start_makes_a_token_that_only_its_user_can_read(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        held, token = await kept(runtime)
        assert token is not None
        assert (token.principal, token.scopes, token.expires_ms) == (ME.principal, LOCAL_SCOPES, 0)
        assert Scope.WORKER not in LOCAL_SCOPES
        assert held.startswith("plt_")
        assert held.endswith("\n")
        assert stat.S_IMODE((runtime.state_dir / TOKEN_FILE).stat().st_mode) == 0o600
        assert [path.name for path in runtime.state_dir.glob(f"{TOKEN_FILE}*")] == [TOKEN_FILE]


async def test_a_token_that_opens_is_left_as_it_is(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        first = await kept(runtime)
    async with open_fake_runtime(tmp_path, boot_id="boot-2") as runtime:
        assert await kept(runtime) == first
        assert len(runtime.gateway.tokens) == 1


async def test_a_file_that_does_not_open_is_replaced(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        seen = {(await kept(runtime))[0]}

        def put(secret: str) -> None:
            (runtime.state_dir / TOKEN_FILE).write_text(secret)

        _, token = await kept(runtime)
        assert token is not None
        await runtime.do(RevokeToken(token.token_id))
        held, token = await kept(runtime)
        assert token is not None
        seen.add(held)
        for secret in ("", "\udc80".encode("utf-8", "surrogatepass").decode("latin-1"), token.hash):
            put(secret)
            held, token = await kept(runtime)
            assert token is not None
            seen.add(held)
        another = await runtime.gateway.submit(CreateToken("t", "user:other", ("run",)), ME)
        assert isinstance(another, TokenIssued)
        put(another.secret)
        seen.add((await kept(runtime))[0])
        assert len(seen) == 6


async def test_an_expired_token_is_replaced(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, now_s=lambda: 1.0) as runtime:
        command = CreateToken("t", ME.principal, ("run",), expires_ms=NOW_MS)
        issued = await runtime.gateway.submit(command, ME)
        assert isinstance(issued, TokenIssued)
        (runtime.state_dir / TOKEN_FILE).write_text(issued.secret)
        assert (await kept(runtime, NOW_MS - 1))[0] == issued.secret
        assert (await kept(runtime, NOW_MS))[0] != issued.secret
