"""What the model is shown of the session's past: the newest runs that fit a budget, whole or not at all."""

from collections.abc import Iterable

import attrs

from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.messages import Message


@attrs.frozen
class PastRun:
    """An earlier run of the session, and its transcript; `tainted` when it had words of strangers in it."""

    run_id: str
    messages: tuple[Message, ...]
    tainted: bool = False


@attrs.frozen
class Context:
    """The messages before a run's own, oldest first, and what was left out."""

    messages: tuple[Message, ...]
    runs: tuple[str, ...]
    omitted_runs: int
    tainted: bool = False


def assemble(instructions: str, newest_first: Iterable[PastRun], past_runs: int, budget_bytes: int) -> Context:
    """Return the system message and as many of the newest past runs as fit in `budget_bytes` of canonical JSON.

    `newest_first` is read only as far as it fits; `past_runs` is how many there are in all.
    """
    system = Message("system", instructions)
    room = budget_bytes - len(canonical_json(system))
    taken: list[PastRun] = []
    for past in newest_first:
        room -= sum(len(canonical_json(message)) for message in past.messages)
        if room < 0:
            break
        taken.append(past)
    taken.reverse()
    history = tuple(message for past in taken for message in past.messages)
    tainted = any(past.tainted for past in taken)
    return Context((system, *history), tuple(past.run_id for past in taken), past_runs - len(taken), tainted)


def message_digest(message: Message) -> str:
    """Return the digest by which a tape names `message`: the SHA-256 of its canonical JSON."""
    return digest(canonical_json(message))
