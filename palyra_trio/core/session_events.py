"""The events of a session, on its own stream: opened, archived, what was undone in it."""

from typing import ClassVar

import attrs

from palyra_trio.core.tape import FileChange, TapeEvent


@attrs.frozen
class SessionOpened(TapeEvent):
    kind: ClassVar[int] = 64
    session_id: str
    principal: str
    key: str | None = None
    title: str = ""
    v: int = 1


@attrs.frozen
class SessionArchived(TapeEvent):
    """The session takes no more runs, and its key is free again."""

    kind: ClassVar[int] = 65
    session_id: str
    by: str
    v: int = 1


@attrs.frozen
class RunUndone(TapeEvent):
    """The file changes of a run of this session were taken back."""

    kind: ClassVar[int] = 66
    run_id: str
    by: str
    changes: tuple[FileChange, ...]
    v: int = 1
