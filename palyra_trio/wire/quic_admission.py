"""Who may begin a QUIC connection, decided by one datagram and without keeping anything for those who may not yet.

An address that has not shown that it is real gets a Retry (RFC 9000, section 8.1.2) when it asks too often or much is
going on. Pure: time is an argument, and what to do about it is the endpoint's.
"""

import hashlib
import hmac
import ipaddress
import os
from collections import OrderedDict
from enum import Enum, auto

import attrs
from aioquic.quic.packet import QuicHeader
from aioquic.quic.retry import QuicRetryTokenHandler
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from palyra_trio.wire.limits import Bucket, QuicLimits
from palyra_trio.wire.quic_machine import RESET_TOKEN_BYTES
from palyra_trio.wire.udp_port import Address

SECRET_BYTES = 32
ID_BYTES = 8
_OURS = b"palyra"  # begins our tokens; a browser may bring one that it has from another server


class Secrets:
    """What is derived from a server's secret: keys that its next process has again, if it is given the same one."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"the secret has {len(secret)} bytes; it takes {SECRET_BYTES}")
        self._resets = _derived(secret, b"stateless reset")
        self.tokens = QuicRetryTokenHandler()
        self.tokens._aead = AESGCM(_derived(secret, b"retry token"))

    def reset_token(self, connection_id: bytes) -> bytes:
        """Return the token of a stateless reset (RFC 9000, section 10.3.2)."""
        return hmac.digest(self._resets, connection_id, "sha256")[:RESET_TOKEN_BYTES]


class Verdict(Enum):
    ACCEPT = auto()
    RETRY = auto()
    INVALID_TOKEN = auto()
    FULL = auto()
    SILENCE = auto()


@attrs.frozen
class Admission:
    """`original_id` and `retried_id` are for the machine of a connection that is accepted."""

    verdict: Verdict
    original_id: bytes = b""
    retried_id: bytes | None = None


class Gatekeeper:
    """Decides, and counts what each address has begun."""

    def __init__(self, secrets: Secrets, quic: QuicLimits, connections: int) -> None:
        self._secrets = secrets
        self._quic = quic
        self._connections = connections
        self._asked: OrderedDict[bytes, Bucket] = OrderedDict()

    def admit(
        self, header: QuicHeader, address: Address, *, handshakes: int, connections: int, now: float, wall_s: float
    ) -> Admission:
        """Judge a first datagram, beside so many handshakes in flight and connections in all.

        `now` is of the endpoint's clock, `wall_s` Unix time: tokens outlive the process.
        """
        original_id, retried_id = header.destination_cid, None
        if header.token.startswith(_OURS):
            token = header.token.removeprefix(_OURS)
            try:
                original_id = self._secrets.tokens.validate_token(
                    address=address, destination_cid=header.destination_cid, token=token, now=wall_s
                )
            except ValueError:
                return Admission(Verdict.INVALID_TOKEN)
            retried_id = header.destination_cid
        if connections >= self._connections:
            return Admission(Verdict.FULL)
        if handshakes >= self._quic.handshakes:
            return Admission(Verdict.SILENCE)
        shown = retried_id is not None
        if not shown and (self._quic.always_retry or handshakes >= self._quic.retry_above):
            return Admission(Verdict.RETRY)
        if not self._take(address, now):
            return Admission(Verdict.SILENCE if shown else Verdict.RETRY)
        return Admission(Verdict.ACCEPT, original_id, retried_id)

    def retry_token(self, header: QuicHeader, address: Address, wall_s: float) -> tuple[bytes, bytes]:
        """Return the connection id that the client is to send to next, and the token that it is to show with it."""
        retried_id = os.urandom(ID_BYTES)
        token = self._secrets.tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=retried_id,
            now=wall_s,
        )
        return retried_id, _OURS + token

    def _take(self, address: Address, now: float) -> bool:
        host = ipaddress.ip_address(address[0].partition("%")[0])
        if host.is_loopback:
            return True  # who is on this machine has easier ways to wear it out
        key = host.packed[:8]  # a network of IPv6 is one household
        bucket = self._asked.pop(key, None)
        if bucket is None:
            bucket = Bucket(self._quic.address_handshakes, self._quic.address_handshakes_per_s, now)
        self._asked[key] = bucket
        if len(self._asked) > self._quic.addresses:
            self._asked.popitem(last=False)
        return bucket.take(now)


def _derived(secret: bytes, label: bytes) -> bytes:
    return hmac.digest(secret, b"palyra-trio quic " + label, hashlib.sha256)
