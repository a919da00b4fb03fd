"""A command as it is asked for: refused where it cannot be, found in the workspace, and shown without a way to hide."""

from pathlib import Path

import attrs
import pytest

from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.tools.command import Command, argument_lines, check, find
from palyra_trio.tools.programs import Program
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.sandbox import NO_SANDBOX, Sandbox, SandboxTooWeak
from palyra_trio.tools.sandbox_report import SandboxReport, TierReport
from palyra_trio.tools.view import look
from palyra_trio.tools.workspace import Workspace


@pytest.fixture
def sandbox() -> Sandbox:
    return attrs.evolve(NO_SANDBOX, report=SandboxReport((TierReport(4, True),)), view=look("/home/me", (), ()))


@pytest.fixture
def context(kernel_workspace: Workspace) -> ToolContext:
    return ToolContext(kernel_workspace, now=lambda: 0.0)


def test_without_a_sandbox_there_is_no_command() -> None:
    with pytest.raises(SandboxTooWeak):
        check(NO_SANDBOX, ("ls",))


@pytest.mark.parametrize("argv", [("",), ("ls", "a\0b"), ("ls", "\udc80")])
def test_arguments_that_no_program_can_have_are_refused(sandbox: Sandbox, argv: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument):
        check(sandbox, argv)
    check(sandbox, ("ls", "é", ""))


def test_a_program_is_found_with_its_folder(sandbox: Sandbox, context: ToolContext, root: Path) -> None:
    (root / "src").mkdir()
    (root / "src" / "tool").write_text("#!/bin/sh\n")
    (root / "src" / "tool").chmod(0o755)
    command = find(sandbox, ("./tool", "x"), "src", context)
    assert (command.program.path, command.cwd) == (str(root / "src" / "tool"), str(root / "src"))
    assert attrs.astuple(command.facts) == (str(root / "src" / "tool"), 2, True, False, True)
    assert "sha256" in command.shown("runs", "")
    with pytest.raises(InvalidArgument, match="is no folder"):
        find(sandbox, ("ls",), "src/tool", context)
    with pytest.raises(NotFound):
        find(sandbox, ("no-such-program",), ".", context)


def test_what_is_shown_has_a_line_an_argument() -> None:
    command = Command(Program("/usr/bin/x", "x can start any"), ("x", "a\nb", '"'), "/w")
    assert command.shown("starts", ", for ever").splitlines() == [
        "starts /usr/bin/x",
        "  opaque: x can start any",
        "in /w, for ever",
        '  argv[0] "x"',
        '  argv[1] "a\\nb"',
        '  argv[2] "\\""',
    ]
    assert argument_lines(()) == ()
