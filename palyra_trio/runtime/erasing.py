"""Erasing a value that leaked from the journal: the same for a command with no process about and for one that serves.

The value goes in every spelling that is masked elsewhere. What holds it besides the journal is only told. Who may ask
for that is the caller's part.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs
import trio

from palyra_trio.core.codec import TapeRow
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import RequestContext, SessionId
from palyra_trio.core.tape import SESSION_STREAM, SYSTEM_STREAM, run_stream
from palyra_trio.guard.redact_known import encodings
from palyra_trio.journal.erasure import Erasure, Found, Place, blot, clear, search, text_at
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.store import SqliteStore, Store
from palyra_trio.runtime.checks import check_owned
from palyra_trio.runtime.state import RuntimeState

LEAST_CHARACTERS = 8  # of a value that is erased: a shorter one stands in rows that have nothing to do with it
_PART_CHARACTERS = 16
_READ_BYTES = 1024 * 1024

NOTHING = Erasure(0, 0, ())


@attrs.frozen
class Leak:
    """What leaked: the text of a field, or `part` of it if that is not empty; `by` and `reason` are recorded."""

    place: Place
    part: str
    by: str
    reason: str


@attrs.frozen
class Erased:
    """What went, and the files of the state directory that hold the value still. `again`: the row had been erased before."""

    done: Erasure
    left_in: tuple[str, ...] = ()
    again: bool = False


def place_of(reader: Reader, tape: str, seq: int, field: str, context: RequestContext) -> Place:
    """Return the place on a tape: `system`, `session:ID`, or a run of the caller's by whatever names it. Raises NotFound."""
    if tape.startswith(SESSION_STREAM):
        check_owned(reader, SessionId(tape.removeprefix(SESSION_STREAM)), context)
    elif tape != SYSTEM_STREAM:
        tape = run_stream(reader.find_run(tape, context.principal).run_id)
    return Place(tape, seq, field)


def erase_offline(folder: Path, leak: Leak) -> Erased:
    """Erase from the journal of a state directory that no process holds. Raises what `erase_serving` does, and StateLocked."""
    texts, parts = _sought(folder, leak)
    with SqliteStore(folder) as store:
        done, _ = _blot(folder, leak, texts, parts, Found(), store)
        clear(folder)
    return Erased(done, _still_in(folder, texts), not texts)


async def erase_serving(state: RuntimeState, leak: Leak) -> Erased:
    """Erase from the journal of this process. Runs go on, but nothing is committed while the file is written anew.

    It is searched before, beside the writer, which then looks only at what has come since.

    Raises NotFound, InvalidArgument, StateConflict where a run that has not ended depends on it, and Busy when it was
    erased but a reader keeps its bytes: to do it again clears them. A cancel does not stop what was begun.
    """
    folder = state.state_dir
    texts, parts = await state.look(lambda: _sought(folder, leak))
    found = await trio.to_thread.run_sync(search, folder, texts, parts, abandon_on_cancel=True) if texts else Found()
    done = await state.journal.upkeep(partial(_blot, folder, leak, texts, parts, found))
    await state.journal.upkeep(partial(_clear, folder))
    left = await trio.to_thread.run_sync(_still_in, folder, texts, abandon_on_cancel=True)
    return Erased(done, left, not texts)


def _sought(folder: Path, leak: Leak) -> tuple[Sequence[str], Sequence[str]]:
    """Return the spellings of what is to go, and what may stand of it where it was cut; nothing where the row has no body."""
    whole = text_at(folder, leak.place)
    if whole is None:
        return (), ()
    value = leak.part or whole
    if not any(each.decode() in whole for each in encodings(value)):
        raise InvalidArgument(
            f"what you passed does not stand in {leak.place.field}", remedy="look at RUN/SEQ and FIELD again"
        )
    if len(value) < LEAST_CHARACTERS:
        raise InvalidArgument(
            f"it has {len(value)} characters, and would be found in too much", remedy="pass a longer part"
        )
    cut = [value[:_PART_CHARACTERS], value[-_PART_CHARACTERS:]] if leak.part and len(value) > _PART_CHARACTERS else []
    return [each.decode() for each in dict.fromkeys(encodings(value))], cut


def _blot(
    folder: Path, leak: Leak, texts: Sequence[str], parts: Sequence[str], found: Found, store: Store
) -> tuple[Erasure, tuple[TapeRow, ...]]:
    if not texts:
        return NOTHING, ()
    now_ms = time.time_ns() // 1_000_000
    return blot(store, folder, leak.place, texts, leak.by, leak.reason, now_ms, parts=parts, found=found)


def _clear(folder: Path, _store: Store) -> tuple[None, tuple[TapeRow, ...]]:
    clear(folder)
    return None, ()


def _still_in(folder: Path, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the files beneath the folder that hold one of the texts."""
    wanted = [each.encode() for each in texts]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return tuple(str(path) for path in files if wanted and _holds(path, wanted))


def _holds(path: Path, wanted: Sequence[bytes]) -> bool:
    overlap = max(map(len, wanted)) - 1
    with open(path, "rb") as file:
        before = b""
        while read := file.read(_READ_BYTES):
            content = before + read
            if any(each in content for each in wanted):
                return True
            before = content[-overlap:]
    return False
