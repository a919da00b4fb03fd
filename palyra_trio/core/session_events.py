"""The events of a session, on its own stream: opened, renamed, archived, what was undone in it, and the life of its jobs."""

from typing import ClassVar, Literal

import attrs

from palyra_trio.core.tape import FileChange, TapeEvent

JobEnding = Literal[
    "exited",  # by itself
    "stopped",  # by a person, or a call
    "deadline",
    "output_limit",
    "run_cancelled",
    "session_archived",
    "shutdown",
    "failed",  # the sandbox could not be made, or is gone
    "lost",  # the process that held it has gone; nobody saw how it ended
]


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


@attrs.frozen
class SessionRenamed(TapeEvent):
    kind: ClassVar[int] = 70
    session_id: str
    title: str
    by: str
    v: int = 1


@attrs.frozen
class JobStarted(TapeEvent):
    """The intent of a long job, durable before it begins: call `call_id` of run `run_id` starts it for its session.

    `opaque` says why the program may start any other, or is "". `mark` is in the environment of each of its processes.
    It is killed at `deadline_ms`, Unix time.
    """

    kind: ClassVar[int] = 67
    job_id: str
    run_id: str
    call_id: str
    program: str
    argv: tuple[str, ...]
    cwd: str
    sandbox_tier: int
    mark: str
    deadline_ms: int
    opaque: str = ""
    v: int = 1


@attrs.frozen
class JobOutput(TapeEvent):
    """Output of a job, of `stdout` or `stderr`, redacted. Beyond some length only the end of it is kept, by JobEnded."""

    kind: ClassVar[int] = 68
    job_id: str
    stream: str
    text: str
    v: int = 1


@attrs.frozen
class JobEnded(TapeEvent):
    """A job has ended. `by` is who stopped it, `detail` says more in words; `code` is an exit code, None where nobody saw one.

    `pids_seen`, `survivors` (there must be none) and `elapsed_ms` are the receipt where processes were killed, and 0
    otherwise. It wrote `size_bytes` as they are after redaction; blob `output` holds the last of them.
    """

    kind: ClassVar[int] = 69
    job_id: str
    ending: JobEnding
    code: int | None = None
    by: str = ""
    detail: str = ""
    pids_seen: int = 0
    survivors: int = 0
    elapsed_ms: int = 0
    output: str | None = None
    size_bytes: int = 0
    v: int = 1
