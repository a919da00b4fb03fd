from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGENT_RULE_UNSPECIFIED: _ClassVar[AgentRule]
    AGENT_RULE_SESSION: _ClassVar[AgentRule]
    AGENT_RULE_CHANNEL: _ClassVar[AgentRule]
    AGENT_RULE_PRINCIPAL: _ClassVar[AgentRule]
    AGENT_RULE_DEFAULT: _ClassVar[AgentRule]
AGENT_RULE_UNSPECIFIED: AgentRule
AGENT_RULE_SESSION: AgentRule
AGENT_RULE_CHANNEL: AgentRule
AGENT_RULE_PRINCIPAL: AgentRule
AGENT_RULE_DEFAULT: AgentRule

class Limits(_message.Message):
    __slots__ = ("turns", "tool_calls", "active_s", "tool_s")
    TURNS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_S_FIELD_NUMBER: _ClassVar[int]
    TOOL_S_FIELD_NUMBER: _ClassVar[int]
    turns: int
    tool_calls: int
    active_s: int
    tool_s: int
    def __init__(self, turns: _Optional[int] = ..., tool_calls: _Optional[int] = ..., active_s: _Optional[int] = ..., tool_s: _Optional[int] = ...) -> None: ...

class ToolNames(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class AgentSpec(_message.Message):
    __slots__ = ("name", "model", "instructions", "tools", "limits", "answer_schema_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    instructions: str
    tools: ToolNames
    limits: Limits
    answer_schema_json: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., instructions: _Optional[str] = ..., tools: _Optional[_Union[ToolNames, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., answer_schema_json: _Optional[str] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("spec", "is_default", "limits")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    spec: AgentSpec
    is_default: bool
    limits: Limits
    def __init__(self, spec: _Optional[_Union[AgentSpec, _Mapping]] = ..., is_default: _Optional[bool] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAgentsResponse(_message.Message):
    __slots__ = ("agents", "next_page_token")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    next_page_token: str
    def __init__(self, agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetAgentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ...) -> None: ...

class CreateAgentRequest(_message.Message):
    __slots__ = ("spec", "replace")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    spec: AgentSpec
    replace: bool
    def __init__(self, spec: _Optional[_Union[AgentSpec, _Mapping]] = ..., replace: _Optional[bool] = ...) -> None: ...

class CreateAgentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteAgentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteAgentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetDefaultAgentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class SetDefaultAgentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BindingTarget(_message.Message):
    __slots__ = ("session_id", "channel", "principal")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    channel: str
    principal: str
    def __init__(self, session_id: _Optional[str] = ..., channel: _Optional[str] = ..., principal: _Optional[str] = ...) -> None: ...

class BindAgentRequest(_message.Message):
    __slots__ = ("target", "agent")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    target: BindingTarget
    agent: str
    def __init__(self, target: _Optional[_Union[BindingTarget, _Mapping]] = ..., agent: _Optional[str] = ...) -> None: ...

class BindAgentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UnbindAgentRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: BindingTarget
    def __init__(self, target: _Optional[_Union[BindingTarget, _Mapping]] = ...) -> None: ...

class UnbindAgentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResolveAgentRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ResolveAgentResponse(_message.Message):
    __slots__ = ("agent", "rule")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    agent: Agent
    rule: AgentRule
    def __init__(self, agent: _Optional[_Union[Agent, _Mapping]] = ..., rule: _Optional[_Union[AgentRule, str]] = ...) -> None: ...
