"""`palyra-trio journal`: proof that a journal file still says what was written, and erasing what should not be in it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from palyra_trio.cli import exit_codes
from palyra_trio.cli.open import confirm, is_held, principal, reading, state_dir
from palyra_trio.cli.profiles import chosen
from palyra_trio.cli.tables import json_option, print_json
from palyra_trio.core.errors import InvalidArgument, NoDaemon
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.words import one_line
from palyra_trio.journal.check import check_file
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import FILE_NAME

if TYPE_CHECKING:
    from palyra_trio.runtime.erasing import Erased


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
    `session:ID/SEQ`. A row that holds it loses its whole body, in other spellings and other runs too. A daemon goes on
    serving meanwhile; a run that has not ended and depends on it must be cancelled first. A secret that leaked is still
    to be revoked where it was issued.
    """
    tape, _, seq = place.rpartition("/")
    if not tape or not seq.isdecimal():
        raise InvalidArgument(f"{place!r} is no place on a tape", remedy="write RUN/SEQ, such as last/12")
    part = _leaked() if from_stdin else ""
    confirm("Erase it from every event and file of the journal? This cannot be undone.", yes)
    erased = _erase(tape, int(seq), field, part, reason)
    done = erased.done
    if as_json:
        print_json({**attrs.asdict(done), "left_in": erased.left_in})
    elif not erased.again:
        click.echo(f"erased {done.rows} events and {done.blobs} blobs")
        if done.copies:
            click.echo(f"deleted {', '.join(map(one_line, done.copies))}")
    if erased.again:
        click.echo("it was erased already; the journal was written anew without it", err=as_json)
    for name in erased.left_in:
        click.echo(f"error: {one_line(name)} still holds it", err=True)
    if erased.left_in:
        raise click.exceptions.Exit(exit_codes.FAILED)


def _leaked() -> str:
    try:
        value = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise InvalidArgument("what stands on a tape is text in UTF-8") from None
    if not value:
        raise InvalidArgument("nothing came on standard input", remedy="write the value to it")
    return value


def _erase(tape: str, seq: int, field: str, part: str, reason: str) -> "Erased":
    """Erase by the process that holds the journal, or in this one where none does. Raises what either refuses."""
    from palyra_trio.runtime.erasing import Leak, erase_offline, place_of

    folder = state_dir()
    if is_held(folder):
        import trio

        try:
            return trio.run(_erase_there, folder, tape, seq, field, part, reason)
        except NoDaemon:
            if chosen() is not None:
                raise  # whoever holds a folder of this machine and does not serve is named by the lock
    context = RequestContext(principal())
    with reading() as reader:
        assert isinstance(reader, Reader)
        place = place_of(reader, tape, seq, field, context)
    return erase_offline(folder, Leak(place, part, context.principal, reason))


async def _erase_there(folder: Path, tape: str, seq: int, field: str, part: str, reason: str) -> "Erased":
    from palyra_trio.cli.door import open_remote_door
    from palyra_trio.journal.erasure import Erasure
    from palyra_trio.pb import journal_pb2 as pb
    from palyra_trio.pb.journal_grpc import JournalServiceStub
    from palyra_trio.runtime.erasing import Erased

    request = pb.EraseValueRequest(tape=tape, seq=seq, field=field, part=part, reason=reason)
    async with open_remote_door(folder) as (there, _):
        found = await there.service_call(JournalServiceStub, "EraseValue", request)
    return Erased(Erasure(found.rows, found.blobs, tuple(found.copies)), tuple(found.left_in), found.again)
