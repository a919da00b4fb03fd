"""A connection whose client is waited for makes room, within its address first, and none goes that is served."""

from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import pytest
import trio

from palyra_trio.transports import http_listener
from palyra_trio.transports.http_connection_table import ADDRESS_SHARE, CONNECTIONS, NOT_WAITING, HttpConnectionTable
from palyra_trio.wire.networks import network_of
from tests.transports.test_http_listener import SIGN_IN, ended, following, live, serving, until

PLACES = 8
SHARE = PLACES // ADDRESS_SHARE
HERE, THERE, ELSEWHERE = (network_of((host, 1)) for host in ("127.0.0.1", "192.0.2.1", "192.0.2.2"))


@attrs.define(eq=False)
class Connection:
    waiting_since: float
    following_since: float = NOT_WAITING


def table(**connections: tuple[bytes, float]) -> tuple[HttpConnectionTable[Connection], dict[str, Connection]]:
    """Return a table of connections by name, each of a network and waiting since some time."""
    kept, by_name = HttpConnectionTable[Connection](PLACES), {}
    for name, (network, since) in connections.items():
        by_name[name] = Connection(since)
        assert kept.add(by_name[name], network) is None
    return kept, by_name


def test_where_an_address_has_its_share_the_one_of_it_that_waited_longest_goes_for_the_next() -> None:
    kept, connections = table(first=(ELSEWHERE, 1), served=(THERE, NOT_WAITING), waiting=(THERE, 5))
    assert kept.add(Connection(9), THERE) is connections["waiting"]
    assert kept.add(Connection(9), ELSEWHERE) is None


def test_one_more_of_an_address_whose_connections_are_all_served_goes_itself() -> None:
    kept, _ = table(**{str(number): (THERE, NOT_WAITING) for number in range(SHARE)})
    another = Connection(9)
    assert kept.add(another, THERE) is another
    assert kept.add(Connection(9), ELSEWHERE) is None


def test_where_no_client_is_waited_for_the_one_that_has_followed_for_longest_goes() -> None:
    kept, _ = table(served=(THERE, NOT_WAITING), other=(HERE, NOT_WAITING))
    older, newer = Connection(NOT_WAITING, 1), Connection(NOT_WAITING, 2)
    for each in (newer, older):
        assert kept.add(each, ELSEWHERE) is None
    assert kept.add(Connection(9), ELSEWHERE) is older
    assert kept.make_room() is not newer  # the one that was just added is waited for
    assert kept.make_room() is newer
    assert kept.make_room() is None


def test_loopback_may_have_every_place_and_the_one_that_waited_longest_goes_for_the_next() -> None:
    served = {str(number): (HERE, NOT_WAITING) for number in range(PLACES - 2)}
    kept, connections = table(**served, newer=(HERE, 4), older=(HERE, 3))
    assert kept.add(Connection(9), HERE) is connections["older"]
    assert kept.add(Connection(9), THERE) is connections["newer"]


def test_when_all_places_are_taken_one_of_another_address_may_go() -> None:
    kept, connections = table(waiting=(THERE, 1), **{str(number): (HERE, 2) for number in range(PLACES - 1)})
    assert kept.add(Connection(9), ELSEWHERE) is connections["waiting"]


@pytest.mark.parametrize("how", ["closed", "went for another"])
def test_one_that_is_gone_takes_no_place(how: str) -> None:
    kept, connections = table(first=(THERE, 1), second=(THERE, 2))
    if how == "closed":
        kept.remove(connections["first"])
        kept.remove(connections["first"])
        assert kept.add(Connection(9), THERE) is None
    else:
        assert kept.add(Connection(9), THERE) is connections["first"]
        kept.remove(connections["first"])
    assert kept.add(Connection(9), THERE) is connections["second"]


# --- at the port ---


@pytest.mark.parametrize("half", [b"", b"GET / HT", SIGN_IN], ids=["nothing", "half a head", "half a body"])
async def test_a_browser_gets_in_however_many_requests_were_half_sent_before_it(tmp_path: Path, half: bytes) -> None:
    async with serving(tmp_path) as served:
        held = [await served.connect() for _ in range(CONNECTIONS)]
        for each in held:
            await each.send_all(half % ((served.port,) * half.count(b"%d")))
        async with following(served, "/overview/live?after=") as stream:
            await until(stream, "event: update")
            served.http.drain(trio.current_time())
        await ended(held.pop(0))
        for each in held:
            await trio.aclose_forcefully(each)


async def test_an_address_has_its_share_and_its_followers_go_only_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_listener, "CONNECTIONS", PLACES)
    monkeypatch.setattr(http_listener, "network_of", lambda address: address[0].encode())
    async with serving(tmp_path) as served, AsyncExitStack() as stack:

        async def connect(host: int) -> trio.SocketStream:
            stream = await trio.open_tcp_stream("127.0.0.1", served.port, local_address=f"127.0.0.{host}")
            return await stack.enter_async_context(stream)

        async def answers(host: int) -> bool:
            answer = await served.ask("GET /healthz HTTP/1.1", stream=await connect(host))
            return answer.startswith("HTTP/1.1 200")

        cookie = await served.cookie()
        followers = [await connect(2) for _ in range(SHARE)]
        for each in followers:
            await each.send_all(live("/overview/live?after=", cookie))
            await until(each, "event: update")
        assert await answers(2)
        await ended(followers.pop(0))
        for host in range(3, 3 + ADDRESS_SHARE):
            for _ in range(2 * SHARE):
                await (await connect(host)).send_all(b"GET / HT")
        assert await answers(99)
        await served.runtime.start()
        for each in followers:
            await until(each, "event: update")
        served.http.drain(trio.current_time())


async def test_those_that_came_and_went_take_no_room_from_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_listener, "CONNECTIONS", PLACES)
    async with serving(tmp_path) as served, await served.connect() as waiting:
        await waiting.send_all(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(2 * PLACES):
            assert (await served.ask("GET /healthz HTTP/1.1")).startswith("HTTP/1.1 200")
        await waiting.send_all(b"Host: 127.0.0.1\r\n\r\n")
        assert "HTTP/1.1 200" in await until(waiting, "200")
