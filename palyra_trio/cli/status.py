"""`palyra-trio status`: whether a process holds the state directory, and how it stands."""

import click
import trio

from palyra_trio.cli.door import AGAIN_S, open_remote_door
from palyra_trio.cli.open import state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.tables import json_option, print_json
from palyra_trio.core.errors import NoDaemon
from palyra_trio.core.words import one_line
from palyra_trio.journal.store import LOCK_NAME
from palyra_trio.pb.gateway_pb2 import GetHealthResponse
from palyra_trio.wire.authority import fingerprint_of_pem, spelled


@click.command()
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 600), default=0, metavar="SECONDS", help="Wait for it to be ready."
)
@json_option
def status(wait_s: float, as_json: bool) -> None:
    """Say how the daemon of this state directory stands; exit 69 when there is none."""
    found = trio.run(_health, wait_s)
    elsewhere = chosen()
    pid = int((state_dir() / LOCK_NAME).read_text()) if elsewhere is None else None
    if as_json:
        print_json(
            {
                "pid": pid,
                "version": found.version,
                "boot_id": found.boot_id,
                "live_runs": found.live_runs,
                "draining": found.draining,
                "paused_by": found.paused_by,
                "paused_because": found.paused_because,
                "journal_g": found.journal_g,
                "policy_preset": found.policy_preset,
                "policy_hash": found.policy_hash,
                "addresses": list(found.addresses),
                "quic_port": found.quic_port,
                "authority_sha256": _authority(found),
                "sandbox_tier": found.sandbox_tier,
                "sandbox_report": list(found.sandbox_report),
            }
        )
        return
    where = f"process {pid}" if elsewhere is None else elsewhere.address
    click.echo(f"{'draining' if found.draining else 'ready'}: {where}, version {found.version}")
    if found.paused_by:
        because = f": {one_line(found.paused_because)}" if found.paused_because else ""
        click.echo(f"paused by {found.paused_by}{because}; new runs are not taken")
    for address in found.addresses:
        click.echo(f"listens at {address}")
    if authority := _authority(found):
        click.echo(f"authority SHA-256 {spelled(authority)}")
    click.echo(f"live runs {found.live_runs}, boot {found.boot_id}")
    click.echo(f"policy {found.policy_preset}, your files {found.policy_hash[:12]}")
    for line in found.sandbox_report:
        click.echo(line)


def _authority(found: GetHealthResponse) -> str:
    """Return the SHA-256 (hex) of the authority that clients pin, or ""."""
    return fingerprint_of_pem(found.authority_pem.encode()) if found.authority_pem else ""


async def _health(wait_s: float) -> GetHealthResponse:
    """Raises NoDaemon when nobody answers within `wait_s`."""
    until = trio.current_time() + wait_s
    while True:
        try:
            async with open_remote_door(state_dir()) as (door, _):
                return await door.health()
        except NoDaemon:
            if trio.current_time() + AGAIN_S > until:
                raise
        await trio.sleep(AGAIN_S)
