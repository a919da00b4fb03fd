"""The daemon's own authority and leaf, in the folder `tls` of its state directory: made once, renewed, and never guessed at.

`ca.key` holds the authority with its key, `ca.pem` its certificate for clients to pin, `leaf.pem` the leaf with its key.
Each is one file, so a crash leaves no half of a pair. A file that is not what it should be is refused: another authority
in its place would lock out every client that pinned the old one, and say nothing. `quic.secret` is beside them.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.private_file import private_folder, read_private, replace_private
from palyra_trio.wire.authority import (
    LOOPBACK_NAMES,
    CertifiedKey,
    authority_fault,
    due_s,
    is_issued_by,
    issue_leaf,
    make_authority,
    parse_certified_key,
)

FOLDER = "tls"
AUTHORITY, CERTIFICATE, LEAF = "ca.key", "ca.pem", "leaf.pem"
QUIC_SECRET = "quic.secret"
FILE_BYTES = 64 * 1024
SECRET_BYTES = 32
LOOK_AGAIN_S = 6 * 3600.0  # a clock is set, a machine sleeps: what is due is not left to one long wait

_log = logging.getLogger(__name__)


class Certificates:
    """The authority and the leaf in force."""

    def __init__(self, folder: Path, names: tuple[str, ...], now_s: Callable[[], float]) -> None:
        """Read them, making those that are not there yet; a leaf that is due is replaced. Raises ConfigInvalid."""
        self._folder = private_folder(folder)
        self._names = (*LOOPBACK_NAMES, *names)
        self._now_s = now_s
        self._showing: list[Callable[[], None]] = []
        self._untold: list[Callable[[], None]] = []
        self._authority = read_authority(self._folder, now_s()) or self._make_authority()
        if not self.authority_file.exists():
            replace_private(self.authority_file, self.authority_pem)
        leaf = read_leaf(self._folder, self._authority)
        self.leaf = leaf if leaf is not None and self._wait_s(leaf) else self._issue()

    @property
    def authority_pem(self) -> bytes:
        """The authority's certificate, for clients to pin."""
        return self._authority.chain_pem

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the authority's certificate, in hex."""
        return self._authority.fingerprint

    @property
    def authority_file(self) -> Path:
        """The authority's certificate, as a file."""
        return self._folder / CERTIFICATE

    @property
    def leaf_file(self) -> Path:
        """The leaf with its chain and key, in the form that `ssl` loads."""
        return self._folder / LEAF

    def on_renewal(self, then: Callable[[], None]) -> None:
        """Call `then` whenever another leaf has taken the place of the one in `leaf_file`; again if it raises."""
        self._showing.append(then)

    def quic_secret(self) -> bytes:
        """Return what addresses are proven with, made once, so that a proof outlives this process. Raises ConfigInvalid."""
        path = self._folder / QUIC_SECRET
        raw = read_private(path, SECRET_BYTES)
        if raw is None:
            raw = os.urandom(SECRET_BYTES)
            replace_private(path, raw)
        if len(raw) != SECRET_BYTES:
            raise ConfigInvalid(f"{path} does not hold {SECRET_BYTES} bytes", remedy="remove it; another one is made")
        return raw

    async def keep(self) -> None:
        """Replace the leaf whenever it is due, until cancelled. A failure is logged, and tried again."""
        while True:
            await trio.sleep(min(self._wait_s(self.leaf), LOOK_AGAIN_S))
            self._tell()
            if not self._wait_s(self.leaf):
                try:
                    await self.renew()
                except (ConfigInvalid, OSError, ValueError) as error:
                    _log.error("the certificate was not renewed", extra={"fault": str(error)})
                    await trio.sleep(LOOK_AGAIN_S)

    async def renew(self) -> None:
        """Issue another leaf and put it in force for new connections. Raises ConfigInvalid; then the old one stays."""
        self.leaf = await trio.to_thread.run_sync(self._issue)
        self._untold = list(self._showing)
        self._tell()
        _log.info("certificate renewed", extra={"until": self.leaf.certificate.not_valid_after_utc.isoformat()})

    def _tell(self) -> None:
        """Tell whoever shows a leaf of this one, if they were not told. One that fails is logged, and told the next time."""
        for then in tuple(self._untold):
            try:
                then()
            except Exception as error:
                _log.error("a port still shows the old certificate", exc_info=error)
            else:
                self._untold.remove(then)

    def _wait_s(self, leaf: CertifiedKey) -> float:
        now_s = self._now_s()
        return max(0.0, due_s(leaf, self._authority, self._names, now_s) - now_s)

    def _make_authority(self) -> CertifiedKey:
        authority = make_authority(self._now_s())
        replace_private(self._folder / AUTHORITY, authority.pem)
        return authority

    def _issue(self) -> CertifiedKey:
        leaf = issue_leaf(self._authority, self._names, self._now_s())
        replace_private(self._folder / LEAF, leaf.pem)
        return leaf


def read_authority(folder: Path, now_s: float) -> CertifiedKey | None:
    """Return the authority of a folder, None where none was made yet. Raises ConfigInvalid for one that cannot be used."""
    path, public = folder / AUTHORITY, folder / CERTIFICATE
    raw, shown = read_private(path, FILE_BYTES), read_private(public, FILE_BYTES)
    if raw is None:
        if shown is not None or (folder / LEAF).exists():
            raise _refused(path, "is missing, and clients may have pinned it")
        return None
    try:
        authority = parse_certified_key(raw)
    except ValueError as error:
        raise _refused(path, f"is no certificate with its key: {error}") from error
    if fault := authority_fault(authority, now_s):
        raise _refused(path, f"cannot be used: {fault}")
    if shown not in (None, authority.chain_pem):
        raise _refused(public, f"is not the certificate in {AUTHORITY}")
    return authority


def read_leaf(folder: Path, authority: CertifiedKey) -> CertifiedKey | None:
    """Return the leaf of a folder, None where there is none. Raises ConfigInvalid for one that this authority did not issue."""
    path = folder / LEAF
    raw = read_private(path, FILE_BYTES)
    if raw is None:
        return None
    try:
        leaf = parse_certified_key(raw)
        if not is_issued_by(leaf, authority):
            raise ValueError("it was not issued by the authority beside it")
    except ValueError as error:
        raise ConfigInvalid(
            f"{path} is no certificate of this daemon with its key: {error}",
            remedy="remove it, and the daemon makes another one; clients do not notice",
        ) from error
    return leaf


def _refused(path: Path, fault: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"{path} {fault}",
        remedy=f"restore it from a backup; or move {path.parent} away for a new authority, and let clients connect anew",
    )
