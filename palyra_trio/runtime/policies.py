"""Which policies are in force, and how others take their place: on the tape, so that a call judged by the old ones does not
start; checked before, so that a set with a fault never does.
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import attrs
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import ConfigInvalid, NotFound
from palyra_trio.core.identity import RequestContext
from palyra_trio.core.policy import PolicyRules
from palyra_trio.core.system_events import PolicyLoaded
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.guard.policy_files import load_engine, read_policy_files
from palyra_trio.guard.policy_folder import change_file, postures_of
from palyra_trio.guard.policy_set import PolicySet, sources
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.posture import Posture, Scope, in_force, posture_file, with_posture, without_posture
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.hypothetical import Explanation, Hypothetical, explain
from palyra_trio.runtime.state import RuntimeState

CHECK_S = 20.0  # that the check of a set may take; a large one takes a second

Edit = Callable[[tuple[Posture, ...]], tuple[Posture, ...]]


async def check_set(files: Iterable[PolicySource], rules: PolicyRules) -> None:
    """Raise ConfigInvalid, listing every fault, unless the files make a set with what comes with the program."""
    if not (files := tuple(files)):
        return
    with trio.move_on_after(CHECK_S) as limit:
        await load_engine(sources(files, rules))
    if limit.cancelled_caught:
        raise ConfigInvalid(
            f"the policies could not be checked within {CHECK_S:g} s", remedy="palyra-trio policy check"
        )


async def read_checked(folder: Path, rules: PolicyRules) -> tuple[PolicySource, ...]:
    """Return the user's policies. Raises ConfigInvalid that lists every fault."""
    files = await trio.to_thread.run_sync(read_policy_files, folder)
    await check_set(files, rules)
    return files


async def change_postures(folder: Path, rules: PolicyRules, edit: Edit, now_s: float) -> tuple[PolicySource, ...]:
    """Write the postures that `edit` makes of those that have not run out, if the whole set has no fault then.

    Returns all files of the folder. Raises ConfigInvalid, and what `edit` raises; the old file then stays.
    """

    def make(files: tuple[PolicySource, ...]) -> PolicySource:
        return posture_file(edit(in_force(postures_of(files), now_s)))

    return await change_file(folder, make, lambda files: check_set(files, rules))


def setting(new: Posture, tools: Iterable[str]) -> Edit:
    """Return the edit that adds `new`. Raises NotFound when it names no tool that exists: it would change nothing."""
    tools = tuple(tools)
    if not any(fnmatchcase(each, new.tool) for each in tools):
        raise NotFound(f"there is no tool {new.tool!r}", remedy=f"the tools are {', '.join(tools)}")
    return lambda postures: with_posture(postures, new)


def removing(tool: str, scope: Scope, name: str) -> Edit:
    """Return the edit that takes a posture away; it raises NotFound when there is none."""

    def edit(postures: tuple[Posture, ...]) -> tuple[Posture, ...]:
        left = without_posture(postures, tool, scope, name)
        if len(left) == len(postures):
            where = f"{scope} {name}".strip()
            raise NotFound(f"nothing was said of {tool!r} ({where})", remedy="`palyra-trio tools list` shows what was")
        return left

    return edit


class Policies:
    """The policies of this process, as those who may ask and change them see them. One change at a time."""

    def __init__(self, state: RuntimeState) -> None:
        self._state = state
        self._changing = trio.Lock()

    @property
    def files(self) -> tuple[PolicySource, ...]:
        """The user's files in force."""
        return self._state.policies.files

    @property
    def hash(self) -> str:
        return self._state.policies.hash

    def hash_under(self, rules: PolicyRules) -> str:
        """Return what names all that decides where the configuration says `rules`."""
        return self._state.policies.engine(rules).hash

    async def rules_in(self, workspace: str, context: RequestContext) -> PolicyRules:
        """Return what the configuration says of tools for the caller's runs in a folder ("" for none).

        Only the local user's runs heed what a folder's own file says. Raises ConfigInvalid.
        """
        if not workspace or not context.local:
            return self._state.config.policy
        return await self._state.look(lambda: self._state.config_in(workspace).policy)

    async def reload(self, by: str) -> bool:
        """Put the files in force as they are now. Return whether that changed anything; raises ConfigInvalid."""
        async with self._changing:
            return await replace_policies(self._state, await self._state.look(self._read), by)

    def _read(self) -> tuple[PolicySource, ...]:
        return read_policy_files(self._state.policies_dir)

    def postures(self) -> tuple[Posture, ...]:
        """Return the postures in force, those of now."""
        return in_force(postures_of(self.files), self._state.now_s())

    async def set_posture(self, new: Posture, by: str) -> None:
        """Write a posture, and put it in force with whatever else the files say now. Raises ConfigInvalid, NotFound."""
        await self._change(setting(new, self._state.tools.names()), by)

    async def remove_posture(self, tool: str, scope: Scope, name: str, by: str) -> None:
        """Take a posture away. Raises ConfigInvalid and NotFound."""
        await self._change(removing(tool, scope, name), by)

    async def _change(self, edit: Edit, by: str) -> None:
        state = self._state
        async with self._changing:
            files = await change_postures(state.policies_dir, state.config.policy, edit, state.now_s())
            await _swap(state, files, by)

    async def explain(
        self, call: Hypothetical, context: RequestContext
    ) -> tuple[Explanation, tuple[PolicySource, ...]]:
        """Return what would be decided of a call of the caller's, and all sources that decide.

        Raises InvalidArgument and ConfigInvalid.
        """
        rules = await self.rules_in(call.workspace, context)
        call = attrs.evolve(call, user=context.principal, now_s=call.now_s or int(self._state.now_s()))
        return explain(call, self._state.tools, self._state.policies.engine(rules)), sources(self.files, rules)


async def put_in_force(state: RuntimeState, by: str) -> None:
    """Record the policies that this process began with, unless the journal names them already."""
    if await state.readers.ask(lambda reader: reader.policy_hash()) != state.policies.hash:
        await state.journal.append([entry(SYSTEM_STREAM, _loaded(state.policies, by))])


async def replace_policies(state: RuntimeState, files: Iterable[PolicySource], by: str) -> bool:
    """Put these files of the user's in force, for the runs that are under way too. Return whether that changed anything.

    Raises ConfigInvalid that lists every fault; those in force then stay. If cancelled, either may be in force.
    """
    files = tuple(files)
    await check_set(files, state.config.policy)
    return await _swap(state, files, by)


async def _swap(state: RuntimeState, files: tuple[PolicySource, ...], by: str) -> bool:
    new = PolicySet(files)
    if new.hash == state.policies.hash:
        return False

    def committed(_rows: tuple[TapeRow, ...]) -> None:
        state.policies.replace(files)

    ticket = Ticket((entry(SYSTEM_STREAM, _loaded(new, by)),), on_commit=committed)
    state.journal.submit(ticket)
    await ticket.wait()
    return True


def _loaded(policies: PolicySet, by: str) -> PolicyLoaded:
    return PolicyLoaded(policies.hash, tuple(each.name for each in policies.files), by)
