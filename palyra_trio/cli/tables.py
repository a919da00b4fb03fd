"""What a listing looks like: columns for a person, tab-separated lines for a pipe, one JSON object for a program.

Text that came from a model or a file is made visible before a terminal gets it. Nothing here reads the journal.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from palyra_trio.core.text import visible
from palyra_trio.core.words import one_line

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")


def print_json(value: Any) -> None:
    """Print one JSON object on one line. `value` is made of what JSON knows. To a terminal it goes in ASCII, which hides
    nothing.
    """
    click.echo(json.dumps(value, ensure_ascii=sys.stdout.isatty(), separators=(",", ":")))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under the names of their columns, if there are any: on a terminal aligned, else separated by tabs.

    Only the last column is cut where the terminal is narrow: an id that was cut is no id.
    """
    if not rows:
        return
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *cells):
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])  # rich narrows only columns that it may wrap
    for row in cells:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    Console().print(table)


def print_newest(columns: Sequence[str], rows: Sequence[Sequence[str]], most: int, nothing: str) -> None:
    """Print the newest rows of a list: that there is `nothing` where there are none, and that there may be more than `most`."""
    print_table(columns, rows)
    if not rows:
        click.echo(nothing, err=True)
    if len(rows) == most:
        click.echo(f"these are the newest {most}", err=True)


def safe_for_stdout(text: str) -> str:
    """Return `text` as it is for a pipe, and with nothing hidden for a terminal."""
    return visible(text) if sys.stdout.isatty() else text
