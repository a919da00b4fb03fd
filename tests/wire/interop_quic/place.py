"""What a client is told of the server that it is to talk to, and what it has to say afterwards."""

import base64
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

HOST = "localhost"
WITHIN_S = 60.0  # for a client, start and end included


@attrs.frozen
class Place:
    """A daemon on a UDP port of the loopback, and a run whose events can be followed with a token."""

    port: int
    authority: Path
    certificate: Path
    token: str
    run_id: str

    @property
    def origin(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def events_path(self) -> str:
        return f"/api/v1/runs/{self.run_id}/events"

    @property
    def spki(self) -> str:
        """The SHA-256 of the certificate's public key, in base64, as Chromium wants it."""
        key = x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_key()
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(der)
        return base64.b64encode(digest.finalize()).decode()


@attrs.frozen
class Answer:
    """A response as a client saw it. `protocol` is the client's own word for what it was got by."""

    status: int
    body: str
    protocol: str


@attrs.frozen
class Talk:
    """What a client got, and what it printed. `events` is None for a client that cannot send a token."""

    version: str
    health: Answer
    events: Answer | None
    raw: str


def sequence(events: str) -> list[int]:
    """Return the ids of server-sent events, in order."""
    return [int(line.partition(":")[2]) for line in events.splitlines() if line.startswith("id:")]
