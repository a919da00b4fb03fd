"""The models that servers list, for people to choose from: asked for in the background, and kept for a minute.

It is a suggestion. A server that is not set up, does not answer in time, or lists nothing adds none, and nobody is told;
one whose list ends in a fault of ours is logged, once. A name that no line could show is left out.
"""

import logging
from itertools import islice
from math import inf

import trio

from palyra_trio.core.errors import PalyraError
from palyra_trio.providers.base import ListsModels
from palyra_trio.runtime.state import RuntimeState

_log = logging.getLogger(__name__)

FRESH_S = 60.0
ANSWER_S = 2.0  # that a server has
MOST = 200  # of one server
NAME_CHARACTERS = 200


class ModelNames:
    """What the servers listed last, as `provider/model`. Whoever looks has it looked at again, after a minute at most."""

    def __init__(self, state: RuntimeState, nursery: trio.Nursery) -> None:
        self._state = state
        self._nursery = nursery
        self._names: tuple[str, ...] = ()
        self._asked_at = -inf
        self._faults: set[str] = set()  # the servers that were logged

    def known(self) -> tuple[str, ...]:
        """Return what is known now. Waits for nobody."""
        if (now := trio.current_time()) >= self._asked_at + FRESH_S:
            self._asked_at = now
            self._nursery.start_soon(self._ask)
        return self._names

    async def _ask(self) -> None:
        names: list[str] = []
        for server in self._state.servers:
            with trio.move_on_after(ANSWER_S):
                shown = filter(_is_shown, await self._listed(server))
                names += [f"{server}/{name}" for name in islice(shown, MOST)]
        self._names = tuple(names)

    async def _listed(self, server: str) -> tuple[str, ...]:
        try:
            # that a model is named keeps the server from being asked for its only one
            choice = await self._state.choose(f"{server}/any", self._state.config.model.base_url)
            return await choice.provider.list_models() if isinstance(choice.provider, ListsModels) else ()
        except PalyraError:
            return ()
        except Exception:  # of this nursery all runs hang
            if server not in self._faults:
                self._faults.add(server)
                _log.exception("what models %s lists cannot be told", server)
            return ()


def _is_shown(name: str) -> bool:
    return len(name) <= NAME_CHARACTERS and name.isprintable()
