"""How the daemon's own certificate stands, and another one where it is due.

It is read as it lies there; only a mend, with the state folder held against daemons, lets another leaf be issued.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from palyra_trio.cli.doctor_state import FIX, Line
from palyra_trio.cli.open import claimed
from palyra_trio.core.config import Config
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.runtime.diagnosis import Check, refused
from palyra_trio.transports.certificates import FOLDER, LEAF, Certificates, read_authority, read_leaf
from palyra_trio.transports.shown_certificates import own_names
from palyra_trio.wire.authority import due_s, names_of


def certificate(folder: Path, config: Config, held: bool, now_s: float) -> Check:
    """Look whether the leaf in the state folder holds, and for how long, where any port is to show it."""
    name = "certificate"
    if own_names(config.grpc, config.quic, config.http) is None:
        return Check(name, "ok", "no port is to show the daemon's own")
    try:
        authority = read_authority(folder / FOLDER, now_s)
        leaf = read_leaf(folder / FOLDER, authority) if authority is not None else None
    except ConfigInvalid as error:
        return refused(name, error)
    if authority is None or leaf is None:
        return Check(name, "ok", "there is none yet; the next start makes it")
    ends = leaf.certificate.not_valid_after_utc
    if due_s(leaf, authority, names_of(leaf), now_s) > now_s:
        return Check(name, "ok", f"the daemon's own is valid until {ends:%Y-%m-%d}, and is renewed before")
    over = datetime.fromtimestamp(now_s, UTC) >= ends
    said = f"the daemon's own {'has expired on' if over else 'is due for another one: it expires on'} {ends:%Y-%m-%d}"
    if held:
        remedy = "its log says why the daemon does not renew it; a restart does, too"
        return Check(name, "fault" if over else "warning", said, remedy)
    return Check(name, "warning", said, f"{FIX}, or the next start, issues another one")


def mend_certificate(folder: Path) -> Iterator[Line]:
    """Issue another leaf, for the same names, where one is due. Raises ConfigInvalid, and OSError."""
    tls, now_s = folder / FOLDER, time.time()
    with claimed(folder) as free:
        if not free:
            yield Line("the leaf: a process holds the state folder, and renews it itself", done=False)
            return
        authority = read_authority(tls, now_s)
        old = read_leaf(tls, authority) if authority is not None else None
        if old is not None:
            new = Certificates(tls, names_of(old), lambda: now_s).leaf
            yield Line(f"{tls / LEAF}: issued, valid until {new.certificate.not_valid_after_utc:%Y-%m-%d}")
