"""What counts as one client by its address: who has one address of its network has them all. Pure.

What a network may have is for who counts it to say.
"""

import ipaddress

from palyra_trio.wire.udp_port import Address

_LOOPBACK = b""
_PREFIX_BYTES = 8  # of an address of IPv6


def network_of(address: Address) -> bytes:
    """Return what counts as one: an address of IPv4 (mapped into IPv6 or not), a /64 of IPv6, or all of loopback."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address):
        host = host.ipv4_mapped or host
    return _LOOPBACK if host.is_loopback else host.packed[:_PREFIX_BYTES]


def is_loopback(network: bytes) -> bool:
    return network == _LOOPBACK
