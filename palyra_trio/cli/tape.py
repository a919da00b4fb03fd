"""`palyra-trio tape`: a run's tape as a person reads it, an event a line, or as a program does (`--jsonl`).

What each kind of event says is in `core.event_words`. Nothing is left out of `--jsonl`.
"""

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime

import click

from palyra_trio.cli.open import INTERRUPTED, is_held, principal, reading, state_dir
from palyra_trio.core import tape as events
from palyra_trio.core.codec import KIND_NAMES, TapeRow, json_line
from palyra_trio.core.errors import OffsetAhead
from palyra_trio.core.event_words import words
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import run_stream
from palyra_trio.core.words import one_line
from palyra_trio.journal.queries import RunSummary, Tapes

WORDS_CHARACTERS = 200


@click.command()
@click.argument("run")
@click.option("--jsonl", is_flag=True, help="Whole events, one JSON object a line.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only events after this one.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    type=click.Choice(list(KIND_NAMES.values()), case_sensitive=False),
    help="Only events of this kind, such as ToolFinished; repeat for several.",
)
@click.option("--follow", is_flag=True, help="Go on with what is still to come, until the run has ended.")
def tape(run: str, jsonl: bool, after: int, kinds: tuple[str, ...], follow: bool) -> None:
    """Show what happened in RUN, event by event, in order.

    RUN is an id, the unique beginning of one, or `last`. Without `--jsonl` long texts are cut, and the pieces in
    which an answer arrived are one line. Ctrl-C ends `--follow`; the run goes on.
    """

    def show(rows: Iterable[TapeRow]) -> None:
        wanted = (row for row in rows if not kinds or KIND_NAMES.get(row.kind) in kinds)
        here = sys.stdout.isatty()
        lines = (json_line(row, ascii_only=here) for row in wanted) if jsonl else readable(wanted)
        for line in lines:
            click.echo(line)

    with reading() as reader:
        found = reader.find_run(run, principal())
        live = follow and found.state not in TERMINAL and is_held(state_dir())
        rows = () if live else rows_after(reader, found, after)
        if not jsonl:
            began = datetime.fromtimestamp(found.created_ms / 1000).astimezone()
            click.echo(f"run {found.run_id} of session {found.session_id}, {began:%Y-%m-%d %z}", err=True)
        show(rows)
    if live:
        from palyra_trio.cli.door import watch  # brings Trio and the wire, which reading does without

        watch(found.run_id, after, show)
    elif follow and found.state not in TERMINAL:
        click.echo(f"run {found.run_id} is {INTERRUPTED}: nobody runs it now", err=True)


def rows_after(reader: Tapes, run: RunSummary, after: int) -> Iterator[TapeRow]:
    """Return a run's rows after `after`, in order. Raises OffsetAhead when it has fewer."""
    stream = run_stream(run.run_id)
    last = reader.last_seq(stream)
    if after > last:
        raise OffsetAhead(f"run {run.run_id} has {last} rows, not {after}", remedy=f"pass --after {last} or less")
    return _pages(reader, stream, after)


def _pages(reader: Tapes, stream: str, after: int) -> Iterator[TapeRow]:
    while page := reader.page(stream, after):
        yield from page
        after = page[-1].seq


def readable(rows: Iterable[TapeRow]) -> Iterator[str]:
    """Yield a line for each row: seq, local time, kind, and what matters of it. Deltas that follow one another are one."""
    pieces: _Pieces | None = None
    for row in rows:
        event = row.event()
        if isinstance(event, events.ModelDelta) and pieces and pieces.turn == event.turn:
            pieces.add(row, event)
            continue
        if pieces:
            yield pieces.line()
        if isinstance(event, events.ModelDelta):
            pieces = _Pieces(row, event)
        else:
            pieces = None
            yield _line(str(row.seq), row, one_line(words(row, event), WORDS_CHARACTERS))
    if pieces:
        yield pieces.line()


class _Pieces:
    """Deltas of a turn that follow one another: where they began and end, and the beginning of their text."""

    def __init__(self, row: TapeRow, event: events.ModelDelta) -> None:
        self.turn = event.turn
        self._first = row
        self._last_seq = row.seq
        self._text = event.text[:WORDS_CHARACTERS]

    def add(self, row: TapeRow, event: events.ModelDelta) -> None:
        self._last_seq = row.seq
        self._text = (self._text + event.text)[:WORDS_CHARACTERS]

    def line(self) -> str:
        seqs = str(self._last_seq) if self._last_seq == self._first.seq else f"{self._first.seq}-{self._last_seq}"
        return _line(seqs, self._first, one_line(f"turn {self.turn}: {self._text}", WORDS_CHARACTERS))


def _line(seqs: str, row: TapeRow, said: str) -> str:
    at = datetime.fromtimestamp(row.at_ms / 1000).strftime("%H:%M:%S.%f")[:-3]
    return f"{seqs:>9}  {at}  {KIND_NAMES.get(row.kind, str(row.kind)):18} {said}".rstrip()
