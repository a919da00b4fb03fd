"""`palyra-trio journal`: proof that a journal file still says what was written. Needs the file alone."""

from pathlib import Path

import attrs
import click

from palyra_trio.cli import exit_codes
from palyra_trio.cli.open import state_dir
from palyra_trio.cli.tables import json_option, one_line, print_json
from palyra_trio.journal.check import check_file
from palyra_trio.journal.store import FILE_NAME


@click.group()
def journal() -> None:
    """Verify a journal file."""


@journal.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def verify(file: Path | None, as_json: bool) -> None:
    """Check every row and blob of the journal FILE (this machine's, if not given) against its hash chain.

    Exit status 1 when something is not what was written. Rows that were cut off the end leave no trace in what
    remains: note `rows` and `head` somewhere else, and compare.
    """
    path = file or state_dir() / FILE_NAME
    report = check_file(path)
    if as_json:
        print_json({"file": str(path), "ok": not report.faults, **attrs.asdict(report)})
    else:
        click.echo(f"file    {one_line(str(path))}")
        click.echo(f"rows    {report.rows}{f' ({report.erased} erased)' if report.erased else ''}")
        click.echo(f"head    {report.head}")
        click.echo(f"blobs   {report.blobs}")
        for fault in report.faults:
            click.echo(f"FAULT   {one_line(fault)}")
        if not report.faults:
            click.echo("every row is what was written")
    for note in report.notes:
        click.echo(f"note: {one_line(note)}", err=True)
    if report.faults:
        raise click.exceptions.Exit(exit_codes.FAILED)
