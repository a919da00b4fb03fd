from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PostureVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POSTURE_VERDICT_UNSPECIFIED: _ClassVar[PostureVerdict]
    POSTURE_VERDICT_ALLOW: _ClassVar[PostureVerdict]
    POSTURE_VERDICT_ASK: _ClassVar[PostureVerdict]
    POSTURE_VERDICT_DISABLE: _ClassVar[PostureVerdict]

class PostureScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POSTURE_SCOPE_UNSPECIFIED: _ClassVar[PostureScope]
    POSTURE_SCOPE_GLOBAL: _ClassVar[PostureScope]
    POSTURE_SCOPE_WORKSPACE: _ClassVar[PostureScope]
    POSTURE_SCOPE_AGENT: _ClassVar[PostureScope]
    POSTURE_SCOPE_SESSION: _ClassVar[PostureScope]
POSTURE_VERDICT_UNSPECIFIED: PostureVerdict
POSTURE_VERDICT_ALLOW: PostureVerdict
POSTURE_VERDICT_ASK: PostureVerdict
POSTURE_VERDICT_DISABLE: PostureVerdict
POSTURE_SCOPE_UNSPECIFIED: PostureScope
POSTURE_SCOPE_GLOBAL: PostureScope
POSTURE_SCOPE_WORKSPACE: PostureScope
POSTURE_SCOPE_AGENT: PostureScope
POSTURE_SCOPE_SESSION: PostureScope

class GetPoliciesRequest(_message.Message):
    __slots__ = ("workspace",)
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    def __init__(self, workspace: _Optional[str] = ...) -> None: ...

class GetPoliciesResponse(_message.Message):
    __slots__ = ("hash", "files", "preset", "allow", "ask", "deny")
    HASH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    hash: str
    files: _containers.RepeatedCompositeFieldContainer[PolicyFile]
    preset: str
    allow: _containers.RepeatedScalarFieldContainer[str]
    ask: _containers.RepeatedScalarFieldContainer[str]
    deny: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hash: _Optional[str] = ..., files: _Optional[_Iterable[_Union[PolicyFile, _Mapping]]] = ..., preset: _Optional[str] = ..., allow: _Optional[_Iterable[str]] = ..., ask: _Optional[_Iterable[str]] = ..., deny: _Optional[_Iterable[str]] = ...) -> None: ...

class PolicyFile(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ReloadPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadPoliciesResponse(_message.Message):
    __slots__ = ("changed", "hash")
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    changed: bool
    hash: str
    def __init__(self, changed: _Optional[bool] = ..., hash: _Optional[str] = ...) -> None: ...

class ExplainCallRequest(_message.Message):
    __slots__ = ("tool", "facts_json")
    TOOL_FIELD_NUMBER: _ClassVar[int]
    FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
    tool: str
    facts_json: str
    def __init__(self, tool: _Optional[str] = ..., facts_json: _Optional[str] = ...) -> None: ...

class ExplainCallResponse(_message.Message):
    __slots__ = ("outcome", "reason", "standing", "policy_hash", "passes")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    reason: str
    standing: bool
    policy_hash: str
    passes: _containers.RepeatedCompositeFieldContainer[PolicyPass]
    def __init__(self, outcome: _Optional[str] = ..., reason: _Optional[str] = ..., standing: _Optional[bool] = ..., policy_hash: _Optional[str] = ..., passes: _Optional[_Iterable[_Union[PolicyPass, _Mapping]]] = ...) -> None: ...

class PolicyPass(_message.Message):
    __slots__ = ("approval", "allowed", "policies", "errors")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    approval: str
    allowed: bool
    policies: _containers.RepeatedCompositeFieldContainer[DecidingPolicy]
    errors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, approval: _Optional[str] = ..., allowed: _Optional[bool] = ..., policies: _Optional[_Iterable[_Union[DecidingPolicy, _Mapping]]] = ..., errors: _Optional[_Iterable[str]] = ...) -> None: ...

class DecidingPolicy(_message.Message):
    __slots__ = ("id", "file", "line", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    file: str
    line: int
    text: str
    def __init__(self, id: _Optional[str] = ..., file: _Optional[str] = ..., line: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class WhyCallRequest(_message.Message):
    __slots__ = ("run_id", "call_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    call_id: str
    def __init__(self, run_id: _Optional[str] = ..., call_id: _Optional[str] = ...) -> None: ...

class WhyCallResponse(_message.Message):
    __slots__ = ("run_id", "calls")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    calls: _containers.RepeatedCompositeFieldContainer[CallStory]
    def __init__(self, run_id: _Optional[str] = ..., calls: _Optional[_Iterable[_Union[CallStory, _Mapping]]] = ...) -> None: ...

class CallStory(_message.Message):
    __slots__ = ("call_id", "tool", "arguments_json", "decisions", "answers", "started", "grant_id", "error")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    GRANT_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    tool: str
    arguments_json: str
    decisions: _containers.RepeatedCompositeFieldContainer[RecordedDecision]
    answers: _containers.RepeatedCompositeFieldContainer[RecordedAnswer]
    started: bool
    grant_id: str
    error: str
    def __init__(self, call_id: _Optional[str] = ..., tool: _Optional[str] = ..., arguments_json: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[RecordedDecision, _Mapping]]] = ..., answers: _Optional[_Iterable[_Union[RecordedAnswer, _Mapping]]] = ..., started: _Optional[bool] = ..., grant_id: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class RecordedDecision(_message.Message):
    __slots__ = ("outcome", "reason", "policies", "policy_hash", "changed_since")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    CHANGED_SINCE_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    reason: str
    policies: _containers.RepeatedCompositeFieldContainer[DecidingPolicy]
    policy_hash: str
    changed_since: bool
    def __init__(self, outcome: _Optional[str] = ..., reason: _Optional[str] = ..., policies: _Optional[_Iterable[_Union[DecidingPolicy, _Mapping]]] = ..., policy_hash: _Optional[str] = ..., changed_since: _Optional[bool] = ...) -> None: ...

class RecordedAnswer(_message.Message):
    __slots__ = ("outcome", "by", "reason", "scope")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    by: str
    reason: str
    scope: str
    def __init__(self, outcome: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., scope: _Optional[str] = ...) -> None: ...

class Posture(_message.Message):
    __slots__ = ("tool", "verdict", "scope", "name", "until_s")
    TOOL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_S_FIELD_NUMBER: _ClassVar[int]
    tool: str
    verdict: PostureVerdict
    scope: PostureScope
    name: str
    until_s: int
    def __init__(self, tool: _Optional[str] = ..., verdict: _Optional[_Union[PostureVerdict, str]] = ..., scope: _Optional[_Union[PostureScope, str]] = ..., name: _Optional[str] = ..., until_s: _Optional[int] = ...) -> None: ...

class ListPosturesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPosturesResponse(_message.Message):
    __slots__ = ("postures",)
    POSTURES_FIELD_NUMBER: _ClassVar[int]
    postures: _containers.RepeatedCompositeFieldContainer[Posture]
    def __init__(self, postures: _Optional[_Iterable[_Union[Posture, _Mapping]]] = ...) -> None: ...

class SetPostureRequest(_message.Message):
    __slots__ = ("posture",)
    POSTURE_FIELD_NUMBER: _ClassVar[int]
    posture: Posture
    def __init__(self, posture: _Optional[_Union[Posture, _Mapping]] = ...) -> None: ...

class SetPostureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RemovePostureRequest(_message.Message):
    __slots__ = ("tool", "scope", "name")
    TOOL_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    tool: str
    scope: PostureScope
    name: str
    def __init__(self, tool: _Optional[str] = ..., scope: _Optional[_Union[PostureScope, str]] = ..., name: _Optional[str] = ...) -> None: ...

class RemovePostureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
