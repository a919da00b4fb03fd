"""`palyra-trio doctor`: what is wrong with this installation, or will be, and the exact remedy.

Looks only, and changes nothing: it takes no lock, makes no folder, and asks no model. What it starts are the canaries
that try to get out of the sandbox.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import trio

from palyra_trio.cli import exit_codes
from palyra_trio.cli.open import is_held, model_settings, state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.settings import POLICIES, Settings, current_folder, load_settings, user_file
from palyra_trio.cli.tables import json_option, print_json
from palyra_trio.cli.vault_place import vault_store
from palyra_trio.core.config import Config
from palyra_trio.core.errors import InvalidArgument, PalyraError
from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line
from palyra_trio.guard.auth import user_principal
from palyra_trio.guard.policy_files import read_policy_files
from palyra_trio.guard.redactor import Redactor
from palyra_trio.guard.secret_refs import References
from palyra_trio.guard.vault_keeper import VaultKeeper
from palyra_trio.journal.store import FILE_NAME, LOCK_NAME
from palyra_trio.providers.choose import route
from palyra_trio.runtime.diagnosis import Check, journal, python, refused, sandbox_check, sqlite, state_folder


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Find out what is wrong here, and what to do about it. Exit status 1 when there is a fault.

    A warning is something that works, and could work better. Nothing is changed, and nothing is asked of a model.
    """
    if chosen() is not None:
        raise InvalidArgument("the doctor looks at this machine", remedy="leave out --daemon")
    checks = list(_examine())
    faults = sum(each.health == "fault" for each in checks)
    if as_json:
        print_json({"ok": not faults, "checks": [attrs.asdict(each) for each in checks]})
    else:
        for each in checks:
            click.echo(f"{each.health:8} {each.name:14} {one_line(each.said)}")
            for line in each.remedy.splitlines():
                click.echo(f"{'':24}{visible(line)}")
        click.echo("no fault" if not faults else f"{faults} fault{'s' if faults > 1 else ''}", err=True)
    sys.exit(exit_codes.FAILED if faults else exit_codes.OK)


def _examine() -> Iterator[Check]:
    yield python()
    yield sqlite()
    configuration, settings = configured()
    config = settings.config if settings is not None else Config()
    found = state_folder(state_dir(), config.journal.min_free_bytes)
    yield found
    if found.health != "fault":
        yield holder(state_dir())
        yield journal(state_dir() / FILE_NAME)
    yield configuration
    yield policies(user_file(os.environ).with_name(POLICIES), config)
    yield vault()
    if settings is not None:
        yield model(settings)
        yield sandbox(settings.base)


def holder(folder: Path) -> Check:
    try:
        if not is_held(folder):
            return Check("lock", "ok", "no process holds the state folder")
        return Check("lock", "ok", f"process {(folder / LOCK_NAME).read_text().strip()} holds the state folder")
    except OSError as error:
        return Check(
            "lock", "fault", f"{folder / LOCK_NAME}: {error.strerror}", f"chown {os.geteuid()} {folder / LOCK_NAME}"
        )


def configured() -> tuple[Check, Settings | None]:
    try:
        settings = load_settings({}, os.environ, current_folder())
    except PalyraError as error:
        return refused("configuration", error), None
    said = ", ".join(settings.files) or "no file was found"
    if settings.warnings:
        remedy = "palyra-trio trust shows the folder's file, and accepts it"
        return Check("configuration", "warning", "; ".join(settings.warnings), remedy), settings
    return Check("configuration", "ok", said), settings


def policies(folder: Path, config: Config) -> Check:
    from palyra_trio.runtime.policies import check_set

    try:
        files = read_policy_files(folder)
        trio.run(check_set, files, config.policy)
    except PalyraError as error:
        return refused("policies", error)
    return Check("policies", "ok", f"preset {config.policy.preset}, {len(files)} of your files in {folder}")


def model(settings: Settings) -> Check:
    """Say which model would answer, and look its key up; nobody is asked for anything."""
    try:
        own, here = model_settings(settings), settings.config.model
        found = route(attrs.evolve(own, model=here.name, openai_base_url=here.base_url or own.openai_base_url))
        if found.api_key_reference:
            keeper = VaultKeeper(vault_store(), Redactor())
            keeper.refresh()
            user = user_principal(os.getuid())
            References(dict(os.environ), lambda name: keeper.value(user, name)).resolve(found.api_key_reference)
    except PalyraError as error:
        return refused("model", error)
    if found.provider == "offline":
        remedy = "set OPENAI_API_KEY, OPENAI_BASE_URL or OLLAMA_HOST for a model that understands"
        return Check("model", "warning", f"{found.provider}/{found.model} answers: {found.why}", remedy)
    return Check("model", "ok", f"{found.provider}/{found.model or '(what the server lists)'} answers: {found.why}")


def vault() -> Check:
    store = vault_store()
    try:
        file = store.read()
    except PalyraError as error:
        return refused("vault", error)
    if file is None:
        return Check("vault", "ok", "there is none; palyra-trio secrets set NAME makes one")
    try:
        store.open()
    except PalyraError as error:
        return attrs.evolve(refused("vault", error), health="warning", said=f"it is locked: {error.message}")
    return Check("vault", "ok", "it can be opened")


def sandbox(config: Config) -> Check:
    """Let the canaries loose as the daemon does at its start, and say in which tier programs run."""
    try:
        in_force, *missing = trio.run(_sandbox_lines, config)
    except PalyraError as error:
        return refused("sandbox", error)
    return sandbox_check(in_force, missing)


async def _sandbox_lines(config: Config) -> tuple[str, ...]:
    from palyra_trio.daemon import sandbox_settings
    from palyra_trio.tools import overlay
    from palyra_trio.tools.sandbox import open_sandbox

    folders = overlay.places(state_dir())
    async with open_sandbox(sandbox_settings(config.sandbox), Path.home(), layers_in=folders) as opened:
        lines = opened.report.lines()
        if opened.tier == 4 and isinstance(opened.layers, str):
            lines += (
                f"what programs do to files is not captured: {opened.layers}",
                "  pip install 'palyra-trio[sandbox]'",
            )
        return lines
