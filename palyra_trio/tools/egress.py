"""Where a call on the network would go, and whether it may: only to public addresses.

A URL is read strictly, its host is resolved once, and every address that it stands for is put into a class; one that
is not public refuses the call. Whoever connects must connect to these addresses and resolve nothing again, or else the
answer of a name server could change in between (DNS rebinding). This machine's own public address counts as public.
Nothing here connects.
"""

import re
import socket
import unicodedata
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote

import attrs
import idna
import trio

from palyra_trio.core.errors import InvalidArgument, PeerError, PolicyError
from palyra_trio.core.policy import IpClass

MAX_URL_CHARACTERS = 4096
MAX_ADDRESSES = 8  # of a name: all are checked, and these are tried
DEFAULT_PORTS = {"http": 80, "https": 443}

IpAddress = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[tuple[IpAddress, ...]]]
Classify = Callable[[IpAddress], IpClass]

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]%]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_KEPT = "/?:@!$&'()*+,;=%-._~[]"  # RFC 3986, section 2, for a path and a query; the rest is percent-encoded
_FORBIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")

# Registries of special-purpose addresses (RFC 6890, kept by IANA), and what clouds answer on besides.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # most clouds
            "169.254.170.2",  # credentials of containers
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",  # public by registry, and answered by the machine's host
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
        ),
    )
)
_V4: tuple[tuple[IPv4Network, IpClass], ...] = (
    (IPv4Network("10.0.0.0/8"), "private"),
    (IPv4Network("172.16.0.0/12"), "private"),
    (IPv4Network("192.168.0.0/16"), "private"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("169.254.0.0/16"), "link_local"),
    (IPv4Network("0.0.0.0/8"), "other"),  # this network; Linux takes it for loopback
    (IPv4Network("100.64.0.0/10"), "other"),  # shared by a provider's customers
    (IPv4Network("192.0.0.0/24"), "other"),  # protocol assignments
    (IPv4Network("192.0.2.0/24"), "other"),  # documentation, as the two below
    (IPv4Network("198.51.100.0/24"), "other"),
    (IPv4Network("203.0.113.0/24"), "other"),
    (IPv4Network("192.88.99.0/24"), "other"),  # 6to4 relays
    (IPv4Network("198.18.0.0/15"), "other"),  # benchmarking
    (IPv4Network("224.0.0.0/3"), "other"),  # multicast, reserved, broadcast
)
_V6: tuple[tuple[IPv6Network, IpClass], ...] = (
    (IPv6Network("::1/128"), "loopback"),
    (IPv6Network("::/128"), "other"),  # unspecified
    (IPv6Network("::/96"), "embedded_v4"),  # IPv4-compatible (RFC 4291, 2.5.5.1)
    (IPv6Network("::ffff:0:0/96"), "embedded_v4"),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), "embedded_v4"),  # IPv4-translated (RFC 2765)
    (IPv6Network("64:ff9b::/96"), "embedded_v4"),  # NAT64 (RFC 6052)
    (IPv6Network("64:ff9b:1::/48"), "embedded_v4"),  # NAT64 of a site (RFC 8215)
    (IPv6Network("2001::/32"), "embedded_v4"),  # Teredo (RFC 4380)
    (IPv6Network("2002::/16"), "embedded_v4"),  # 6to4 (RFC 3056)
    (IPv6Network("fe80::/10"), "link_local"),
    (IPv6Network("fc00::/7"), "private"),
    (IPv6Network("fec0::/10"), "private"),  # site-local, deprecated
    (IPv6Network("2001::/23"), "other"),  # protocol assignments
    (IPv6Network("2001:db8::/32"), "other"),  # documentation, as the next
    (IPv6Network("3fff::/20"), "other"),
    (IPv6Network("2000::/3"), "public"),
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # an interface identifier that ends in an IPv4 address (RFC 5214)


@attrs.frozen
class Place:
    """What a URL names. `host` is ASCII as it goes on the wire, with brackets around IPv6; `target` the path and query.

    `written` is the host in its own script, where that differs.
    """

    scheme: str
    host: str
    port: int
    target: str
    written: str = ""

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the scheme's own: what the Host field says (RFC 9110, 7.2)."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def literal(self) -> IpAddress | None:
        """The address, where the host is one."""
        try:
            return ip_address(self.host.strip("[]"))
        except ValueError:
            return None


def refused(reason: str, message: str, *, remedy: str = "") -> PolicyError:
    """Return the error of a call that is refused; `reason` is a stable name that a model and a test can tell."""
    return PolicyError(f"refused as {reason}: {message}", remedy=remedy)


def parse_url(url: str) -> Place:
    """Return what an absolute http or https URL names, without its fragment.

    A host is read as a browser reads it (IDNA by UTS 46; 0x7f.1 is 127.0.0.1) and spelled in one way. Raises
    InvalidArgument for what is no such URL, PolicyError for a user or password in it and for a port of another service.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidArgument(f"the URL has more than {MAX_URL_CHARACTERS} characters")
    for char in url:
        if char == "\\" or unicodedata.category(char) in _FORBIDDEN_CATEGORIES:
            raise InvalidArgument(f"the URL holds the character U+{ord(char):04X}", remedy="percent-encode it")
    match = _URL.fullmatch(url)
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS:
        raise InvalidArgument(f"{url!r} is no http or https URL", remedy="write it as https://HOST/PATH")
    target = quote(match["target"], safe=_KEPT)
    return _place(match["scheme"].lower(), match["authority"], target if target.startswith("/") else f"/{target}")


def parse_authority(text: str) -> Place:
    """Return what `HOST` or `HOST:PORT` names, with 443 for a port that is left out. Raises as `parse_url` does."""
    if any(unicodedata.category(char) in _FORBIDDEN_CATEGORIES for char in text) or set(text) & set("/\\?#"):
        raise InvalidArgument(f"{text!r} is no host", remedy="write it as HOST or HOST:PORT")
    return _place("https", text, "/")


def _place(scheme: str, authority: str, target: str) -> Place:
    if "@" in authority:
        raise refused("userinfo", "it holds a user or a password", remedy="leave out all before the @")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise InvalidArgument(f"{authority!r} is no host", remedy="write it as HOST or HOST:PORT")
    port = int(parts["port"] or DEFAULT_PORTS[scheme])
    if port not in DEFAULT_PORTS.values() and not 1024 <= port <= 65535:
        raise refused("port", f"port {port} belongs to another service", remedy="use 80, 443 or one from 1024 on")
    host = _host(parts["host"])
    return Place(scheme, host, port, target, _in_script(host))


def _host(spelled: str) -> str:
    try:
        if spelled.startswith("["):
            return f"[{IPv6Address(spelled[1:-1])}]"
        ascii_host = spelled.lower() if spelled.isascii() else idna.encode(spelled, uts46=True).decode()
        name = ascii_host.removesuffix(".")
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            return str(IPv4Address(socket.inet_aton(name)))
    except (ValueError, OSError) as error:  # idna's errors are ValueErrors
        raise InvalidArgument(f"{spelled!r} is no host: {error}") from error
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise InvalidArgument(f"{spelled!r} is no host")
    return name


def _in_script(host: str) -> str:
    try:
        written = idna.decode(host) if "xn--" in host else host
    except idna.IDNAError:
        return ""
    return written if written != host else ""


def ip_class(address: IpAddress) -> IpClass:
    """Return what kind of place an address is. An IPv6 address that carries an IPv4 one is never public.

    What no registry calls global is not public: for IPv6 all outside 2000::/3.
    """
    if address in _METADATA:
        return "metadata"
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _V4 if address in network), "public")
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "embedded_v4"
    return next((kind for network, kind in _V6 if address in network), "other")


async def system_resolve(host: str) -> tuple[IpAddress, ...]:
    """Return the addresses that this machine's resolver gives for a name. Raises PeerError when it gives none.

    It takes as long as the resolver takes; if cancelled, a worker thread is left to finish alone.
    """
    try:
        found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise PeerError(f"the name {host} cannot be resolved: {error.strerror or error}") from error
    return tuple(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


@attrs.frozen
class Way:
    """A host that one may connect to, by its name in ASCII, and the checked addresses that it stands for."""

    host: str
    port: int
    addresses: tuple[IpAddress, ...]


@attrs.frozen
class Egress:
    """The way out. How names are resolved and what counts as public are fixed where it is made, for good."""

    resolve: Resolve = system_resolve
    classify: Classify = ip_class

    async def check(self, place: Place) -> tuple[IpAddress, ...]:
        """Resolve once, and return the addresses to connect to, in the resolver's order: at most MAX_ADDRESSES.

        Raises PolicyError naming the class of the first address that is not public, PeerError when there is none.
        """
        literal = place.literal
        addresses = (literal,) if literal else await self.resolve(place.host)
        if not addresses:
            raise PeerError(f"the name {place.host} stands for no address")
        for address in addresses:
            if (kind := self.classify(address)) != "public":
                stands = f"{place.host} stands for {address}" if address != literal else f"{address}"
                raise refused(kind, f"{stands}, and only public addresses may be reached")
        return addresses[:MAX_ADDRESSES]
