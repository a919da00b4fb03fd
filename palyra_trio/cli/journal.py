"""`palyra-trio journal`: proof that a journal file still says what was written, and erasing what should not be in it."""

import mmap
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import click

from palyra_trio.cli import exit_codes
from palyra_trio.cli.open import confirm, principal, reading, state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.tables import json_option, one_line, print_json
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.tape import SESSION_STREAM, SYSTEM_STREAM, run_stream
from palyra_trio.journal.check import check_file
from palyra_trio.journal.erasure import Place, erase, rebuild, text_at
from palyra_trio.journal.store import FILE_NAME

LEAST_CHARACTERS = 8  # of a value that is erased: a shorter one stands in rows that have nothing to do with it
_PART_CHARACTERS = 16


@click.group()
def journal() -> None:
    """Verify a journal file, and erase a leaked value from it."""


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


@journal.command()
@click.argument("place", metavar="RUN/SEQ")
@click.argument("field")
@click.option("--stdin", "from_stdin", is_flag=True, help="Only a part of FIELD leaked: read it from standard input.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def redact(place: str, field: str, from_stdin: bool, reason: str, yes: bool, as_json: bool) -> None:
    """Erase a value that leaked, from every row and blob that holds it. The journal still verifies.

    It stands in FIELD (such as `text` or `call.arguments.url`) of event SEQ of RUN; for other tapes say `system/SEQ` or
    `session:ID/SEQ`. A row that holds it loses its whole body, in other spellings and other runs too. No process may be
    running in the state directory. A secret that leaked is still to be revoked where it was issued.
    """
    from palyra_trio.guard.redact_known import encodings

    if chosen() is not None:
        raise InvalidArgument("a journal is erased from on its own machine", remedy="leave out --daemon")
    folder, where = state_dir(), _place(place, field)
    value = text_at(folder, where)
    if value is None:
        rebuild(folder)
        click.echo("it was erased already; the journal was written anew without it", err=as_json)
        if as_json:
            print_json({"rows": 0, "blobs": 0, "copies": [], "left_in": []})
        return
    if from_stdin:
        value, in_field = _leaked(), value
        if not any(each.decode() in in_field for each in encodings(value)):
            raise InvalidArgument(
                f"what you passed does not stand in {field}", remedy="look at RUN/SEQ and FIELD again"
            )
    if len(value) < LEAST_CHARACTERS:
        raise InvalidArgument(
            f"it has {len(value)} characters, and would be found in too much", remedy="pass a longer part"
        )
    confirm("Erase it from every event and file of the journal? This cannot be undone.", yes)
    texts = [each.decode() for each in dict.fromkeys(encodings(value))]
    parts = _parts(value) if from_stdin else []
    done = erase(folder, where, texts, principal(), reason, time.time_ns() // 1_000_000, parts=parts)
    left = _still_in(folder, texts)
    if as_json:
        print_json({**attrs.asdict(done), "left_in": left})
    else:
        click.echo(f"erased {done.rows} events and {done.blobs} blobs")
        if done.copies:
            click.echo(f"deleted {', '.join(done.copies)}")
    for name in left:
        click.echo(f"error: {one_line(name)} still holds it", err=True)
    if left:
        raise click.exceptions.Exit(exit_codes.FAILED)


def _place(text: str, field: str) -> Place:
    tape, _, seq = text.rpartition("/")
    if not tape or not seq.isdecimal():
        raise InvalidArgument(f"{text!r} is no place on a tape", remedy="write RUN/SEQ, such as last/12")
    if tape != SYSTEM_STREAM and not tape.startswith(SESSION_STREAM):
        with reading() as reader:
            tape = run_stream(reader.find_run(tape, principal()).run_id)
    return Place(tape, int(seq), field)


def _leaked() -> str:
    try:
        return sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise InvalidArgument("what stands on a tape is text in UTF-8") from None


def _parts(value: str) -> Sequence[str]:
    """Return what of a value may stand where it was cut, at the edges of an excerpt."""
    return [value[:_PART_CHARACTERS], value[-_PART_CHARACTERS:]] if len(value) > _PART_CHARACTERS else []


def _still_in(folder: Path, texts: Sequence[str]) -> list[str]:
    """Return the files of the state directory, beneath it, that hold one of the texts."""
    wanted = [each.encode() for each in texts]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if path.stat().st_size and _holds(path, wanted)]


def _holds(path: Path, wanted: Sequence[bytes]) -> bool:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(each) >= 0 for each in wanted)
