"""A client whose network changes under it: it moves to another address in mid-run, and then its network takes no more UDP.

The daemon is `palyra-trio serve`, the client is what every command follows a run with, and between them are the three
hosts of `demo_hosts`. What is claimed is read off the rows that arrive, and compared with the journal.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from palyra_trio.cli.demo_hosts import CLIENT, DAEMON, MOVED, Hosts, missing, on_host, three_hosts
from palyra_trio.cli.main import innermost
from palyra_trio.cli.open import principal
from palyra_trio.cli.profiles import Profile
from palyra_trio.cli.remote import BATCHES, Rows, open_remote
from palyra_trio.cli.ways import Transport, over_stream
from palyra_trio.core.commands import Accepted, CancelRun, StartRun
from palyra_trio.core.errors import NoDaemon, PalyraError
from palyra_trio.core.identity import RequestContext, RunId
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME

if TYPE_CHECKING:
    from palyra_trio.cli.demo import Claims

ROWS = 25  # that are to arrive before and after each change: half a second of them
ALL = 1 << 30
STARTING_S = 20.0
SCRIPT = {"turns": [{"deltas": [f"{number} " for number in range(5000)], "delta_pause_s": 0.02}]}


@attrs.define
class Client:
    """What a follower of a run has received, and over what: `places` are the seqs after which each connection began."""

    seqs: list[int] = attrs.Factory(list)
    hashes: list[bytes] = attrs.Factory(list)
    connections: list[str] = attrs.Factory(list)
    places: list[int] = attrs.Factory(list)

    def note(self, text: str) -> None:
        """Take what the program says of how it reaches the daemon."""
        words, over, address = text.partition("connected over ")
        if over and not words:
            self.connections.append("quic" if address.startswith("quic:") else "h2")
            self.places.append(self.seqs[-1] if self.seqs else 0)

    async def receive(self, rows: Rows, count: int) -> None:
        """Receive at least so many rows more, or all that there are."""
        until = len(self.seqs) + count
        while len(self.seqs) < until and (page := await rows.next_rows()):
            self.seqs += [row.seq for row in page]
            self.hashes += [row.hash for row in page]

    @property
    def gaps(self) -> int:
        """How many rows before the last one are missing."""
        return max(self.seqs) - len(set(self.seqs))

    @property
    def duplicates(self) -> int:
        return len(self.seqs) - len(set(self.seqs))


async def play(folder: Path, claims: "Claims") -> None:
    """Show both changes, or say what is missing for that. A cancel leaves no process and no host."""
    claims.act("A client follows a run on another host over HTTP/3")
    if absent := missing():
        claims.unavailable(*absent)
        return
    try:
        async with three_hosts() as hosts, _serving(hosts, folder) as profile:
            await _roam(hosts, folder, profile, claims)
    except* subprocess.CalledProcessError as errors:
        error = innermost(errors)
        assert isinstance(error, subprocess.CalledProcessError)
        said = error.stderr.decode("utf-8", "replace").strip()
        claims.unavailable(f"{' '.join(error.cmd)}: {said}", "run it where network namespaces may be made")
    except* PalyraError as errors:
        claims.claim("it can be played to its end", False, str(innermost(errors)))


async def _roam(hosts: Hosts, folder: Path, profile: Profile, claims: "Claims") -> None:
    context = RequestContext(principal(), device="demo", channel="demo", local=True)
    run_id = RunId("")
    here = over_stream(partial(trio.open_unix_socket, str(folder / "state" / "socket")), "unix", {})
    client = Client()
    async with open_remote(here) as daemon:
        script = folder / "script.json"
        await trio.Path(script).write_text(json.dumps(SCRIPT))
        accepted = await daemon.submit(
            StartRun("Speak.", workspace=str(folder / "home"), model=f"scripted/{script}"), context
        )
        assert isinstance(accepted, Accepted)
        run_id = accepted.run_id
        with on_host(hosts.client):
            async with (
                open_remote(*profile.ways(Transport.AUTO), note=client.note) as remote,
                remote.following(run_id, 0, context) as rows,
            ):
                await client.receive(rows, ROWS)
                before = len(client.seqs)
                await hosts.move_client(MOVED)
                await client.receive(rows, ROWS + BATCHES)
                claims.claim(
                    f"its address changes from {CLIENT} to {MOVED}: its call goes on",
                    client.connections == ["quic"],
                    f"{before} rows before, {len(client.seqs) - before} rows after",
                    f"reconnects {len(client.connections) - 1}",
                )
                await hosts.block_udp()
                blocked_at = trio.current_time()
                while len(client.connections) < 2:
                    await client.receive(rows, 1)
                took_s = trio.current_time() - blocked_at
                await client.receive(rows, ROWS)
                await daemon.submit(CancelRun(run_id, "the demonstration"), context)
                await client.receive(rows, ALL)
    recorded = _recorded(folder / "state" / FILE_NAME, run_id)
    claims.claim(
        "its network takes no more UDP: it goes on over HTTP/2 after the last row that it has",
        client.connections == ["quic", "h2"] and not client.gaps and not client.duplicates,
        f"{client.connections[-1]} after_seq={client.places[-1]}, gaps {client.gaps}, duplicates {client.duplicates}",
        f"{took_s:.0f} s after the last datagram",
    )
    claims.claim(
        "what it has is what the journal has",
        client.hashes == recorded,
        f"{len(recorded)} rows, compared by their hashes",
    )


def _recorded(journal: Path, run_id: RunId) -> list[bytes]:
    with closing(Reader(journal)) as reader:
        return [row.hash for row in reader.tape(run_stream(run_id))]


@asynccontextmanager
async def _serving(hosts: Hosts, folder: Path) -> AsyncGenerator[Profile, None]:
    """Run the daemon on its host, and yield how a client elsewhere knows it. Raises NoDaemon when it does not begin."""
    state, home = folder / "state", folder / "home"
    home.mkdir()
    own = {
        "HOME": str(home),
        "PALYRA_STATE_DIR": str(state),
        "PALYRA_LOG__LEVEL": "error",
        "PALYRA_DAEMON__DRAIN_S": "0",
    }
    ports = {"PALYRA_GRPC__PORT": "0", "PALYRA_QUIC__PORT": "0", "PALYRA_HTTP__ENABLED": "false"}
    hosted = {"PALYRA_GRPC__HOST": DAEMON, "PALYRA_QUIC__HOST": DAEMON}
    environment = {"PATH": os.environ["PATH"], **own, **ports, **hosted}
    command = hosts.on_daemon(sys.executable, "-m", "palyra_trio", "serve")
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                env=environment,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        )
        assert process.stdout is not None
        said = b""
        with trio.move_on_after(STARTING_S):
            while not said.endswith(b"\n") and (data := await process.stdout.receive_some()):
                said += data
        words = said.decode().split()
        if words[:1] != ["ready"]:
            raise NoDaemon("the daemon of the demonstration did not begin", remedy="try `palyra-trio serve`")
        found = {each.partition("://")[0]: int(each.rpartition(":")[2]) for each in words[2:]}
        token, ca = (state / "token").read_text("ascii").strip(), str(state / "tls" / "ca.pem")
        yield Profile(DAEMON, found["grpcs"], True, token, ca_file=ca, quic_port=found["quic"], quic_ca_file=ca)
        nursery.cancel_scope.cancel()
