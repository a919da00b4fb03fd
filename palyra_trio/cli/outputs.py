"""`palyra-trio runs output`: all that a call returned, or its program wrote, of which the model was shown the edges."""

from collections.abc import Sequence

import click

from palyra_trio.cli.open import principal, reading
from palyra_trio.cli.tables import safe_for_stdout
from palyra_trio.core.errors import Ambiguous, NotFound
from palyra_trio.core.outputs import OutputKept
from palyra_trio.core.tape import ToolFinished
from palyra_trio.journal.queries import whole_tape


@click.command()
@click.argument("run")
@click.argument("call", required=False)
def output(run: str, call: str | None) -> None:
    """Print what a call of RUN returned, whole. CALL is its id, as `tape` shows it; it may be left out where there was one.

    Of a program it is all that it wrote, as it was recorded: secrets are masked. What still runs is printed as far as
    it was kept.
    """
    with reading() as reader:
        rows = whole_tape(reader, reader.find_run(run, principal()).run_id)
        events = [row.event() for row in rows if row.kind in (OutputKept.kind, ToolFinished.kind)]
        told = [event for event in events if isinstance(event, OutputKept | ToolFinished)]
        for each in _of_call(told, call):
            if each.output is not None:
                click.echo(safe_for_stdout(reader.blob(each.output).decode()), nl=False)
            elif isinstance(each, ToolFinished):
                click.echo(safe_for_stdout(each.text))


def _of_call(told: Sequence[OutputKept | ToolFinished], call: str | None) -> Sequence[OutputKept | ToolFinished]:
    """Return the events of one call that hold its output. Raises NotFound and Ambiguous."""
    calls = list(dict.fromkeys(each.call_id for each in told))
    if call is None and len(calls) > 1:
        raise Ambiguous(f"the run made {len(calls)} calls", remedy=f"name one of {', '.join(calls)}")
    mine = [each for each in told if call in (None, each.call_id)]
    if not mine:
        raise NotFound("the run has no such result", remedy=f"there is {', '.join(calls) or 'none'}")
    kept = [each for each in mine if isinstance(each, OutputKept)]
    return kept or mine
