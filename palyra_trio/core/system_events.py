"""The events of the journal itself, on the stream `system`: boots, agents, policies, erasures. Those of tokens and bindings stand by them."""

from typing import ClassVar

import attrs

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.tape import TapeEvent


@attrs.frozen
class BootStarted(TapeEvent):
    """A process opened the journal for writing."""

    kind: ClassVar[int] = 80
    boot_id: str
    pid: int
    version: str
    v: int = 1


@attrs.frozen
class AgentDefined(TapeEvent):
    kind: ClassVar[int] = 81
    spec: AgentSpec
    by: str
    v: int = 1


@attrs.frozen
class AgentRemoved(TapeEvent):
    kind: ClassVar[int] = 82
    agent: str
    by: str
    v: int = 1


@attrs.frozen
class DefaultAgentSet(TapeEvent):
    kind: ClassVar[int] = 83
    agent: str
    by: str
    v: int = 1


@attrs.frozen
class PolicyLoaded(TapeEvent):
    """Another set of policies is in force. `hash` is the set's; `files` are the names of its files."""

    kind: ClassVar[int] = 84
    hash: str
    files: tuple[str, ...]
    by: str
    v: int = 1


@attrs.frozen
class GrantRevoked(TapeEvent):
    """A grant ended before its time: a call that was allowed by it and has not started will not."""

    kind: ClassVar[int] = 85
    grant_id: str
    by: str
    v: int = 1


@attrs.frozen
class AdmissionPaused(TapeEvent):
    """No new runs are taken from here on."""

    kind: ClassVar[int] = 92
    by: str
    reason: str = ""
    v: int = 1


@attrs.frozen
class AdmissionResumed(TapeEvent):
    kind: ClassVar[int] = 93
    by: str
    v: int = 1


@attrs.frozen
class LatencyBreach(TapeEvent):
    """Something took longer than its budget, `count` times since the last such event, at worst `worst_ms`."""

    kind: ClassVar[int] = 96
    name: str
    budget_ms: int
    worst_ms: int
    count: int
    v: int = 1


@attrs.frozen
class BodiesErased(TapeEvent):
    """Rows lost their bodies, and blobs went, because of a value that stood in a field of a row of `stream`.

    `rows` are places in the journal (`g`), `blobs` digests. The value itself is not told.
    """

    kind: ClassVar[int] = 86
    rows: tuple[int, ...]
    blobs: tuple[str, ...]
    stream: str
    seq: int
    field: str
    by: str
    reason: str = ""
    v: int = 1
