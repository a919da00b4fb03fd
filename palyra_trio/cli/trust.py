"""`palyra-trio trust`: accept a project's palyra.toml after having seen it, list what was accepted, take it back."""

import os
import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Accept without asking (the file is shown all the same).")
@click.option("--list", "list_them", is_flag=True, help="List the accepted files.")
@click.option("--remove", is_flag=True, help="Accept DIR's file no longer.")
def trust(folder: Path | None, yes: bool, list_them: bool, remove: bool) -> None:
    """Accept the palyra.toml of DIR (the current folder if not given), as it is now.

    Until then such a file may only narrow what an agent may do. When its content changes it must be accepted again.
    """
    if list_them + remove + yes > 1 or (list_them and folder):
        raise click.UsageError("--list, --remove and --yes exclude each other, and --list takes no DIR")
    if list_them:
        _list()
    elif remove:
        _remove(folder or Path())
    else:
        _accept(folder or Path(), yes)


def _accept(folder: Path, yes: bool) -> None:
    from palyra_trio.cli.settings import (
        PROJECT_FILE,
        current_folder,
        find_state_dir,
        read_project_file,
        set_trust,
        widenings,
    )
    from palyra_trio.core.errors import InvalidArgument, NotFound, PolicyError
    from palyra_trio.core.text import visible

    project = read_project_file(folder)
    if project is None:
        raise NotFound(f"{visible(str(folder))} has no {PROJECT_FILE}")
    name = visible(str(project.path))
    if project.unsafe:
        raise PolicyError(f"{name} cannot be trusted: {project.unsafe}")
    click.echo(f"{name}:\n", err=True)
    click.echo(visible(project.text), err=True)
    wider = widenings(project, os.environ)
    click.echo("What it may do only when trusted:" if wider else "It only narrows, so it needs no trust.", err=True)
    for line in wider:
        click.echo(f"  {visible(line)}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidArgument("there is no terminal to ask at", remedy="look at the file, then pass --yes")
        if not click.confirm("Trust this file with exactly this content?", err=True):
            raise click.exceptions.Exit(1)
    set_trust(find_state_dir(os.environ, current_folder()), project.path, project.digest)
    click.echo(f"trusted {name} {project.digest}")


def _list() -> None:
    from palyra_trio.cli.settings import current_folder, find_state_dir, trust_state, trusted_files
    from palyra_trio.core.text import visible

    for path, digest in sorted(trusted_files(find_state_dir(os.environ, current_folder())).items()):
        click.echo(f"{digest}  {trust_state(Path(path), digest):8}  {visible(path)}")


def _remove(folder: Path) -> None:
    from palyra_trio.cli.settings import PROJECT_FILE, current_folder, find_project_file, find_state_dir, set_trust
    from palyra_trio.core.errors import NotFound
    from palyra_trio.core.text import visible

    path = find_project_file(folder) or folder.resolve() / PROJECT_FILE
    if not set_trust(find_state_dir(os.environ, current_folder()), path, None):
        raise NotFound(f"{visible(str(path))} was not trusted", remedy="palyra-trio trust --list shows those that are")
    click.echo(f"trusted no longer: {visible(str(path))}")
