"""Starting a run from a page: what a person may choose, and what a form says of it.

The bounds of files are said here as they hold; that they do is the intake's part, and for all of a form `uploads`'.
"""

from collections.abc import Sequence

import attrs

from palyra_trio.core.commands import StartRun
from palyra_trio.core.config import MIB, AttachmentsConfig
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.session import SessionRef, WhenBusy
from palyra_trio.providers.choose import names_a_file
from palyra_trio.runtime.gateway import Gateway
from palyra_trio.transports.console.site import Visit
from palyra_trio.transports.console.transcript import RunStory
from palyra_trio.transports.console.uploads import FILES_BYTES

RULES = "offline/rules"


@attrs.frozen
class Offer:
    """What a form offers: agents by name, models that are known, and how much may be sent along.

    `answering` is the agent that is chosen at first, and `model` the model, "" for the agent's.
    """

    agents: tuple[str, ...]
    answering: str
    model: str
    models: tuple[str, ...]
    bounds: AttachmentsConfig
    files_bytes: int = FILES_BYTES

    @property
    def words(self) -> str:
        return bounds_in_words(self.bounds)


async def offer(gateway: Gateway, context: RequestContext, answering: str, stories: Sequence[RunStory] = ()) -> Offer:
    """Return what is on offer to this caller, where `answering` would answer; `stories` are what a session has so far.

    Who goes on with a session is offered what its newest run was given: its agent, if there still is one of that name, and
    the model that a person chose. A model is suggested if the configuration, an agent or a run of the session names it, or
    a server has listed it lately. One that is a file of this machine is for its user only.
    """
    agents = await gateway.agents()
    last = stories[-1].input if stories else None
    chosen = last.model if last is not None else ""
    named = (
        gateway.config.model.name,
        *(each.spec.model for each in agents),
        chosen,
        *(each.end.model for each in reversed(stories)),
        RULES,
        *gateway.model_names.known(),
    )
    models = tuple(dict.fromkeys(each for each in named if each and (context.local or not names_a_file(each))))
    names = tuple(each.spec.name for each in agents)
    if last is not None and last.agent.name in names:
        answering = last.agent.name
    return Offer(names, answering, chosen if chosen in models else "", models, gateway.config.attachments)


def bounds_in_words(bounds: AttachmentsConfig) -> str:
    """Return how many files a form may bring, and how large."""
    each = f"{_in_words(bounds.max_bytes)} each, " if bounds.max_bytes < FILES_BYTES else ""
    count = "one file" if bounds.max_count == 1 else f"{bounds.max_count} files"
    return f"{count} at most, {each}{_in_words(FILES_BYTES)} together"


def _in_words(size: int) -> str:
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size} bytes"


def order_of(visit: Visit, session: SessionRef, workspace: str) -> StartRun:
    """Return the run that a form asks for in a session. Raises InvalidArgument."""
    busy = visit.form.get("when_busy") or None
    if busy not in (None, *WhenBusy):
        raise InvalidArgument(f"{busy!r} is no way to send", remedy=f"choose one of {', '.join(WhenBusy)}")
    return StartRun(
        visit.form.get("text", "").replace("\r\n", "\n"),
        session=session,
        agent=visit.form.get("agent", ""),
        model=visit.form.get("model", "").strip(),
        workspace=workspace,
        attachments=visit.files,
        detached=True,  # a page may be left, and its questions wait
        when_busy=WhenBusy(busy) if busy else None,
    )
