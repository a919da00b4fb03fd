"""`palyra-trio doctor`: what is wrong with this installation, or will be, the exact remedy, and, when told to, the mending.

A look changes nothing: it takes no lock, makes no folder, and asks no model for an answer. A mend does what is safe
whoever runs meanwhile, or holds the state folder for it; the rest it leaves, and says why. It never deletes data, and
never writes policies or configuration: those are a person's to change.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import attrs
import click

from palyra_trio.cli import exit_codes
from palyra_trio.cli.doctor_certificate import certificate, mend_certificate
from palyra_trio.cli.doctor_ports import addresses, ports
from palyra_trio.cli.doctor_settings import configured, model, policies, provider, sandbox, vault
from palyra_trio.cli.doctor_state import (
    Line,
    folders,
    given_keys,
    holder,
    leave_given_keys,
    log_file,
    mend_folders,
    mend_private_files,
    mend_socket,
    mend_state_folder,
    private_files,
    private_places,
    socket_left,
)
from palyra_trio.cli.open import is_held, state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.settings import POLICIES, user_file
from palyra_trio.cli.tables import json_option, print_json
from palyra_trio.cli.vault_place import vault_store
from palyra_trio.core.config import Config
from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.diagnosis import Check, clock, disk, journal, python, rows, sqlite, state_folder

Mend = Callable[[], Iterable[Line]]


@attrs.frozen
class Found:
    """A check, after what was done about it."""

    check: Check
    lines: tuple[Line, ...] = ()


@click.command()
@click.option(
    "--fix", is_flag=True, help="Mend what can be mended safely; say what was done, and what was left and why."
)
@json_option
def doctor(fix: bool, as_json: bool) -> None:
    """Find out what is wrong here, and what to do about it. Exit status 1 when there is a fault, with --fix one that is left.

    A warning is something that works, and could work better. Without --fix nothing is changed. The server of the model is
    asked which models it has, and no model for an answer.

    --fix gives keys, tokens, certificates, records and the folders they are in back to you alone (0600, 0700), makes folders
    that are missing, removes a socket that nobody answers at, and replaces the daemon's own certificate when it is due.
    What a running daemon needs is left to it. No data is deleted; policies and configuration are not touched; nor is what is
    a link, belongs to somebody else, or has a second name.
    """
    if chosen() is not None:
        raise InvalidArgument("the doctor looks at this machine", remedy="leave out --daemon")
    found = list(_examine(fix))
    faults = sum(each.check.health == "fault" for each in found)
    if as_json:
        print_json({"ok": not faults, "checks": [_as_object(each) for each in found]})
    else:
        for each in found:
            _show(each)
        click.echo("no fault" if not faults else f"{faults} fault{'s' if faults > 1 else ''}", err=True)
    sys.exit(exit_codes.FAILED if faults else exit_codes.OK)


def _as_object(found: Found) -> dict[str, object]:
    check = found.check
    return {
        "name": check.name,
        "health": check.health,
        "what": check.said,
        "remedy": check.remedy,
        "fixed": [each.said for each in found.lines if each.done],
        "left": [each.said for each in found.lines if not each.done],
    }


def _show(found: Found) -> None:
    check = found.check
    click.echo(f"{check.health:8} {check.name:14} {one_line(check.said)}")
    for line in found.lines:
        click.echo(f"{'':24}{'fixed' if line.done else 'left '} {one_line(line.said)}")
    for text in check.remedy.splitlines():
        click.echo(f"{'':24}{visible(text)}")


def _examine(fix: bool) -> Iterator[Found]:
    def found(look: Callable[[], Check], mend: Mend) -> Found:
        """Look, and, where that is not well and it is asked for, mend and look again."""
        check = look()
        if not fix or check.health == "ok":
            return Found(check)
        lines = _mended(mend)
        return Found(look() if any(each.done for each in lines) else check, lines)

    folder, own = state_dir(), user_file(os.environ).parent
    configuration, settings = configured()
    config = settings.base if settings is not None else Config()
    yield Found(python())
    yield Found(sqlite())
    yield Found(configuration)
    if settings is not None:
        yield found(partial(folders, config), partial(mend_folders, config))
        yield Found(log_file(config))
        yield found(partial(given_keys, config), leave_given_keys)
    lines = _mended(partial(mend_state_folder, folder)) if fix else ()
    usable = state_folder(folder)
    yield Found(usable, lines)
    if usable.health != "fault":
        yield Found(disk(folder, config.journal.min_free_bytes))
        places = private_places(folder, own, vault_store().places.runtime_dir, config.log.file)
        yield found(partial(private_files, places), partial(mend_private_files, places))
        lock = holder(folder)
        yield Found(lock)
        if lock.health != "fault":
            held, served = is_held(folder), addresses(folder)
            yield found(partial(socket_left, folder, served is not None), partial(mend_socket, folder))
            if settings is not None:
                yield Found(ports(config, held, served))
                leaf = partial(certificate, folder, config, held, time.time())
                yield found(leaf, partial(mend_certificate, folder))
        yield from map(Found, _of_journal(folder / FILE_NAME))
    yield Found(policies(own / POLICIES, config))
    yield Found(vault())
    if settings is not None:
        yield Found(model(settings))
        if (server := provider(settings)) is not None:
            yield Found(server)
        yield Found(sandbox(settings.base))


def _of_journal(path: Path) -> Iterator[Check]:
    sound = journal(path)
    yield sound
    if sound.health != "fault" and path.exists():
        yield rows(path)
        yield clock(path, time.time_ns() // 1_000_000)


def _mended(mend: Mend) -> tuple[Line, ...]:
    """Return what a mend did, and what it could not."""
    lines = []
    try:
        for line in mend():
            lines.append(line)
    except (PalyraError, OSError) as error:
        lines.append(Line(str(error), done=False))
    return tuple(lines)
