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
from palyra_trio.wire.quic_crowd import Crowd, Guest, is_loopback, network_of
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


class Gatekeeper(Generic[Guest]):
    """Decides, beside the crowd that is there, and counts how often each address comes.

    Counted is who has shown where it is, by a token or by finishing a handshake, and nobody else: a flood of lies makes
    the count of no address grow, and none forgotten. Who really has more than `addresses` networks can have it forgotten,
    and gains nothing by it: the burst that an address then has anew it has anew after seconds, too.
    """

    def __init__(self, secrets: Secrets, quic: QuicLimits, connections: int) -> None:
        self.crowd: Crowd[Guest] = Crowd(quic, connections)
        self._secrets = secrets
        self._quic = quic
        self._came: OrderedDict[bytes, Bucket] = OrderedDict()

    def admit(self, header: QuicHeader, address: Address, *, now: float, wall_s: float) -> Admission:
        """Judge a first datagram. `now` is of the endpoint's clock, `wall_s` Unix time: tokens outlive the process."""
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
        network = network_of(address)
        if self.crowd.is_full(network):
            return Admission(Verdict.FULL)
        if retried_id is None:
            if self._quic.always_retry or self.crowd.unproven >= self._quic.retry_above or self._owes(network, now):
                return Admission(Verdict.RETRY)
        elif not self._take(network, now):
            return Admission(Verdict.SILENCE)
        return Admission(Verdict.ACCEPT, original_id, retried_id)

    def lets_in(self, guest: Guest, admission: Admission, address: Address) -> Guest | None:
        """An accepted client has become a guest. Return another one that is to go for it, if there must be one."""
        return self.crowd.comes(guest, network_of(address), shown=admission.retried_id is not None)

    def stands(self, guest: Guest, now: float) -> None:
        """A guest has finished its handshake."""
        if (network := self.crowd.stands(guest)) is not None:
            self._take(network, now)

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

    def _owes(self, network: bytes, now: float) -> bool:
        bucket = self._came.get(network)
        return bucket is not None and not bucket.has(now)

    def _take(self, network: bytes, now: float) -> bool:
        if is_loopback(network):
            return True  # who is on this machine has easier ways to wear it out
        bucket = self._came.pop(network, None)
        if bucket is None:
            bucket = Bucket(self._quic.address_handshakes, self._quic.address_handshakes_per_s, now)
        self._came[network] = bucket
        if len(self._came) > self._quic.addresses:
            self._came.popitem(last=False)
        return bucket.take(now)


def _derived(secret: bytes, label: bytes) -> bytes:
    return hmac.digest(secret, b"palyra-trio quic " + label, hashlib.sha256)
