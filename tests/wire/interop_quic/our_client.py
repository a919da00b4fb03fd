"""Our client against ngtcp2's gtlsserver: a small file, a large one, and one that is not there."""

import hashlib
import os
import tempfile
from pathlib import Path

import trio

from palyra_trio.wire.h3_client import H3Channel, connect
from palyra_trio.wire.quic_config import Trust
from tests.wire.interop_quic import gtls
from tests.wire.interop_quic.against_ours import Case
from tests.wire.interop_quic.place import HOST, WITHIN_S

LARGE_BYTES = 5_000_000


async def case(authority: Path, leaf: Path, *, retry: bool) -> Case:
    """Fetch files from a server that shows a certificate of ours; `leaf` holds its key too."""
    who = f"ours, server ngtcp2 gtlsserver {gtls.version()}"
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        large = os.urandom(LARGE_BYTES)
        folder.joinpath("small.txt").write_text("small\n")
        folder.joinpath("large.bin").write_bytes(large)
        async with gtls.serving(folder, leaf, leaf, retry=retry) as (port, said):
            got: dict[str, tuple[int, int, str]] = {}
            try:
                with trio.fail_after(WITHIN_S):
                    async with connect(HOST, port, trust=Trust(ca=authority)) as channel:
                        for path in ("/small.txt", "/large.bin", "/none"):
                            got[path] = await _fetch(channel, path)
            except Exception as error:  # whatever it is: this case has failed, the others go on
                return Case(who, (f"{error!r:.2000}",), "".join(said))
        wanted = {"/small.txt": (200, *_of(b"small\n")), "/large.bin": (200, *_of(large))}
        failures = [f"{path} is {got[path]}, not {each}" for path, each in wanted.items() if got[path] != each]
        if got["/none"][0] != 404:
            failures.append(f"/none is {got['/none'][0]}")
        return Case(who, tuple(failures), f"{got}\n{''.join(said)}")


async def _fetch(channel: H3Channel, path: str) -> tuple[int, int, str]:
    async with channel.fetch("GET", path) as response:
        body = b"".join([chunk async for chunk in response])
    return response.status, *_of(body)


def _of(body: bytes) -> tuple[int, str]:
    """Return what tells one body from another."""
    return len(body), hashlib.sha256(body).hexdigest()
