"""`palyra-trio config`: what is configured, whether it is right, and what could be."""

import json
import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from palyra_trio.cli.settings import Settings


@click.group()
def config() -> None:
    """Check and show the configuration.

    A flag overrides a PALYRA_SECTION__KEY variable, that the project's palyra.toml, that your config.toml.
    """


@config.command()
def check() -> None:
    """Report every fault of the files and variables that apply here (exit status 78 if there is one)."""
    from palyra_trio.core.text import visible

    files = visible(", ".join(_load().files))
    click.echo(f"the configuration is right: {files or 'no file was found'}")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def show(as_json: bool) -> None:
    """Show each value and where it comes from. Of credentials only whether they are set."""
    import attrs

    from palyra_trio.core.config_values import KEYS, value_of
    from palyra_trio.core.text import visible

    settings = _load()
    values = {key: value_of(settings.config, key) for key in KEYS}
    present = {name.upper(): bool(value) for name, value in attrs.asdict(settings.credentials).items()}
    if as_json:
        shown = {key: {"value": value, "origin": settings.origins[key]} for key, value in values.items()}
        report = {"values": shown, "credentials": present, "state_dir": str(settings.state_dir)}
        click.echo(json.dumps(report, indent=2))
        return
    for key, value in values.items():
        click.echo(f"{key} = {json.dumps(value)}  # {visible(settings.origins[key])}")
    click.echo(f"# state: {visible(str(settings.state_dir))}")
    for name, is_set in present.items():
        click.echo(f"# {name}: {'set' if is_set else 'not set'}")


@config.command()
def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors."""
    from palyra_trio.core.config_values import schema

    click.echo(json.dumps(schema(), indent=2))


def _load() -> "Settings":
    from palyra_trio.cli.settings import current_folder, load_settings

    settings = load_settings({}, os.environ, current_folder())
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    return settings
