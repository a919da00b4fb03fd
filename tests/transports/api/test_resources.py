"""What every request passes: who asks, what may be asked of what, and how much may be sent."""

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from palyra_trio.core.config import RatesConfig
from palyra_trio.core.errors import Busy
from palyra_trio.core.identity import Scope
from palyra_trio.core.tokens import ActedAs
from palyra_trio.transports.api import resources
from palyra_trio.transports.api.exchange import HttpRequest
from palyra_trio.transports.api.resources import BODY_BYTES, BODY_S, Resources
from palyra_trio.transports.body_room import BodyRoom
from tests.fakes import CONFIG
from tests.journal.tickets import read as reading
from tests.transports.api.asking import AT, ask, read, say
from tests.transports.api.test_runs import new
from tests.transports.served import ROOT, open_served
from tests.transports.test_run_events import BY_ALICE, access_of


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Basic YTpi", "Bearer", "bearer  "])
async def test_who_sends_no_token_that_opens_is_nobody(tmp_path: Path, token: str | None) -> None:
    async with open_served(tmp_path) as served:
        headers = {"authorization": token} if token is not None else {}
        refused = await read(served, "/status", who=None, headers=headers)
    assert (refused.status, refused.code) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_cookie_opens_nothing(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        refused = await read(served, "/status", who=None, headers={"cookie": f"palyra-7142={served.tokens['alice']}"})
    assert refused.code == "unauthenticated"


async def test_acting_as_another_principal_takes_the_scope_admin_and_is_recorded_before(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE)
        as_alice = {"x-palyra-principal": "user:alice"}
        assert (await read(served, "/runs/last", who="root", headers=as_alice)).status == 200
        with reading(served.runtime.state_dir) as reader:
            acted = [event for row in reader.tape("system") if isinstance(event := row.event(), ActedAs)]
        assert [(each.by, each.principal, each.method) for each in acted] == [
            ("user:root", "user:alice", "GET /api/v1/runs/{run}")
        ]
        only_reads = await served.token(ROOT, *[scope for scope in Scope if scope is not Scope.ADMIN])
        headers = {"authorization": f"Bearer {only_reads.secret}", **as_alice}
        assert (await read(served, "/runs/last", who=None, headers=headers)).code == "denied"


@pytest.mark.parametrize("path", ["/", "/api/v1/none", "/api/v1/runs/a/b/events"])
async def test_what_is_not_there_is_named(tmp_path: Path, path: str) -> None:
    async with open_served(tmp_path) as served:
        refused = await ask(served, "GET", path)
    assert (refused.status, refused.code, refused.said["detail"]) == (404, "not_found", f"there is no {path}")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "get", "X" * 1000])
async def test_another_method_is_refused_with_those_that_there_are(tmp_path: Path, method: str) -> None:
    async with open_served(tmp_path) as served:
        for path, allowed in (
            ("/healthz", "GET, HEAD"),
            ("/api/v1/runs", "GET, HEAD, POST"),
            ("/api/v1/runs/stop-all", "POST"),
            ("/api/v1/runs/last/cancel", "POST"),
        ):
            refused = await ask(served, method, path)
            assert (refused.status, refused.code, refused.headers["allow"]) == (405, "method_not_allowed", allowed)
            assert refused.said["remedy"] == f"it takes {allowed}"
            assert len(refused.said["detail"]) < 100


async def test_a_head_is_answered_like_a_get_without_its_body(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE)
        for path in ("/healthz", "/api/v1/runs/last", "/api/v1/runs/last/events", "/api/v1/runs/none"):
            got, head = await ask(served, "GET", path), await ask(served, "HEAD", path)
            assert (head.status, head.response.headers) == (got.status, got.response.headers)
            assert (head.response.body, head.response.events) == (b"", None)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonp"],
)
async def test_a_body_that_is_not_said_to_be_json_is_refused(tmp_path: Path, kind: str) -> None:
    async with open_served(tmp_path) as served:
        refused = await say(served, "/runs", new(served), headers={"content-type": kind})
    assert (refused.status, refused.code) == (415, "unsupported_media_type")
    assert refused.said["remedy"] == "send `content-type: application/json`"


async def test_json_may_be_spelled_in_any_way_that_http_has(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        kind = "Application/JSON; charset=utf-8"
        started = await say(served, "/runs", new(served), headers={"content-type": kind})
        assert started.status == 201
        await served.runtime.ended(started.said["run_id"], BY_ALICE)


async def test_a_body_that_is_too_long_is_refused_before_all_of_it_is_taken_in(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        sent = 0

        async def receive() -> bytes:
            nonlocal sent
            sent += 64 * 1024
            return b" " * 64 * 1024

        there = Resources(served.runtime.gateway, access_of(served))
        headers = {**served.metadata("alice"), "content-type": "application/json"}
        response = await there.respond(HttpRequest("POST", "/api/v1/runs", headers, AT, "", receive))
        assert response.status == 413
        assert sent <= BODY_BYTES + 64 * 1024


async def test_who_is_not_let_in_has_no_body_read(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        there = Resources(served.runtime.gateway, access_of(served))
        response = await there.respond(HttpRequest("POST", "/api/v1/runs", {}, AT, "", never))
        assert response.status == 401


async def never() -> bytes:
    raise AssertionError("the body was read")


async def test_a_body_that_does_not_arrive_is_not_waited_for_for_ever(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    with pytest.raises(resources._Unacceptable) as refused:
        await resources._body(HttpRequest("POST", "/", {}, AT, "", trio.sleep_forever), BodyRoom())
    assert refused.value.status == 408
    assert trio.current_time() - before == BODY_S


async def test_a_body_whose_room_others_need_is_given_up_and_one_that_is_there_has_left_it() -> None:
    room, begun = BodyRoom(10), trio.Event()
    parts = iter([b"12345678", None])

    async def all_at_once() -> bytes | None:
        return next(parts)

    async def slowly() -> bytes:
        if begun.is_set():
            await trio.sleep_forever()
        begun.set()
        return b"123"

    async def is_refused() -> None:
        with pytest.raises(Busy):
            await resources._body(HttpRequest("POST", "/", {}, AT, "", slowly), room)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_refused)
        await begun.wait()
        json = {"content-type": "application/json"}
        assert await resources._body(HttpRequest("POST", "/", json, AT, "", all_at_once), room) == b"12345678"
    room.grew(never_given_up, 10)


def never_given_up() -> None:
    raise AssertionError("there is room")


async def test_a_fault_of_ours_says_nothing_of_itself_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_served(tmp_path) as served:

        def fails() -> None:
            raise RuntimeError("the secret of the fault")

        monkeypatch.setattr(served.runtime.gateway, "health", fails)
        failed = await read(served, "/status")
        monkeypatch.undo()
    assert (failed.status, failed.code) == (500, "internal")
    assert "secret" not in failed.response.body.decode()
    assert "the secret of the fault" in caplog.text


async def test_what_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with open_served(tmp_path, config=attrs.evolve(CONFIG, rates=RatesConfig(reads_per_s=2))) as served:
        there = Resources(served.runtime.gateway, access_of(served))
        request = HttpRequest("GET", "/api/v1/status", served.metadata("alice"), AT)
        answers = [await there.respond(request) for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 429, 429]
    assert ("retry-after", "1") in answers[-1].headers


async def test_a_path_below_the_api_is_never_a_page(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        there = Resources(served.runtime.gateway, access_of(served))
    assert all(path in there for path in ("/api/v1/none", "/api/", "/metrics", "/healthz"))
    assert not any(path in there for path in ("/", "/runs", "/apis", "/static/x", "/sign-in"))
