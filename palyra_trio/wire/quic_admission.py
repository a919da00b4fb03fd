"""Who may begin a QUIC connection, decided by one datagram and without keeping anything for those who may not yet.

An address that has not shown that it is real gets a Retry (RFC 9000, section 8.1.2) when it asks too often or much is
going on. Pure: time is an argument, and what to do about it is the endpoint's.
"""

import hashlib
import hmac
import os
from collections import OrderedDict
from enum import Enum, auto
from typing import Generic

import attrs
from aioquic.quic.packet import QuicHeader
from aioquic.quic.retry import QuicRetryTokenHandler
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from palyra_trio.wire.limits import Bucket, QuicLimits
from palyra_trio.wire.networks import is_loopback, network_of
from palyra_trio.wire.quic_connection_table import Connection, ConnectionTable
from palyra_trio.wire.quic_machine import RESET_TOKEN_BYTES
from palyra_trio.wire.udp_port import Address

SECRET_BYTES = 32
ID_BYTES = 8
_TOKEN_PREFIX = b"palyra"  # of ours: a browser may bring one that it has from another server


class ServerKeys:
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
    DROP = auto()


@attrs.frozen
class Admission:
    """`original_id` and `retried_id` are for the machine of a connection that is accepted."""

    verdict: Verdict
    original_id: bytes = b""
    retried_id: bytes | None = None


class Gatekeeper(Generic[Connection]):
    """Decides, by the connections that there are, and counts how often each address comes.

    Counted is who has shown where it is, by a token or by finishing a handshake, and nobody else: a flood of lies makes
    the count of no address grow, and none forgotten. Who really has more than `addresses` networks can have it forgotten,
    and gains nothing by it: the burst that an address then has anew it has anew after seconds, too.
    """

    def __init__(self, keys: ServerKeys, quic: QuicLimits, connections: int) -> None:
        self.table: ConnectionTable[Connection] = ConnectionTable(quic, connections)
        self._keys = keys
        self._quic = quic
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()

    def admit(self, header: QuicHeader, address: Address, *, now: float, wall_s: float) -> Admission:
        """Judge a first datagram. `now` is of the endpoint's clock, `wall_s` Unix time: tokens outlive the process."""
        original_id, retried_id = header.destination_cid, None
        if header.token.startswith(_TOKEN_PREFIX):
            token = header.token.removeprefix(_TOKEN_PREFIX)
            try:
                original_id = self._keys.tokens.validate_token(
                    address=address, destination_cid=header.destination_cid, token=token, now=wall_s
                )
            except ValueError:
                return Admission(Verdict.INVALID_TOKEN)
            retried_id = header.destination_cid
        network = network_of(address)
        if self.table.is_full(network):
            return Admission(Verdict.FULL)
        if retried_id is None:
            if (
                self._quic.always_retry
                or self.table.unvalidated >= self._quic.retry_above
                or self._is_too_frequent(network, now)
            ):
                return Admission(Verdict.RETRY)
        elif not self._count(network, now):
            return Admission(Verdict.DROP)
        return Admission(Verdict.ACCEPT, original_id, retried_id)

    def add(self, connection: Connection, admission: Admission, address: Address) -> Connection | None:
        """Count a connection that was accepted. Return another one that is to go for it, if there must be one."""
        return self.table.add(connection, network_of(address), validated=admission.retried_id is not None)

    def established(self, connection: Connection, now: float) -> None:
        """A connection has finished its handshake."""
        if (network := self.table.established(connection)) is not None:
            self._count(network, now)

    def retry_token(self, header: QuicHeader, address: Address, wall_s: float) -> tuple[bytes, bytes]:
        """Return the connection id that the client is to send to next, and the token that it is to show with it."""
        retried_id = os.urandom(ID_BYTES)
        token = self._keys.tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=retried_id,
            now=wall_s,
        )
        return retried_id, _TOKEN_PREFIX + token

    def _is_too_frequent(self, network: bytes, now: float) -> bool:
        bucket = self._buckets.get(network)
        return bucket is not None and not bucket.has(now)

    def _count(self, network: bytes, now: float) -> bool:
        if is_loopback(network):
            return True  # who is on this machine has easier ways to wear it out
        bucket = self._buckets.pop(network, None)
        if bucket is None:
            bucket = Bucket(self._quic.address_handshakes, self._quic.address_handshakes_per_s, now)
        self._buckets[network] = bucket
        if len(self._buckets) > self._quic.addresses:
            self._buckets.popitem(last=False)
        return bucket.take(now)


def _derived(secret: bytes, label: bytes) -> bytes:
    return hmac.digest(secret, b"palyra-trio quic " + label, hashlib.sha256)
