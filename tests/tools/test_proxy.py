"""The proxy leads to the hosts that were decided on, at the addresses that were checked, and to nothing else."""

import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.errors import PeerError
from palyra_trio.tools import proxy as module
from palyra_trio.tools.egress import Way
from palyra_trio.tools.job import HostUse
from palyra_trio.tools.proxy import CONNECTIONS, HEAD_BYTES, HEAD_S, REFUSED_HOSTS, Proxy, environment, open_proxy
from tests.tools.fake_site import HOME, Site, answer

BELOW_HOST = "example.com"


class Door:
    """A proxy that is heard on a port of loopback, as it is heard in a sandbox's network."""

    def __init__(self, proxy: Proxy) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self.proxy = proxy
        proxy.listen(listener)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, said: bytes) -> bytes:
        """Return all that comes back, until the proxy hangs up."""
        async with await self.connect() as stream:
            await stream.send_all(said)
            return await rest(stream)


async def rest(stream: trio.abc.Stream) -> bytes:
    with trio.fail_after(10):
        return b"".join([piece async for piece in stream])


@asynccontextmanager
async def open_door(*ways: Way) -> AsyncGenerator[Door]:
    async with open_proxy(ways) as proxy:
        yield Door(proxy)


def way(site: Site, host: str = "site.example") -> Way:
    return Way(host, site.port, (HOME,))


@pytest.fixture
async def site(nursery: trio.Nursery) -> Site:
    return await Site([answer(b"found")]).start(nursery)


def refused(said: bytes) -> str:
    """Return the reason that a refusal gives."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n"), head
    assert f"content-length: {len(body)}\r\n".encode() in head
    return body.decode()


# --- plain requests ---


async def test_a_plain_request_is_passed_on_as_the_host_expects_it(site: Site) -> None:
    async with open_door(way(site)) as door:
        said = await door.ask(
            f"GET http://SITE.example:{site.port}/a?b#c HTTP/1.1\r\nHost: evil.example\r\nAccept: x\r\n"
            "Proxy-Authorization: hunter2\r\nProxy-Connection: keep-alive\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\n"
            "Upgrade: h2c\r\n\r\n".encode()
        )
    assert said.endswith(b"\r\n\r\nfound")
    assert site.requests == [
        f"GET /a?b HTTP/1.1\r\nhost: site.example:{site.port}\r\nconnection: close\r\naccept: x\r\n\r\n".encode()
    ]


async def test_a_body_goes_along_however_long_it_is_said_to_be(site: Site) -> None:
    async with open_door(way(site)) as door:
        head = f"POST http://site.example:{site.port}/ HTTP/1.1\r\nHost: x\r\n"
        await door.ask(f"{head}Content-Length: 5\r\n\r\nhello".encode())
    assert site.requests[0].endswith(b"\r\ncontent-length: 5\r\n\r\nhello")


async def test_a_chunked_body_is_written_anew(nursery: trio.Nursery) -> None:
    gathered: list[bytes] = []

    async def talk(stream: trio.abc.Stream) -> None:
        while not b"".join(gathered).endswith(b"0\r\n\r\n"):
            gathered.append(bytes(await stream.receive_some()))
        await stream.send_all(answer())

    site = await Site(talk=talk).start(nursery)
    async with open_door(way(site)) as door:
        await door.ask(
            f"POST http://site.example:{site.port}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            "3;secret=extension\r\nabc\r\n0\r\nTrailer: x\r\n\r\n".encode()
        )
    head, _, body = site.requests[0].partition(b"\r\n\r\n")
    assert head.lower().count(b"transfer-encoding: chunked") == 1
    assert body + b"".join(gathered) == b"3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize("folded", ["", " Content-Length: 99\r\n", "\tTransfer-Encoding: chunked\r\n"])
async def test_a_second_request_on_the_same_connection_goes_nowhere(site: Site, folded: str) -> None:
    async with open_door(way(site)) as door:
        one = f"GET http://site.example:{site.port}/1 HTTP/1.1\r\nHost: x\r\n{folded}\r\n"
        await door.ask((one + "GET http://evil.example/2 HTTP/1.1\r\nHost: x\r\n\r\n").encode())
    assert len(site.requests) == 1
    assert b"evil" not in site.requests[0]


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "X: a\r\n\0Content-Length: 5",
    ],
)
async def test_what_could_be_read_as_two_requests_is_passed_on_as_none(site: Site, framing: str) -> None:
    async with open_door(way(site)) as door:
        head = f"POST http://site.example:{site.port}/ HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"
        said = await door.ask(head.encode() + b"0\r\n\r\nGET http://evil.example/ HTTP/1.1\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert site.requests == []


async def test_a_framing_field_that_is_named_by_connection_stays(site: Site) -> None:
    async with open_door(way(site)) as door:
        head = f"POST http://site.example:{site.port}/ HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\n"
        await door.ask(f"{head}Content-Length: 5\r\n\r\nhello".encode())
    assert site.requests[0].endswith(b"\r\ncontent-length: 5\r\n\r\nhello")


# --- tunnels ---


async def test_a_tunnel_carries_both_ways_until_both_have_ended(nursery: trio.Nursery) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"and back")

    site = await Site(talk=talk).start(nursery)
    async with open_door(way(site)) as door:
        async with await door.connect() as stream:
            connect = f"CONNECT site.example:{site.port} HTTP/1.1\r\nHost: x\r\n\r\n"
            await stream.send_all(f"{connect}GET / HTTP/1.1\r\n\r\n".encode())  # what follows at once is not lost
            assert await rest(stream) == b"HTTP/1.1 200 Connection established\r\n\r\nand back"
        assert site.requests == [b"GET / HTTP/1.1\r\n\r\n"]
        assert door.proxy.uses == (HostUse("site.example", site.port, True, 1, 18, 8),)


async def test_a_host_is_reached_at_the_checked_addresses_in_their_order(site: Site) -> None:
    dead = ip_address("127.0.0.2")  # nobody listens there
    async with open_door(Way("site.example", site.port, (dead, HOME))) as door:
        assert (await door.ask(f"GET http://site.example:{site.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())).endswith(
            b"found"
        )
    async with open_door(Way("site.example", site.port, (dead,))) as door:
        said = await door.ask(f"CONNECT site.example:{site.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")


# --- what is refused ---


@pytest.mark.parametrize(
    "target",
    [
        "evil.example:443", "site.example:443", "sub.site.example:{port}", "site.example.evil.example:{port}",
        "127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "[::ffff:127.0.0.1]:{port}", "[::ffff:7f00:1]:{port}",
        "2130706433:{port}", "0x7f.1:{port}", "169.254.169.254:80", "[fd00:ec2::254]:80", "[64:ff9b::a9fe:a9fe]:80",
        "0.0.0.0:{port}", "site.example:22", "site.example:25", "user@site.example:{port}",
    ],
)  # fmt: skip
async def test_any_other_host_port_or_spelling_of_this_machine_is_refused(site: Site, target: str) -> None:
    target = target.format(port=site.port)
    async with open_door(way(site)) as door:
        assert refused(await door.ask(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
        assert refused(
            await door.ask(f"GET http://{target}/ HTTP/1.1\r\nHost: site.example:{site.port}\r\n\r\n".encode())
        )
        assert all(not use.allowed for use in door.proxy.uses)
        assert sum(use.connections for use in door.proxy.uses) == 2
    assert site.requests == []


async def test_a_refusal_says_what_to_do_and_which_policy_decides() -> None:
    async with open_door() as door:
        said = refused(await door.ask(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert door.proxy.uses == (HostUse("evil.example", 443, False, 1),)
    assert said == (
        "palyra-trio refused this: evil.example:443 is none of the hosts that this call names in `network`; "
        "name it there, and the policy decides on it (net.connect)\n"
    )


@pytest.mark.parametrize("spelled", ["SITE.Example", "site.example."])
async def test_a_host_is_known_by_every_spelling_of_its_name(site: Site, spelled: str) -> None:
    async with open_door(way(site)) as door:
        said = await door.ask(
            f"CONNECT {spelled}:{site.port} HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode()
        )
    assert said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "said",
    [
        b"GET /relative HTTP/1.1\r\nHost: site.example\r\n\r\n",
        b"GET https://site.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET ftp://site.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT site.example:443/path HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT :443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT site.example:99999 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00",
        b"SSH-2.0-x\r\n\r\n",
        b"GET http://site.example/ HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_to_a_proxy_is_refused(site: Site, said: bytes) -> None:
    async with open_door(way(site)) as door:
        found = await door.ask(said)
        assert found.startswith((b"HTTP/1.1 400 Bad Request\r\n", b"HTTP/1.1 403 Forbidden\r\n"))
        assert not any(use.allowed for use in door.proxy.uses)


async def test_many_refused_hosts_are_counted_together(site: Site) -> None:
    async with open_door(way(site)) as door:
        for number in range(REFUSED_HOSTS + 5):
            await door.ask(f"CONNECT h{number}.example:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert len(door.proxy.uses) <= REFUSED_HOSTS + 2
        assert door.proxy.uses[-1].host == ""
        assert sum(use.connections for use in door.proxy.uses) == REFUSED_HOSTS + 5


# --- bounds ---


async def test_who_says_nothing_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    async with open_door() as door:
        began = trio.current_time()
        async with await door.connect() as stream:
            assert (await rest_for_ever(stream)).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - began == pytest.approx(HEAD_S, abs=1)


async def rest_for_ever(stream: trio.abc.Stream) -> bytes:
    return b"".join([piece async for piece in stream])


async def test_no_more_than_so_many_connections_are_served_at_a_time() -> None:
    async with open_door() as door:
        idle = [await door.connect() for _ in range(CONNECTIONS)]
        await wait_all_tasks_blocked()
        assert (await door.ask(b"")).startswith(b"HTTP/1.1 503 ")
        await idle[0].aclose()
        await wait_all_tasks_blocked()
        assert refused(await door.ask(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"))
        for each in idle:
            await each.aclose()


async def test_a_job_that_connects_without_end_is_heard_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_CONNECTIONS", 3)
    async with open_door(way(site)) as door:
        tunnel = await door.connect()
        await tunnel.send_all(f"CONNECT site.example:{site.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in range(2):
            assert refused(await door.ask(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"))
        with pytest.raises(OSError, match="all attempts to connect"):
            await door.connect()
        await tunnel.send_all(b"GET / HTTP/1.1\r\n\r\n")  # what was under way goes on
        await tunnel.send_eof()
        assert (await rest(tunnel)).endswith(b"found")
        await tunnel.aclose()


async def test_a_job_that_moved_too_much_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOTAL_BYTES", 30)
    async with open_door(way(site)) as door:
        asked = f"CONNECT site.example:{site.port} HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode()
        assert b"found" not in await door.ask(asked)
        assert "have moved more than 30 bytes" in refused(await door.ask(asked))


@pytest.mark.parametrize(
    "said", ["", "CONN", "CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_a_program_that_breaks_off_harms_nobody(site: Site, said: str) -> None:
    async with open_door(way(site)) as door:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", door.port)) as rude:
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends with a reset
                rude.sendall(said.format(f"site.example:{site.port}").encode())
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.01)
        assert (await door.ask(f"GET http://site.example:{site.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())).endswith(
            b"found"
        )


# --- its end ---


async def test_at_its_end_every_connection_is_closed_and_nobody_is_heard_any_more(nursery: trio.Nursery) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"a beginning")
        await trio.sleep_forever()

    site = await Site(talk=talk).start(nursery)
    async with open_door(way(site)) as door:
        stream = await door.connect()
        await stream.send_all(
            f"CONNECT site.example:{site.port} HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode()
        )
        said = b""
        while not said.endswith(b"a beginning"):
            piece = await stream.receive_some()
            assert piece, said
            said += piece
    async with stream:
        assert await stream.receive_some() == b""
    with pytest.raises(OSError, match="all attempts to connect"):
        await door.connect()


async def test_an_error_of_the_job_comes_out_as_it_is() -> None:
    with pytest.raises(PeerError, match="mine"):
        async with open_proxy(()):
            raise PeerError("mine")


def test_programs_are_told_of_it_by_the_names_that_they_know() -> None:
    said = environment()
    assert {name for name in said if name.isupper()} == {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    assert said["https_proxy"] == said["HTTP_PROXY"] == "http://127.0.0.1:3128"
