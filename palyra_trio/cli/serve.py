"""`palyra-trio serve`: the daemon, in the foreground, until a signal. SIGTERM drains, a second one ends, SIGHUP reloads."""

import logging
import os
import signal
import sys
from collections.abc import Mapping

import attrs
import click
import trio

from palyra_trio.cli.exit_codes import OK
from palyra_trio.cli.open import model_settings, read_settings
from palyra_trio.cli.settings import Settings
from palyra_trio.core.config import Config, LogFormat
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.layers import KEYS, value_of
from palyra_trio.daemon import Daemon, calm_collector, open_daemon
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.telemetry import set_up_logging

AT_START = ("model", "journal", "grpc", "log")  # sections that are read once

Flags = Mapping[str, object]

_log = logging.getLogger("palyra_trio.serve")


@click.command()
@click.option("--host", help="Listen on this address (grpc.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this TCP port (grpc.port); 0 takes a free one.")
def serve(host: str | None, port: int | None) -> None:
    """Run the daemon in the foreground: gRPC over TCP, and over a Unix socket in the state directory.

    Says `ready` and its addresses on stdout once it takes calls; logs go to stderr. SIGTERM or Ctrl-C takes no more
    work and gives live runs `daemon.drain_s` seconds; a second signal ends at once. SIGHUP reads the configuration again.
    """
    flags = {"grpc.host": host, "grpc.port": port}
    settings = read_settings(flags)
    log = settings.base.log
    set_up_logging(log.level, as_json=log.format is LogFormat.JSON, redactor=Redactor())
    sys.exit(trio.run(_serve, settings, flags))


async def _serve(settings: Settings, flags: Flags) -> int:
    config = settings.base
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # outside of the loop below it would end the process
    async with open_daemon(
        config, model_settings(settings), settings.state_dir, settings.sources.config_in, tcp=True
    ) as daemon:
        calm_collector()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            click.echo(f"ready {' '.join(daemon.edges.addresses)}")
            _log.info("ready", extra={"pid": os.getpid(), "addresses": daemon.edges.addresses})
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                config = _reload(daemon, config, flags)
            _log.info(
                "draining", extra={"drain_s": config.daemon.drain_s, "live_runs": daemon.gateway.sessions.live_runs}
            )
            daemon.drain(config.daemon.drain_s)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # like SIGTERM: from now on it ends the process at once
    _log.info("ended")
    return OK


def _reload(daemon: Daemon, old: Config, flags: Flags) -> Config:
    """Act by the configuration as it is written now, as far as that can be done without a restart; log what was done."""
    try:
        settings = read_settings(flags)
    except PalyraError as error:
        _log.error("reload refused", extra={"faults": error.message})
        return old
    new = settings.base
    changed = [key for key in KEYS if value_of(old, key) != value_of(new, key)]
    later = [key for key in changed if key.partition(".")[0] in AT_START]
    applied = attrs.evolve(new, **{section: getattr(old, section) for section in AT_START})
    daemon.gateway.reload(applied, settings.sources.config_in)
    _log.info("reloaded", extra={"applied": [key for key in changed if key not in later], "needs_restart": later})
    return applied
