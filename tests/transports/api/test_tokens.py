"""Tokens over the API: a secret is told once, whatever is sent again."""

import json
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.core.identity import Scope
from tests.transports.api.asking import Answer, read, say
from tests.transports.served import Served, open_served

LAPTOP: dict[str, Any] = {"name": "laptop", "scopes": ["read", "run"], "principal": "user:alice"}


async def opens(served: Served, secret: str) -> bool:
    asked = await read(served, "/status", who=None, headers={"authorization": f"Bearer {secret}"})
    return asked.status == 200


async def made(served: Served, **rest: Any) -> Answer:
    return await say(served, "/tokens", LAPTOP, who="root", **rest)


async def test_a_token_is_made_used_rotated_and_revoked(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        first = await made(served)
        assert first.status == 201
        token = first.said["token"]
        assert (token["name"], token["principal"], token["created_by"]) == ("laptop", "user:alice", "user:root")
        assert (token["scopes"], token["revoked_ms"]) == (["read", "run"], None)
        assert await opens(served, first.said["secret"])
        rotated = await say(served, f"/tokens/{token['token_id']}/rotate", who="root")
        assert rotated.said["token"]["name"] == "laptop"
        assert not await opens(served, first.said["secret"])
        assert await opens(served, rotated.said["secret"])
        assert (await say(served, f"/tokens/{token['token_id']}/rotate", who="root")).code == "not_found"
        path = f"/tokens/{rotated.said['token']['token_id']}/revoke"
        revoked = await say(served, path, who="root")
        assert revoked.said["revoked_ms"] >= token["created_ms"]
        assert (await say(served, path, who="root")).said == revoked.said
        assert not await opens(served, rotated.said["secret"])
        assert (await say(served, "/tokens/none/revoke", who="root")).code == "not_found"


async def test_one_key_makes_one_token_also_after_a_restart_and_its_secret_is_told_once(tmp_path: Path) -> None:
    once = {"idempotency-key": "laptop-1"}
    async with open_served(tmp_path) as served:
        first = await made(served, headers=once)
        again = await made(served, headers=once)
        assert (again.status, again.code) == (409, "state_conflict")
        assert "secret" not in again.said
        assert (await made(served, headers={"idempotency-key": "laptop-2"})).status == 201
        assert (await say(served, "/tokens", LAPTOP, headers=once)).status == 201  # alice's key is not root's
        await say(served, f"/tokens/{first.said['token']['token_id']}/revoke", who="root")
    async with open_served(tmp_path, boot_id="boot-2") as served:
        assert (await made(served, headers=once)).code == "state_conflict"
        assert not await opens(served, first.said["secret"])
        found = (await read(served, "/tokens?revoked=true", who="root")).said["tokens"]
        assert [each["name"] for each in found].count("laptop") == 3


async def test_tokens_are_listed_in_pages_without_what_would_open(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        secret, path, found = (await made(served)).said["secret"], "/tokens?page_size=2", []
        while path:
            page = (await read(served, path, who="root")).said
            found += page["tokens"]
            more = page["next_page_token"]
            path = f"/tokens?page_size=2&page_token={more}" if more else ""
        assert {each["name"] for each in found} == {"test", "laptop"}
        assert len({each["token_id"] for each in found}) == len(found) == 4
        assert "hash" not in json.dumps(found)
        assert secret not in json.dumps(found)


async def test_a_token_without_a_principal_is_of_who_makes_it(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        asked = await say(served, "/tokens", {"name": "x", "scopes": ["run"]}, who="bob")
        assert asked.said["token"]["principal"] == "user:bob"


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"scopes": []}, {"scopes": ["all"]}, {"principal": "x"}, {"expires_ms": 1}]
)
async def test_what_makes_no_token_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with open_served(tmp_path) as served:
        assert (await say(served, "/tokens", {**LAPTOP, **wrong}, who="root")).code == "invalid_argument"


async def test_only_an_admin_sees_and_makes_them(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        token = await served.token("user:alice", Scope.READ, Scope.RUN, Scope.APPROVE)
        headers = {"authorization": f"Bearer {token.secret}"}
        assert (await read(served, "/tokens", who=None, headers=headers)).code == "denied"
        paths = ("/tokens", f"/tokens/{token.token.token_id}/rotate", f"/tokens/{token.token.token_id}/revoke")
        for path in paths:
            assert (await say(served, path, LAPTOP, who=None, headers=headers)).code == "denied"
        assert await opens(served, token.secret)
