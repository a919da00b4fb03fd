"""What programs did to files, as events of a run's tape. What files.* do is told with their intent, in ToolStarted."""

from typing import ClassVar

import attrs

from palyra_trio.core.tape import FileChange, TapeEvent


@attrs.frozen
class FilesChanged(TapeEvent):
    """What the program of a call did to the workspace, durable before it is brought there; several events may share it.

    `missed` says what of it `changes` do not tell, or is "". Of a program that was killed nothing is brought there:
    `discarded` are its changes, counted.
    """

    kind: ClassVar[int] = 41
    call_id: str
    changes: tuple[FileChange, ...] = ()
    missed: str = ""
    discarded: int = 0
    v: int = 1
