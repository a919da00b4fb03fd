"""What a tool is, and the catalogue of those that exist.

A tool works in two steps. `plan` looks (it reads, never writes) and says what the call would do; the gate and the
person decide on that. `run` does it, and refuses when the world no longer is what the plan saw. A tool imports no
service: what it may touch is handed to it in the `ToolContext`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs
import msgspec
import trio

from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.core.file_events import FilesChanged
from palyra_trio.core.messages import ToolDefinition
from palyra_trio.core.policy import Action, ProgramFacts, Resource, Risk
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.job import HostUse, KillReceipt, Stream
from palyra_trio.tools.secret_use import NO_SECRETS, ToolSecrets
from palyra_trio.tools.session_jobs import SessionJobs
from palyra_trio.tools.workspace import Workspace

OUTPUT_CAP_CHARACTERS = 64 * 1024  # about 16k tokens: more than this in one result crowds out the rest of a context


@attrs.frozen
class ToolSpec:
    """What a tool declares of itself.

    `arguments` is an attrs class: its fields and their types are the argument schema. A `read_only` tool changes
    nothing outside this process; an `idempotent` one may be run again after a crash. `untrusted_output` says that what
    it returns may be the words of strangers; `asks` that a person's answer is its result. The model is shown the
    beginning and the end of an output longer than `output_cap_characters`; the tape keeps all of it.
    """

    name: str
    description: str
    arguments: type[Any]
    capability: Action
    risk: Risk
    read_only: bool
    idempotent: bool
    untrusted_output: bool = False
    asks: bool = False
    output_cap_characters: int = OUTPUT_CAP_CHARACTERS

    def definition(self) -> ToolDefinition:
        """Return what the model is told: the name, the description, the JSON Schema of the arguments."""
        return ToolDefinition(self.name, self.description, argument_schema(self.arguments))

    def parse(self, arguments: dict[str, Any]) -> Any:
        """Return an instance of the arguments class. Raises InvalidArgument naming each unknown or wrong field."""
        known = {field.name for field in attrs.fields(self.arguments)}
        unknown = [name for name in arguments if name not in known]
        if unknown:
            raise InvalidArgument(
                f"{self.name} takes no {', '.join(map(repr, unknown))}",
                remedy=f"it takes {', '.join(sorted(known)) or 'nothing'}",
            )
        try:
            return msgspec.convert(arguments, self.arguments)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise InvalidArgument(f"the arguments of {self.name} do not fit its schema: {error}") from error


async def _not_recorded(event: FilesChanged, blobs: Mapping[str, bytes]) -> None:
    await trio.lowlevel.checkpoint()


@attrs.frozen
class ToolContext:
    """What a call may use. `now` returns Unix seconds; `idempotency_key` names this call across retries.

    `answer` is what the person said, for a tool that asks. A tool that runs a program hands its output to `output` as it
    is read, to `killed` the receipt when its tree was killed, to `marked` the mark of its processes, and to `contacted` each
    host that it had to do with; none of them waits. It awaits `room` before it reads on, and `excerpt` returns what of the
    output its result is to show. `changed` records what the program did to files, with its blobs, and returns when that is
    durable. `secrets` are those that it can refer to, `jobs` the long ones of its session, where it is called in one.
    """

    workspace: Workspace
    now: Callable[[], float]
    call_id: str = ""
    idempotency_key: str = ""
    answer: str = ""
    output: Callable[[Stream, bytes], None] = lambda stream, data: None
    room: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    excerpt: Callable[[], str] = str
    killed: Callable[[KillReceipt], None] = lambda receipt: None
    changed: Callable[[FilesChanged, Mapping[str, bytes]], Awaitable[None]] = _not_recorded
    secrets: ToolSecrets = NO_SECRETS
    marked: Callable[[str], None] = lambda mark: None
    contacted: Callable[[HostUse], None] = lambda use: None
    jobs: SessionJobs | None = None


@attrs.frozen
class Plan:
    """What a call would do, seen before it does it.

    `resources` are what it would touch, as the gate judges them; none means the tool alone. `preview` is the text a
    person decides on beside the arguments, such as a diff; `changes` the files that would change, with the blobs of
    their contents (by digest) in `blobs`, so that the change can be shown and undone later. `program` is what would be
    started, in the sandbox of tier `sandbox_tier` or a higher one; 0 is the daemon's own process. `uncaptured` is why what
    it changes cannot be shown and undone, "" where it can.
    """

    preview: str = ""
    changes: tuple[FileChange, ...] = ()
    blobs: dict[str, bytes] = attrs.Factory(dict)
    resources: tuple[Resource, ...] = ()
    program: ProgramFacts | None = None
    sandbox_tier: int = 0
    uncaptured: str = ""


@attrs.frozen
class ToolResult:
    """What a call returned. `error` is empty or a stable code, and `text` then says what to do about it."""

    text: str
    error: str = ""


@attrs.frozen
class Tool:
    """A tool: its declaration, and its two steps.

    Both steps may raise PalyraError, which becomes the call's result. A cancel leaves a write either done or not
    begun, never half.
    """

    spec: ToolSpec
    plan: Callable[[Any, ToolContext], Awaitable[Plan]]
    run: Callable[[Any, ToolContext, Plan], Awaitable[ToolResult]]


class Registry:
    """The tools that exist in this process, by name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        self._definitions = {name: tool.spec.definition() for name, tool in sorted(self._tools.items())}

    def get(self, name: str) -> Tool:
        """Return the tool. Raises NotFound naming those that exist."""
        try:
            return self._tools[name]
        except KeyError:
            raise NotFound(
                f"there is no tool {name!r}", remedy=f"the tools are {', '.join(self._definitions)}"
            ) from None

    def names(self) -> tuple[str, ...]:
        return tuple(self._definitions)

    def definitions(self, allowed: tuple[str, ...] | None = None) -> tuple[ToolDefinition, ...]:
        """Return what the model is offered, in order of name: all tools, or those of `allowed` that exist."""
        return tuple(each for name, each in self._definitions.items() if allowed is None or name in allowed)


def catalogue_digest(definitions: tuple[ToolDefinition, ...]) -> str:
    """Return the digest of what was offered, so that a tape says which tools a model could see."""
    return digest(canonical_json(definitions))


def argument_schema(arguments: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of an arguments class as one object without references or titles."""
    (_,), components = msgspec.json.schema_components([arguments])
    schema = dict(components[arguments.__name__])
    schema.pop("title", None)
    schema["additionalProperties"] = False
    return schema
