"""`palyra-trio service`: run the daemon under systemd, as a service of this user's or of the system."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import click

from palyra_trio.cli.open import read_settings
from palyra_trio.cli.service_unit import unit_text
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound

NAME = "palyra-trio.service"
SYSTEM_FOLDER = Path("/etc/systemd/system")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RUNS_HERE = Path("/run/systemd/system")  # sd_booted(3)


@click.group()
def service() -> None:
    """Install, show and remove the systemd service of the daemon."""


_user_option = click.option("--user/--system", "own", default=os.geteuid() != 0, help="Of yours, or of the system's.")


@service.command()
@_user_option
@click.option("--as", "run_as", metavar="USER", help="With --system: whom the daemon runs as.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit, and do nothing.")
@click.option("--no-start", is_flag=True, help="Do not enable and start it.")
def install(own: bool, run_as: str | None, only_print: bool, no_start: bool) -> None:
    """Write the unit, and enable and start it. One that is there is replaced.

    The daemon's programs run in the same sandbox tier as when you start it by hand. A service of yours ends when you log
    out, unless `loginctl enable-linger` lets it stay.
    """
    text = _unit(own, run_as)
    if only_print:
        click.echo(text, nl=False)
        return
    path = _folder(own) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise ConfigInvalid(
            f"{path} cannot be written: {error.strerror}", remedy="--user installs it for you alone"
        ) from error
    click.echo(f"wrote {path}")
    commands = [["daemon-reload"]] if no_start else [["daemon-reload"], ["enable", "--now", NAME]]
    _systemctl(own, commands)


@service.command()
@_user_option
def uninstall(own: bool) -> None:
    """Stop the service, and remove the unit. What the daemon recorded stays."""
    path = _folder(own) / NAME
    if not path.exists():
        raise NotFound(f"there is no {path}", remedy="`palyra-trio service install` makes it")
    _systemctl(own, [["disable", "--now", NAME]])
    path.unlink()
    click.echo(f"removed {path}")
    _systemctl(own, [["daemon-reload"]])


def _unit(own: bool, run_as: str | None) -> str:
    if own and run_as:
        raise InvalidArgument("--as goes with --system: a service of yours runs as you")
    if not own:
        if not run_as:
            raise InvalidArgument("whom is the daemon to run as?", remedy="--as USER; as root it would run no programs")
        try:
            uid = pwd.getpwnam(run_as).pw_uid
        except KeyError:
            raise InvalidArgument(
                f"there is no user {run_as!r}", remedy=f"useradd --system --create-home {run_as}"
            ) from None
        if uid == 0:
            raise InvalidArgument("as root the daemon would run no programs", remedy="--as another user")
    command = (sys.executable, "-P", "-m", "palyra_trio", "serve")
    path = os.environ.get("PATH", SYSTEM_PATH) if own else SYSTEM_PATH
    try:
        return unit_text(command, read_settings().base.daemon.drain_s, run_as=run_as or "", path=path)
    except ValueError as error:
        raise ConfigInvalid(str(error), remedy="install palyra-trio elsewhere, or set another PATH") from error


def _folder(own: bool) -> Path:
    if not own:
        return SYSTEM_FOLDER
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _systemctl(own: bool, commands: list[list[str]]) -> None:
    """Run systemctl, or say what is to be run where systemd does not. Raises ConfigInvalid when it fails."""
    program = ["systemctl", *(["--user"] if own else [])]
    if shutil.which("systemctl") is None or not _RUNS_HERE.is_dir():
        click.echo("systemd does not run here; where it does:", err=True)
        for each in commands:
            click.echo(f"  {' '.join([*program, *each])}", err=True)
        return
    for each in commands:
        done = subprocess.run([*program, *each], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip() or f"exit status {done.returncode}"
            raise ConfigInvalid(f"{' '.join([*program, *each])} failed: {said}")
        click.echo(f"ran {' '.join([*program, *each])}", err=True)
