"""A program with its arguments, as a call asks for it: checked, looked up, and shown to who decides.

Nothing is run here.
"""

import json

import attrs

from palyra_trio.core.errors import InvalidArgument, StateConflict
from palyra_trio.core.policy import ProgramFacts
from palyra_trio.tools.programs import Program, look_up
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.sandbox import Sandbox, SandboxTooWeak


@attrs.frozen
class Command:
    """A program, its whole argument vector, and the folder to run it in: absolute, in the workspace, without symlinks."""

    program: Program
    argv: tuple[str, ...]
    cwd: str

    @property
    def facts(self) -> ProgramFacts:
        opaque = bool(self.program.why_opaque)
        return ProgramFacts(self.program.path, len(self.argv), opaque, network=False, cwd_inside=True)

    def shown(self, verb: str, limit: str) -> str:
        """Return all that a person is to see of it: each argument on a line of its own. `limit` says how long it may take."""
        lines = [f"{verb} {self.program.path}"]
        if self.program.digest:
            lines.append(f"  its content now: sha256 {self.program.digest}")
        if self.program.why_opaque:
            lines.append(f"  opaque: {self.program.why_opaque}")
        lines.append(f"in {self.cwd}{limit}")
        return "\n".join((*lines, *argument_lines(self.argv)))


def argument_lines(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return each argument on a line, so that none can pass for another or for a line of ours."""
    return tuple(f"  argv[{number}] {json.dumps(word, ensure_ascii=False)}" for number, word in enumerate(argv))


def check(sandbox: Sandbox, argv: tuple[str, ...]) -> None:
    """Raise InvalidArgument for arguments that no program can have, and SandboxTooWeak where none can be run."""
    if not sandbox.tier:
        strongest = sandbox.report.tiers[0]
        raise SandboxTooWeak(f"no program can be run here: {strongest.reason}", remedy=strongest.remedy)
    for number, word in enumerate(argv):
        if "\0" in word:
            raise InvalidArgument(f"argv[{number}] holds a zero byte, which no argument can")
        if any("\ud800" <= char <= "\udfff" for char in word):
            raise InvalidArgument(f"argv[{number}] holds half a character (a surrogate)")
    if not argv[0]:
        raise InvalidArgument("argv[0] is empty", remedy="name a program")


def find(sandbox: Sandbox, argv: tuple[str, ...], folder: str, context: ToolContext) -> Command:
    """Look up the program of `argv`, to be run in `folder` of the workspace. Looks at files.

    Raises NotFound, InvalidArgument, and StateConflict for a workspace that is somewhere else now.
    """
    found = context.workspace.stat(folder)
    root = context.workspace.root
    if found.kind != "folder":
        raise InvalidArgument(f"{folder} is no folder", remedy="cwd names a folder of the workspace")
    if not context.workspace.lies_at(root):
        raise StateConflict(f"the workspace is not at {root} any more", remedy="open it again")
    cwd = str(root) if found.path == "." else str(root / found.path)
    return Command(look_up(sandbox.view, argv[0], cwd, str(root)), argv, cwd)
