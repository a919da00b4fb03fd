"""What a run that is at work does right now, in two or three words, as the end of its tape tells it."""

from collections.abc import Iterable

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.identity import RunId
from palyra_trio.core.tape import (
    ModelDelta,
    ModelTurn,
    ProviderRequest,
    ToolFinished,
    ToolProposed,
    ToolStarted,
    run_stream,
)
from palyra_trio.journal.queries import Reader

ROWS = 40  # from the end: the calls of a turn, or some of the text that streams in


def last_rows(reader: Reader, run_id: RunId) -> tuple[TapeRow, ...]:
    """Return the last rows of a run's tape."""
    stream = run_stream(run_id)
    return reader.page(stream, max(0, reader.last_seq(stream) - ROWS), ROWS)


def doing(rows: Iterable[TapeRow]) -> str:
    """Return what the run does whose tape ends with these rows, "" where they do not tell."""
    proposed, running, word = dict[str, str](), dict[str, None](), ""
    for row in rows:
        match row.event():
            case ProviderRequest() | ModelDelta():
                word = "asks the model"
            case ModelTurn():
                word = ""
            case ToolProposed(call=call):
                proposed[call.call_id] = call.tool
            case ToolStarted(call_id=call_id):
                running[call_id] = None
            case ToolFinished(call_id=call_id):
                running.pop(call_id, None)
    tools = dict.fromkeys(proposed.get(call_id, "a tool") for call_id in running)
    return f"runs {', '.join(tools)}" if tools else word
