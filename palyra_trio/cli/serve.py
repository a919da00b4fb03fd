"""`palyra-trio serve`: the daemon, in the foreground, until a signal. SIGTERM drains, a second one ends, SIGHUP reloads."""

import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from palyra_trio.cli.exit_codes import FAILED, OK
from palyra_trio.cli.main import innermost
from palyra_trio.cli.open import read_settings, setup_of
from palyra_trio.cli.sd_notify import ServiceManager
from palyra_trio.cli.settings import Settings, current_folder
from palyra_trio.core.config import Config, LogFormat
from palyra_trio.core.config_values import KEYS, value_of
from palyra_trio.core.errors import ConfigInvalid, PalyraError
from palyra_trio.daemon import Daemon, calm_collector, open_daemon
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.recent_log import RecentLog
from palyra_trio.runtime.telemetry import log_crashes, set_up_logging
from palyra_trio.wire.authority import spelled

AT_START = ("model", "journal", "grpc", "quic", "http", "log", "otel")  # sections that are read once

OPEN_FILES = 8192  # of which transports.listeners gives connections their part

_log = logging.getLogger("palyra_trio.serve")


@click.command()
@click.option("--host", help="Listen on this address (grpc.host, quic.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this TCP port (grpc.port); 0 takes a free one.")
@click.option(
    "--quic-port", type=click.IntRange(0, 65535), help="Serve HTTP/3 on this UDP port (quic.port); 0 takes a free one."
)
def serve(host: str | None, port: int | None, quic_port: int | None) -> None:
    """Run the daemon in the foreground: gRPC over TCP, over HTTP/3, and over a Unix socket in the state directory; the console over HTTP.

    Says `ready` and its addresses on stdout once it takes calls; logs go to stderr or to `log.file`, and at a terminal a
    link into the console, which `palyra-trio console` opens, to stderr. SIGTERM or Ctrl-C takes no more work and gives
    live runs `daemon.drain_s` seconds; a second signal ends at once. SIGHUP reads the configuration and your policies
    again; a log file that was moved away is made anew.
    """
    flags = {"grpc.host": host, "grpc.port": port, "quic.host": host, "quic.port": quic_port}
    folder = current_folder()
    settings = read_settings(flags, folder)
    allow_open_files()
    log = settings.base.log
    redactor, recent = Redactor(), RecentLog()
    file = Path(log.file) if log.file else None
    set_up_logging(log.level, as_json=log.format is LogFormat.JSON, redactor=redactor, file=file, recent=recent)
    log_crashes()
    try:
        status = trio.run(_serve, settings, redactor, recent, lambda: read_settings(flags, folder))
    except Exception as raised:
        if isinstance(innermost(raised), PalyraError):
            raise
        _log.critical("crashed", exc_info=raised)
        status = FAILED
    sys.exit(status)


def allow_open_files() -> None:
    """Let this process open as many files as the system lets it, within reason: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _serve(settings: Settings, redactor: Redactor, recent: RecentLog, read_again: Callable[[], Settings]) -> int:
    config = settings.base
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # outside of the loop below it would end the process
    setup = attrs.evolve(setup_of(settings), redactor=redactor, origins=_origins(settings), recent_log=recent)
    manager = ServiceManager(os.environ)
    async with open_daemon(setup, tcp=True) as daemon, trio.open_nursery() as beside:
        calm_collector()
        beside.start_soon(manager.stay_alive)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            addresses = " ".join(daemon.edges.addresses)
            click.echo(f"ready {addresses}")
            if sys.stderr.isatty() and (link := daemon.console_link()):  # a log is no place for what lets its reader in
                click.echo(f"console {link} (opens once; `palyra-trio console` makes another)", err=True)
            _log.info("ready", extra={"pid": os.getpid(), **_reached(daemon)})
            manager.ready(f"serving {addresses}")
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                manager.reloading()
                config = _reload(daemon, config, read_again)
                await _reload_policies(daemon)
                manager.ready(f"serving {addresses}")
            manager.stopping()
            _log.info(
                "draining", extra={"drain_s": config.daemon.drain_s, "live_runs": daemon.gateway.sessions.live_runs}
            )
            daemon.drain(config.daemon.drain_s)
        beside.cancel_scope.cancel()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # like SIGTERM: from now on it ends the process at once
    _log.info("ended")
    return OK


def _reached(daemon: Daemon) -> dict[str, Any]:
    """Return where the daemon listens, and the fingerprint of the authority that its clients pin."""
    certificates = daemon.edges.certificates
    authority = {"authority_sha256": spelled(certificates.fingerprint)} if certificates is not None else {}
    return {"addresses": daemon.edges.addresses, **authority}


def _origins(settings: Settings) -> Mapping[str, str]:
    """Return where each value of the daemon's own configuration comes from."""
    return settings.sources.with_project(None)[1]


def _reload(daemon: Daemon, old: Config, read_again: Callable[[], Settings]) -> Config:
    """Act by the configuration as it is written now, as far as that can be done without a restart; log what was done."""
    try:
        settings = read_again()
    except PalyraError as error:
        _log.error("reload refused", extra={"faults": error.message})
        return old
    new = settings.base
    changed = [key for key in KEYS if value_of(old, key) != value_of(new, key)]
    later = [key for key in changed if key.partition(".")[0] in AT_START]
    applied = attrs.evolve(new, **{section: getattr(old, section) for section in AT_START})
    daemon.gateway.reload(applied, settings.sources.config_in, _origins(settings))
    _log.info("reloaded", extra={"applied": [key for key in changed if key not in later], "needs_restart": later})
    return applied


async def _reload_policies(daemon: Daemon) -> None:
    """Put the user's policies in force as they are written now; log what was done. A fault leaves the old ones in force."""
    policies = daemon.gateway.policies
    try:
        changed = await policies.reload("SIGHUP")
    except ConfigInvalid as error:
        _log.error("policies refused", extra={"faults": error.message, "policy_hash": policies.hash})
        return
    files = [each.name for each in policies.files]
    _log.info("policies reloaded", extra={"changed": changed, "policy_hash": policies.hash, "files": files})
