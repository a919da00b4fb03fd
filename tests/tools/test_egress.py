import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import InvalidArgument, PalyraError, PeerError, PolicyError
from palyra_trio.core.policy import IpClass
from palyra_trio.tools.egress import MAX_ADDRESSES, Egress, IpAddress, ip_class, parse_url, system_resolve
from tests.tools.fake_site import Names


async def no_names(host: str) -> tuple[IpAddress, ...]:
    raise AssertionError(f"{host} must not be resolved")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM:443/A?b=c#d", "https://example.com/A?b=c"),
        ("http://example.com:8080/x", "http://example.com:8080/x"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("http://example.com.?q=1/2", "http://example.com/?q=1/2"),
        ("https://bücher.example/ö?ü=é", "https://xn--bcher-kva.example/%C3%B6?%C3%BC=%C3%A9"),
        ("https://my_bucket.example.com/a%20b", "https://my_bucket.example.com/a%20b"),
        ('https://example.com/a"b<c>', "https://example.com/a%22b%3Cc%3E"),
        ("https://[2001:4860:4860:0::8888]:8443/", "https://[2001:4860:4860::8888]:8443/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
    ],
)
def test_a_url_is_spelled_in_one_way(url: str, expected: str) -> None:
    assert parse_url(url).url == expected
    assert parse_url(expected).url == expected


def test_a_host_of_another_script_is_told_in_that_script() -> None:
    assert parse_url("https://xn--80ak6aa92e.com/").written == "аррӏе.com"
    assert parse_url("https://аррӏе.com/").host == "xn--80ak6aa92e.com"
    assert parse_url("https://apple.com/").written == ""
    assert parse_url("https://xn--zz.example/").written == ""


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript://example.com/%0aalert(1)",
        "https:/example.com",
        "https://",
        "https://:443/",
        "https://[::1/",
        "https://[::1%25lo]/",
        "https://[v1.x]/",
        "https://::1/",
        "https://exa%6dple.com/",
        "https://exa mple.com/",
        "https://example.com:/",
        "https://example.com:80:80/",
        "https://example.com/\r\nHost: other",
        "https://example.com/\x00",
        "https://example.com\\@other.example/",
        "https://example.com/\u202e",
        "https://exam\u200bple.com/",
        "https://example.com/\ud800",
        "https://-example.com/",
        "https://example..com/",
        "https://.example.com/",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 127}com/",
        "https://example.com,other.example/",
        "https://256.256.256.256/",
        "https://1.2.3.4.5/",
        "https://0x/",
        "https://99999999999/",
        "https://example.com/" + "a" * 4096,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://user@example.com/", "userinfo"),
        ("https://user:password@example.com/", "userinfo"),
        ("https://example.com@169.254.169.254/", "userinfo"),
        ("http://example.com:25/", "port"),
        ("http://example.com:0/", "port"),
        ("http://example.com:99999/", "port"),
    ],
)
def test_a_url_that_smuggles_is_refused_by_name(url: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=f"refused as {reason}: "):
        parse_url(url)


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://example.com/{text}"):
        try:
            place = parse_url(url)
        except PalyraError:
            continue
        assert place.url.isascii()
        assert place.url.isprintable()
        assert parse_url(place.url).url == place.url


# --- addresses ---

LOOPBACK = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://127.0.0.1./",
    "http://①②⑦.⓪.⓪.①/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://127．0｡0.1/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
]
METADATA = [
    "http://169.254.169.254/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://2852039166/",
    "http://0251.0376.0251.0376/",
    "http://025177524776/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://169。254。169。254/",
    "http://①⑥⑨.②⑤④.①⑥⑨.②⑤④/",
    "http://169.254.169.254./",
    "http://[fd00:ec2::254]/",
    "http://[fd20:ce::254]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
]
EMBEDDED = [
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2001:4860::5efe:10.0.0.1]/",
    "http://[::ffff:8.8.8.8]/",
]
PRIVATE = ["http://10.0.0.1/", "http://172.31.255.255/", "http://192.168.1/", "http://[fc00::1]/", "http://[fec0::1]/"]
LINK_LOCAL = ["http://169.254.1.1/", "http://[fe80::1]/"]
OTHER = [
    "http://0.0.0.0/",
    "http://0/",
    "http://[::]/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://192.0.2.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://192.0.0.8/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://[100::1]/",
]
BY_CLASS: dict[IpClass, list[str]] = {
    "loopback": LOOPBACK,
    "metadata": METADATA,
    "embedded_v4": EMBEDDED,
    "private": PRIVATE,
    "link_local": LINK_LOCAL,
    "other": OTHER,
}


@pytest.mark.parametrize(("kind", "url"), [(kind, url) for kind, urls in BY_CLASS.items() for url in urls])
async def test_an_address_that_is_not_public_is_refused_in_every_spelling(kind: IpClass, url: str) -> None:
    with pytest.raises(PolicyError, match=f"^refused as {kind}: "):
        await Egress(no_names).check(parse_url(url))


@pytest.mark.parametrize("host", ["8.8.8.8", "0x08080808", "[2001:4860:4860::8888]", "172.32.0.1", "192.0.1.1"])
async def test_a_public_address_needs_no_name_server(host: str) -> None:
    (address,) = await Egress(no_names).check(parse_url(f"http://{host}/"))
    assert ip_class(address) == "public"


@given(st.ip_addresses(v=4))
def test_every_public_ipv4_address_is_a_global_one(address: IPv4Address) -> None:
    if ip_class(address) == "public":
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_never_public(inner: IPv4Address) -> None:
    number = int(inner)
    for outer in (0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112 | number << 80, 0x20010000 << 96, 0xFFFF << 48):
        assert ip_class(IPv6Address(outer | number)) != "public"


@given(st.ip_addresses(v=6))
def test_every_public_ipv6_address_is_global_unicast(address: IPv6Address) -> None:
    if ip_class(address) == "public":
        assert int(address) >> 125 == 1


@pytest.mark.parametrize("name", ["localhost", "localhost.", "LOCALHOST", "ＬＯＣＡＬＨＯＳＴ"])
async def test_a_name_for_this_machine_is_refused(name: str) -> None:
    names = Names(localhost=[("127.0.0.1", "::1")])
    with pytest.raises(PolicyError, match=r"refused as loopback: localhost stands for 127\.0\.0\.1"):
        await Egress(names.resolve).check(parse_url(f"http://{name}/"))


@pytest.mark.parametrize("bad", ["10.1.2.3", "::ffff:10.1.2.3", "fe80::1", "169.254.169.254"])
@pytest.mark.parametrize("position", [0, 1, 20])
async def test_one_bad_address_among_good_ones_refuses_all(bad: str, position: int) -> None:
    good = [f"8.8.8.{number}" for number in range(20)]
    names = Names(mixed_example=[(*good[:position], bad, *good[position:])])
    with pytest.raises(PolicyError, match=f"refused as {ip_class(ip_address(bad))}: mixed.example stands for"):
        await Egress(names.resolve).check(parse_url("https://mixed.example/"))


async def test_a_name_is_resolved_once_and_its_addresses_keep_their_order() -> None:
    found = tuple(f"8.8.{number}.8" for number in reversed(range(20)))
    names = Names(many_example=[found])
    addresses = await Egress(names.resolve).check(parse_url("https://many.example/"))
    assert [str(address) for address in addresses] == list(found[:MAX_ADDRESSES])
    assert names.asked == ["many.example"]


async def test_a_name_without_an_address_is_told() -> None:
    with pytest.raises(PeerError, match="no address"):
        await Egress(Names(none_example=[()]).resolve).check(parse_url("https://none.example/"))


class _Resolver(trio.abc.HostnameResolver):
    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
        if host == b"unknown.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        v6 = (socket.AF_INET6, type, 6, "", ("fe80::1%eth0", 0, 0, 2))
        v4 = (socket.AF_INET, type, 6, "", ("8.8.8.8", 0))
        return [v4, v6, v4]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise AssertionError("no address is turned into a name")


async def test_the_systems_resolver_is_asked_for_each_address_once() -> None:
    trio.socket.set_custom_hostname_resolver(_Resolver())
    found = await system_resolve("example.com")
    assert [ip_class(address) for address in found] == ["public", "link_local"]
    with pytest.raises(PeerError, match=r"the name unknown\.example cannot be resolved: Name or service not known"):
        await system_resolve("unknown.example")


def test_the_numbers_of_the_metadata_services_lie_in_no_public_range() -> None:
    azure = IPv4Address("168.63.129.16")
    assert ip_class(azure) == "metadata"
    assert all(ip_class(each) == "public" for each in IPv4Network("168.63.129.0/24") if each != azure)
