import socket
import ssl
from functools import partial
from ipaddress import ip_address

import pytest
import trio
import trustme

from palyra_trio.core.errors import PeerError
from palyra_trio.tools.egress import parse_url
from palyra_trio.tools.fetch_body import Unpacker
from palyra_trio.tools.fetch_exchange import exchange
from palyra_trio.tools.fetch_request import Answer, Request
from tests.tools.fake_site import HOME, Site, answer

GET = Request("GET", {"accept": "*/*"})
POST = Request("POST", {"content-type": "text/plain", "accept": "*/*"}, b"ping")


def all_of_it(_: Answer) -> Unpacker:
    return Unpacker(1000, gzip=False)


async def ask(url: str, request: Request = GET, tls: ssl.SSLContext | None = None) -> tuple[Answer, bytes]:
    said, body = await exchange(parse_url(url), (HOME,), request, tls, all_of_it)
    return said, bytes(body.body)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def serving(ca: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(host).configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


async def test_the_request_names_the_host_and_goes_to_the_address(nursery: trio.Nursery) -> None:
    site = await Site([answer(b"hello", x_one="1", X_ONE="2")]).start(nursery)
    said, body = await ask(f"http://site.example:{site.port}/a/b?c=d")
    assert (said.status, body) == (200, b"hello")
    assert said.headers["x-one"] == "1, 2"
    (request,) = site.requests
    assert request == (f"GET /a/b?c=d HTTP/1.1\r\nhost: site.example:{site.port}\r\naccept: */*\r\n\r\n".encode())


async def test_a_post_sends_its_body_with_its_length(nursery: trio.Nursery) -> None:
    site = await Site([answer()]).start(nursery)
    await ask(f"http://site.example:{site.port}/", POST)
    head, _, body = site.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"content-length: 4" in head.split(b"\r\n")
    assert body == b"ping"


async def test_a_certificate_is_checked_for_the_host_and_not_for_the_address(
    nursery: trio.Nursery, ca: trustme.CA
) -> None:
    asked = list[str | None]()
    context = serving(ca, "site.example")
    context.sni_callback = lambda _, name, __: asked.append(name)
    site = await Site([answer(b"safe")], tls=context).start(nursery)
    _, body = await ask(f"https://site.example:{site.port}/", tls=trusting(ca))
    assert body == b"safe"
    assert asked == ["site.example"]


async def test_a_certificate_of_another_host_is_refused(nursery: trio.Nursery, ca: trustme.CA) -> None:
    site = await Site([answer()], tls=serving(ca, "other.example")).start(nursery)
    with pytest.raises(PeerError, match="certificate verify failed: Hostname mismatch"):
        await ask(f"https://site.example:{site.port}/", tls=trusting(ca))
    assert site.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(nursery: trio.Nursery, ca: trustme.CA) -> None:
    site = await Site([answer()], tls=serving(trustme.CA(), "site.example")).start(nursery)
    with pytest.raises(PeerError, match="certificate verify failed: unable to get local issuer"):
        await ask(f"https://site.example:{site.port}/", tls=trusting(ca))
    assert site.requests == []


async def test_the_next_address_is_tried_when_one_refuses(nursery: trio.Nursery) -> None:
    site = await Site([answer(b"second")]).start(nursery)
    place = parse_url(f"http://site.example:{site.port}/")
    _, body = await exchange(place, (ip_address("127.0.0.9"), HOME), GET, None, all_of_it)
    assert body.body == b"second"


async def test_a_place_where_nobody_listens_is_told() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(PeerError, match=r"GET http://site\.example:\d+/ failed: .*refused"):
            await ask(f"http://site.example:{held.getsockname()[1]}/")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 200_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_is_told(nursery: trio.Nursery, said: bytes) -> None:
    site = await Site([said]).start(nursery)
    with pytest.raises(PeerError, match=r"^GET http://site\.example"):
        await ask(f"http://site.example:{site.port}/")


async def test_a_post_that_breaks_off_may_have_been_carried_out(nursery: trio.Nursery) -> None:
    site = await Site([b""]).start(nursery)
    with pytest.raises(PeerError, match="it may have been carried out all the same"):
        await ask(f"http://site.example:{site.port}/", POST)


async def test_an_endless_body_is_read_no_further_than_wanted(nursery: trio.Nursery) -> None:
    async def for_ever(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 1000)

    site = await Site(talk=for_ever).start(nursery)
    _, body = await ask(f"http://site.example:{site.port}/")
    assert body == b"x" * 1000
    await site.hung_up.wait()


@pytest.mark.parametrize("drops", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"])
async def test_a_cancel_hangs_up_on_one_that_drips(nursery: trio.Nursery, drops: bytes) -> None:
    scope = trio.CancelScope()

    async def drip(stream: trio.abc.Stream) -> None:
        await stream.send_all(drops)
        for _ in range(10):
            await stream.send_all(b"x")
        scope.cancel()
        await stream.receive_some()

    site = await Site(talk=drip).start(nursery)
    with scope:
        await ask(f"http://site.example:{site.port}/")
    assert scope.cancelled_caught
    await site.hung_up.wait()


async def test_a_cancel_hangs_up_in_the_middle_of_a_handshake(nursery: trio.Nursery, ca: trustme.CA) -> None:
    scope, hung_up = trio.CancelScope(), trio.Event()

    async def mute(stream: trio.SocketStream) -> None:
        async with stream:
            assert await stream.receive_some()
            scope.cancel()
            assert not await stream.receive_some()
        hung_up.set()

    (listener,) = await nursery.start(partial(trio.serve_tcp, mute, 0, host="127.0.0.1"))
    with scope:
        await ask(f"https://site.example:{listener.socket.getsockname()[1]}/", tls=trusting(ca))
    assert scope.cancelled_caught
    await hung_up.wait()
