"""What a program changes in the workspace: kept apart while it runs, told on the tape, then brought into the workspace.

A program that ended by itself, whatever its exit code, has its changes brought there, all of them or, where somebody
else changed one of the same files meanwhile, none. Of one that was killed (a cancel, a time-out, too much output, the
daemon's end) nothing is: the workspace is as it was. A program that works in the workspace itself is not captured;
the plan of its call says so, to the person who decides and on the tape.
"""

import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress

import attrs
import trio

from palyra_trio.core.errors import PalyraError
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.tape import FileChange
from palyra_trio.tools import overlay
from palyra_trio.tools.job import Job
from palyra_trio.tools.overlay import Layer, Layers
from palyra_trio.tools.overlay_bringing import bring, check
from palyra_trio.tools.overlay_reading import Reading, read_layer
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.workspace import Workspace
from palyra_trio.tools.workspace_rules import sensitive

CHANGES_AN_EVENT = 500
NAMED = 20  # of the changes in a result
CLOSE_S = 30.0  # to clear a layer and to record that; what is being cleared is waited for in any case


class Capture:
    """The changes of one job. `job` is what to run: with its layer, where it is captured.

    `discarded` counts the changes that were thrown away, once that is so.
    """

    def __init__(self, job: Job, layer: Layer | None, context: ToolContext, threads: trio.CapacityLimiter) -> None:
        self.job = job if layer is None else attrs.evolve(job, layer=layer)
        self._layer = layer
        self._context = context
        self._threads = threads
        self.discarded = 0
        self._brought = False

    async def bring(self) -> tuple[str, ...]:
        """Record what the job changed, bring it into the workspace, and return it in words, a line a change.

        For a job that has ended by itself, all of whose processes are dead. A cancel before it is on the tape leaves the
        workspace as it was; after that it waits until all is there. Raises StateConflict where somebody else changed the
        same files meanwhile, and WorkspaceRefused for what cannot be brought; nothing was brought then.
        """
        if self._layer is None:
            return ()
        reading = await trio.to_thread.run_sync(self._read, limiter=self._threads)
        if reading.changes:
            for event in _events(self._context.call_id, reading):
                names = {
                    name for change in event.changes for name in (change.before, change.after) if change.kept and name
                }
                await self._context.changed(event, {name: reading.contents[name] for name in names})
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._bring, reading, limiter=self._threads)
        return tuple(_in_words(reading))

    async def close(self, layer: AbstractContextManager[Layer]) -> None:
        """Give back the `layer`, throw away what was not brought, and record how much that was."""
        self.discarded = await trio.to_thread.run_sync(self._clear, layer)
        if self.discarded:
            with suppress(PalyraError):  # the workspace is as it was in any case
                await self._context.changed(FilesChanged(self._context.call_id, discarded=self.discarded), {})

    def _clear(self, layer: AbstractContextManager[Layer]) -> int:
        assert self._layer is not None
        try:
            return 0 if self._brought else overlay.clear(self._layer.upper, itself=False)
        finally:
            layer.__exit__(None, None, None)

    def _read(self) -> Reading:
        assert self._layer is not None
        with Workspace.open(self._layer.upper) as upper:
            return read_layer(upper, self._context.workspace, self._layer.began_ns, trio.from_thread.check_cancelled)

    def _bring(self, reading: Reading) -> None:
        assert self._layer is not None
        check(self._context.workspace, reading.steps)
        self._brought = True
        with Workspace.open(self._layer.upper) as upper:
            bring(upper, self._context.workspace, reading.steps)


def capture_in_words(uncaptured: str) -> str:
    """Return what a person who decides on a program is told of its changes; `uncaptured` is why they are not captured."""
    if uncaptured:
        return f"what it does to files is NOT captured, so that nothing can show or undo it: {uncaptured}"
    return "what it does to files is kept apart until it has ended, and can be undone"


@asynccontextmanager
async def captured(
    layers: Layers | None, job: Job, context: ToolContext, threads: trio.CapacityLimiter
) -> AsyncGenerator[Capture]:
    """Capture what a job changes in its workspace, without `layers` nothing. What was not brought by the end is thrown away."""
    if layers is None:
        yield Capture(job, None, context, threads)
        return
    made = layers.layer(job.workspace)
    layer = await trio.to_thread.run_sync(made.__enter__, limiter=threads)
    capture = Capture(job, layer, context, threads)
    try:
        yield capture
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await capture.close(made)


def _events(call_id: str, reading: Reading) -> Sequence[FilesChanged]:
    """Return what is read as events of a size that the journal takes well; the last tells what is missed."""
    changes = reading.changes
    parts = [changes[at : at + CHANGES_AN_EVENT] for at in range(0, len(changes), CHANGES_AN_EVENT)] or [[]]
    missed = f"{reading.missed} more changes of the program" if reading.missed else ""
    last = len(parts) - 1
    return [FilesChanged(call_id, tuple(part), missed if number == last else "") for number, part in enumerate(parts)]


def _in_words(reading: Reading) -> Sequence[str]:
    lines = [_change_in_words(change) for change in _told(reading.changes)]
    more = len(lines) - NAMED + reading.missed
    if more > 0:
        lines[NAMED:] = [f"and {more} more"]
    return [*lines, *(f"{path} was left out: it is no file, symlink or folder" for path in reading.left[:NAMED])]


def _told(changes: Sequence[FileChange]) -> Sequence[FileChange]:
    """Return the changes in the order of how much they matter: what decides what other programs do comes first."""
    return sorted(changes, key=lambda change: (not sensitive(change.path, writing=True), change.path))


def _change_in_words(change: FileChange) -> str:
    kind = {stat.S_IFDIR: "folder ", stat.S_IFLNK: "symlink "}.get(
        stat.S_IFMT(change.after_mode or change.before_mode), ""
    )
    if change.after is None:
        did = f"deleted {kind}{change.path}"
    elif change.before is None:
        did = f"created {kind}{change.path}"
    elif change.before == change.after:
        did = (
            f"changed {kind}{change.path}: permissions {change.before_mode & 0o777:o} -> {change.after_mode & 0o777:o}"
        )
    else:
        did = f"changed {kind}{change.path}"
    why = sensitive(change.path, writing=True)
    return f"{did} ({why})" if why else did
