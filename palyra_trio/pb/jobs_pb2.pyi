from palyra_trio.pb import runs_pb2 as _runs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Job(_message.Message):
    __slots__ = ("job_id", "session_id", "run_id", "call_id", "program", "argv", "cwd", "opaque", "sandbox_tier", "started_ms", "deadline_ms", "end")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    CWD_FIELD_NUMBER: _ClassVar[int]
    OPAQUE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_TIER_FIELD_NUMBER: _ClassVar[int]
    STARTED_MS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    session_id: str
    run_id: str
    call_id: str
    program: str
    argv: _containers.RepeatedScalarFieldContainer[str]
    cwd: str
    opaque: str
    sandbox_tier: int
    started_ms: int
    deadline_ms: int
    end: JobEnd
    def __init__(self, job_id: _Optional[str] = ..., session_id: _Optional[str] = ..., run_id: _Optional[str] = ..., call_id: _Optional[str] = ..., program: _Optional[str] = ..., argv: _Optional[_Iterable[str]] = ..., cwd: _Optional[str] = ..., opaque: _Optional[str] = ..., sandbox_tier: _Optional[int] = ..., started_ms: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., end: _Optional[_Union[JobEnd, _Mapping]] = ...) -> None: ...

class JobEnd(_message.Message):
    __slots__ = ("ended_ms", "ending", "code", "by", "detail", "pids_seen", "survivors", "elapsed_ms", "size_bytes")
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PIDS_SEEN_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ended_ms: int
    ending: str
    code: int
    by: str
    detail: str
    pids_seen: int
    survivors: int
    elapsed_ms: int
    size_bytes: int
    def __init__(self, ended_ms: _Optional[int] = ..., ending: _Optional[str] = ..., code: _Optional[int] = ..., by: _Optional[str] = ..., detail: _Optional[str] = ..., pids_seen: _Optional[int] = ..., survivors: _Optional[int] = ..., elapsed_ms: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("session", "ended", "page_size", "page_token")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session: str
    ended: bool
    page_size: int
    page_token: str
    def __init__(self, session: _Optional[str] = ..., ended: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ReadJobOutputRequest(_message.Message):
    __slots__ = ("job_id", "since", "tail_bytes", "follow")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    TAIL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    since: int
    tail_bytes: int
    follow: bool
    def __init__(self, job_id: _Optional[str] = ..., since: _Optional[int] = ..., tail_bytes: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ReadJobOutputResponse(_message.Message):
    __slots__ = ("offset", "data", "size_bytes", "ended")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    size_bytes: int
    ended: bool
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...

class StopJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class StopJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetRunTreeRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class GetRunTreeResponse(_message.Message):
    __slots__ = ("run_id", "session_id", "state", "turn", "calls", "jobs")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    session_id: str
    state: _runs_pb2.RunState
    turn: int
    calls: _containers.RepeatedCompositeFieldContainer[CallProcesses]
    jobs: _containers.RepeatedCompositeFieldContainer[JobProcesses]
    def __init__(self, run_id: _Optional[str] = ..., session_id: _Optional[str] = ..., state: _Optional[_Union[_runs_pb2.RunState, str]] = ..., turn: _Optional[int] = ..., calls: _Optional[_Iterable[_Union[CallProcesses, _Mapping]]] = ..., jobs: _Optional[_Iterable[_Union[JobProcesses, _Mapping]]] = ...) -> None: ...

class CallProcesses(_message.Message):
    __slots__ = ("call_id", "tool", "state", "processes")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    tool: str
    state: str
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    def __init__(self, call_id: _Optional[str] = ..., tool: _Optional[str] = ..., state: _Optional[str] = ..., processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ...) -> None: ...

class JobProcesses(_message.Message):
    __slots__ = ("job", "processes")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    job: Job
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("pid", "parent_pid", "argv", "state", "rss_bytes", "cpu_ms", "age_ms")
    PID_FIELD_NUMBER: _ClassVar[int]
    PARENT_PID_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_MS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    pid: int
    parent_pid: int
    argv: _containers.RepeatedScalarFieldContainer[str]
    state: str
    rss_bytes: int
    cpu_ms: int
    age_ms: int
    def __init__(self, pid: _Optional[int] = ..., parent_pid: _Optional[int] = ..., argv: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., rss_bytes: _Optional[int] = ..., cpu_ms: _Optional[int] = ..., age_ms: _Optional[int] = ...) -> None: ...
