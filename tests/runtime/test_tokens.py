"""A token is an event, then a row, then what is looked up in memory; what is answered is durable."""

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from palyra_trio.core.commands import Command, CreateToken, RevokeToken, RotateToken, TokenIssued
from palyra_trio.core.errors import InvalidArgument, NotFound, StateConflict
from palyra_trio.core.identity import Scope
from palyra_trio.core.system_events import PolicyLoaded
from palyra_trio.core.tape import SYSTEM_STREAM, TapeEvent
from palyra_trio.core.tokens import TokenCreated, TokenRevoked, hash_of
from palyra_trio.journal.store import FILE_NAME, SqliteStore
from tests.fakes import ME, SECRET, Runtime, assert_journal, open_fake_runtime

LAPTOP = CreateToken("laptop", "user:alice", (Scope.RUN, Scope.READ, Scope.RUN))


async def issue(runtime: Runtime, command: Command = LAPTOP) -> TokenIssued:
    issued = await runtime.gateway.submit(command, ME)
    assert isinstance(issued, TokenIssued)
    return issued


async def recorded(runtime: Runtime) -> list[TapeEvent | None]:
    rows = await runtime.gateway.ask(lambda reader: reader.page(SYSTEM_STREAM, 0))
    return [event for row in rows if not isinstance(event := row.event(), PolicyLoaded)]


async def test_a_token_is_known_by_its_secret_once_it_is_durable(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        tokens = runtime.gateway.tokens
        assert len(tokens) == 0
        issued = await issue(runtime)
        token = issued.token
        assert (token.name, token.principal, token.created_by) == ("laptop", "user:alice", ME.principal)
        assert token.scopes == (Scope.RUN, Scope.READ)
        assert tokens.find(hash_of(issued.secret)) == tokens.get(token.token_id) == token
        assert await runtime.gateway.ask(lambda reader: reader.tokens()) == (token,)
        created = TokenCreated(
            token.token_id, "laptop", "user:alice", ("run", "read"), hash_of(issued.secret), 0, ME.principal
        )
        assert await recorded(runtime) == [created]
    assert issued.secret not in repr(issued)
    assert issued.secret.encode() not in (tmp_path / "state" / FILE_NAME).read_bytes()


async def test_every_token_has_an_id_and_a_secret_of_its_own(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        made = [await issue(runtime) for _ in range(3)]
        assert len({each.secret for each in made} | {each.token.token_id for each in made}) == 6
        assert len(runtime.gateway.tokens) == 3


async def test_what_was_revoked_is_not_found_any_more_and_not_twice(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        issued = await issue(runtime)
        await runtime.do(RevokeToken(issued.token.token_id))
        tokens = runtime.gateway.tokens
        assert (tokens.find(hash_of(issued.secret)), tokens.get(issued.token.token_id), len(tokens)) == (None, None, 0)
        for command in (RevokeToken(issued.token.token_id), RotateToken(issued.token.token_id), RevokeToken("x")):
            with pytest.raises(NotFound, match="or it was revoked"):
                await runtime.gateway.submit(command, ME)
        assert (await recorded(runtime))[1:] == [TokenRevoked(issued.token.token_id, ME.principal)]


async def test_rotating_changes_the_id_and_the_secret_and_nothing_else(tmp_path: Path) -> None:
    now_s = 1000.0
    async with open_fake_runtime(tmp_path, now_s=lambda: now_s) as runtime:
        old = await issue(runtime, attrs.evolve(LAPTOP, expires_ms=2_000_000))
        now_s = 1999.0
        new = await issue(runtime, RotateToken(old.token.token_id))
        same = {"token_id": "", "hash": "", "created_ms": 0}
        assert attrs.evolve(new.token, **same) == attrs.evolve(old.token, **same)
        assert new.secret != old.secret
        tokens = runtime.gateway.tokens
        assert (tokens.find(hash_of(old.secret)), tokens.find(hash_of(new.secret))) == (None, new.token)
        assert [type(event) for event in await recorded(runtime)] == [TokenCreated, TokenCreated, TokenRevoked]
        now_s = 2000.0
        with pytest.raises(StateConflict, match="has expired"):
            await issue(runtime, RotateToken(new.token.token_id))


async def test_of_two_rotations_at_once_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    refused = []
    async with open_fake_runtime(tmp_path) as runtime:
        old = await issue(runtime)

        async def rotate() -> None:
            try:
                await issue(runtime, RotateToken(old.token.token_id))
            except (NotFound, StateConflict) as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rotate)
            nursery.start_soon(rotate)
        assert len(refused) == 1
        active = await runtime.gateway.ask(lambda reader: reader.tokens(revoked=False))
        assert [runtime.gateway.tokens.get(each.token_id) for each in active] == list(active)
        assert len(active) == len(runtime.gateway.tokens) == 1


async def test_a_revocation_whose_caller_left_still_ends_the_token(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        issued = await issue(runtime)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.gateway.submit, RevokeToken(issued.token.token_id), ME)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await runtime.state.journal.settled()
        assert runtime.gateway.tokens.get(issued.token.token_id) is None


async def test_the_next_process_knows_the_tokens_that_were_not_revoked(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        kept, ended = await issue(runtime), await issue(runtime)
        await runtime.do(RevokeToken(ended.token.token_id))
    async with open_fake_runtime(tmp_path, store=SqliteStore(tmp_path / "state"), boot_id="boot-2") as runtime:
        tokens = runtime.gateway.tokens
        assert (tokens.find(hash_of(kept.secret)), tokens.find(hash_of(ended.secret))) == (kept.token, None)
    assert_journal(tmp_path / "state")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\udc80"},
        {"principal": "alice"},
        {"scopes": ()},
        {"scopes": ("root",)},
        {"expires_ms": 1},
    ],
)
async def test_a_token_that_may_not_be_made_is_refused_and_nothing_is_written(
    tmp_path: Path, wrong: dict[str, str]
) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(InvalidArgument):
            await issue(runtime, attrs.evolve(LAPTOP, **wrong))
        assert await recorded(runtime) == []
        assert len(runtime.gateway.tokens) == 0


async def test_a_secret_in_a_name_is_redacted(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        assert (
            await issue(runtime, attrs.evolve(LAPTOP, name=f"for {SECRET}"))
        ).token.name == "for [redacted:openai_key]"
