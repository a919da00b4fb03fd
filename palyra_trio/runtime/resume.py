"""A run brought back from its tape: what it was asked, how far it got, and the messages that came before it.

Nothing is kept in memory for a run that waits: the tape is enough to go on with it, in this process or another.
"""

from collections.abc import Iterable

import msgspec

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.context import PastRun, message_digest
from palyra_trio.core.errors import JournalInvalid, NotFound
from palyra_trio.core.identity import RunId, SessionId
from palyra_trio.core.messages import Message
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ContextAssembled, RunFinished, StatusChange
from palyra_trio.core.view import RunView, fold_rows
from palyra_trio.journal.queries import Reader, whole_tape
from palyra_trio.runtime.answers import answer_check
from palyra_trio.runtime.runs import Past, RunOrder
from palyra_trio.runtime.state import RuntimeState


async def bring_back(state: RuntimeState, run_id: RunId) -> tuple[RunOrder, Past]:
    """Return a run as its tape tells it, and all that it takes to go on with it.

    Raises JournalInvalid when what it needs was erased, and what the choice of a model raises (ConfigInvalid,
    ProviderError).
    """
    past = await state.readers.ask(lambda reader: past_of(reader, run_id))
    asked = past.view.input
    if asked is None or past.view.gaps:
        raise JournalInvalid(f"a part of what run {run_id} was asked or did was erased, so it cannot go on")
    config = state.config if asked.confined else await state.look(lambda: state.config_in(asked.workspace))
    choice = await state.choose(asked.model or asked.agent.model or config.model.name, config.model.base_url)
    order = RunOrder(
        run_id,
        SessionId(asked.session_id),
        asked,
        config,
        choice,
        answer_check(asked.agent.answer_schema),
        past_runs=True,
    )
    return order, past


def past_of(reader: Reader, run_id: RunId) -> Past:
    """Return what a run has behind it. Raises JournalInvalid when the messages before its own are not there any more."""
    rows = whole_tape(reader, run_id)
    view = fold_rows(RunView(), rows)
    context = _context(reader, run_id, view.context) if view.context is not None else ()
    return Past(view, context, active_ms(rows) / 1000)


def _context(reader: Reader, run_id: RunId, assembled: ContextAssembled) -> tuple[Message, ...]:
    erased = JournalInvalid(f"what came before run {run_id} in its session was erased, so it cannot go on")
    try:
        system = msgspec.json.decode(reader.blob(assembled.messages[0]), type=Message)
    except NotFound:
        raise erased from None
    past = [message for each in assembled.runs for message in past_run(reader, each).messages]
    context = (system, *past)
    if tuple(message_digest(each) for each in context) != assembled.messages:
        raise erased
    return context


def past_run(reader: Reader, run_id: str) -> PastRun:
    """Return a run's own messages, as another run of its session is shown them."""
    view = fold_rows(RunView(), whole_tape(reader, run_id))
    return PastRun(run_id, tuple(view.messages), view.tainted)


def active_ms(rows: Iterable[TapeRow]) -> int:
    """Return how long a run has been RUNNING, by its tape's clock."""
    total, since = 0, None
    for row in rows:
        event = row.event() if row.kind in {StatusChange.kind, RunFinished.kind} else None
        if isinstance(event, StatusChange | RunFinished):
            after = event.after if isinstance(event, StatusChange) else event.state
            if since is not None:
                total, since = total + max(0, row.at_ms - since), None
            if after is RunState.RUNNING:
                since = row.at_ms
    return total
