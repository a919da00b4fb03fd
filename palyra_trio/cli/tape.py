"""`palyra-trio tape`: a run's tape as a person reads it, an event a line, or as a program does (`--jsonl`).

What each kind of event says in one line is a table of small functions. Nothing is left out of `--jsonl`.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import click

from palyra_trio.cli.display import json_line
from palyra_trio.cli.open import INTERRUPTED, is_held, principal, reading, state_dir
from palyra_trio.cli.tables import one_line
from palyra_trio.core import tape as events
from palyra_trio.core.codec import KIND_NAMES, TapeRow
from palyra_trio.core.errors import OffsetAhead
from palyra_trio.core.run import TERMINAL
from palyra_trio.core.tape import TapeEvent, run_stream
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


def words(row: TapeRow, event: TapeEvent | None) -> str:
    """Return what an event says, in a few words."""
    if event is None:
        return "(erased)" if row.body is None else "(a kind that this version does not know; --jsonl shows it)"
    return _WORDS[type(event)](event)


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _input(event: events.Input) -> str:
    files = f" with {', '.join(each.name for each in event.attachments)}" if event.attachments else ""
    return f"{event.principal} over {event.channel}, agent {event.agent.name}{files}: {event.text}"


def _request(event: events.ProviderRequest) -> str:
    return f"turn {event.turn}: {event.kept + len(event.added)} messages, {len(event.added)} of them new"


def _model_turn(event: events.ModelTurn) -> str:
    used = f"{event.usage.input_tokens} tokens in, {event.usage.output_tokens} out"
    text = f": {event.text}" if event.text else ""
    return f"turn {event.turn}{_because(event.model)}: {event.finish}, {event.calls} calls, {used}{text}"


def _proposed(event: events.ToolProposed) -> str:
    arguments = event.call.malformed or json.dumps(event.call.arguments, ensure_ascii=False)
    return f"{event.call.call_id}: {event.call.tool} {arguments}"


def _decided(event: events.ApprovalDecided) -> str:
    length = {"once": "", "session": " for the session", "time": " for a time"}[event.scope]
    return f"{event.call_id}: {event.outcome}{length} by {event.by}{_because(event.reason)}"


def _started(event: events.ToolStarted) -> str:
    changes = f"; changes {', '.join(change.path for change in event.changes)}" if event.changes else ""
    return f"{event.call_id}{changes}"


def _killed(event: events.KillReceipt) -> str:
    alive = f"{event.survivors} STILL ALIVE" if event.survivors else "none alive"
    return f"{event.call_id}: {event.pids_seen} processes killed in {event.elapsed_ms} ms, {alive}"


def _tool_finished(event: events.ToolFinished) -> str:
    failed = f" failed ({event.error})" if event.error else ""
    size = f", {event.size_bytes} bytes" if event.output else ""
    return f"{event.call_id}{failed} after {event.elapsed_ms} ms{size}: {event.text}"


_WORDS: dict[type[TapeEvent], Callable[[Any], str]] = {
    events.Input: _input,
    events.StatusChange: lambda event: f"{event.before} -> {event.after}{_because(event.reason)}",
    events.RunFinished: lambda event: f"{event.state} ({event.reason}) {event.detail}",
    events.CancelRequested: lambda event: f"by {event.by}{_because(event.reason)}",
    events.RunInterrupted: lambda event: event.reason,
    events.LimitReached: lambda event: f"{event.limit}: {event.value}",
    events.FinalAnswer: lambda event: f"{event.provider}/{event.model}: {event.text}",
    events.RoutingDecision: lambda event: f"{event.provider}/{event.model}: {event.why}",
    events.ContextAssembled: lambda event: (
        f"{len(event.messages)} messages from {len(event.runs)} earlier runs, {event.omitted_runs} left out"
    ),
    events.ProviderRequest: _request,
    events.ModelTurn: _model_turn,
    events.ProviderAttempt: lambda event: (
        f"turn {event.turn}, attempt {event.attempt}: {event.failure}, again in {event.wait_ms} ms: {event.message}"
    ),
    events.ProviderError: lambda event: f"turn {event.turn}: {event.failure}: {event.message}{_because(event.remedy)}",
    events.Correction: lambda event: event.text,
    events.ToolProposed: _proposed,
    events.PolicyDecision: lambda event: f"{event.call_id}: {event.outcome} ({event.rule}): {event.reason}",
    events.ApprovalRequested: lambda event: f"{event.call_id}: {event.prompt}",
    events.ApprovalDecided: _decided,
    events.ToolStarted: _started,
    events.ToolOutput: lambda event: f"{event.call_id} {event.stream}: {event.text}",
    events.ToolFinished: _tool_finished,
    events.KillReceipt: _killed,
}
