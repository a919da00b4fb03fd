import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.core.errors import InvalidArgument, NotFound, StateConflict
from palyra_trio.core.outputs import Transcript
from palyra_trio.tools.job import Bounds, KillReceipt
from palyra_trio.tools.process_run import run_tool
from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult
from palyra_trio.tools.sandbox import Sandbox, SandboxSettings, SandboxTooWeak, open_sandbox
from palyra_trio.tools.sandbox_report import SandboxReport, TierReport
from palyra_trio.tools.workspace import Workspace
from tests.tools.layered import bench, for_all
from tests.tools.zoo import NOBODY

Run = Callable[..., Awaitable[tuple[Plan, ToolResult]]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(
        SandboxSettings(user=str(NOBODY), bounds=Bounds(output_bytes=2**20)), Path("/home/me")
    ) as sandbox:
        yield sandbox


@pytest.fixture
def tool(sandbox: Sandbox) -> Tool:
    return run_tool(sandbox, trio.CapacityLimiter(2))


@pytest.fixture
def receipts() -> list[KillReceipt]:
    return []


@pytest.fixture
def context(kernel_workspace: Workspace, root: Path, receipts: list[KillReceipt]) -> ToolContext:
    if os.geteuid() == 0:
        os.chown(root, NOBODY, NOBODY)
        for each in root.parents[:4]:
            if each.stat().st_uid == 0 and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)
    heard = Transcript(2**22)
    return ToolContext(
        kernel_workspace,
        now=lambda: 1_760_000_000.0,
        output=lambda stream, data: heard.add(stream, data.decode(errors="replace")),
        excerpt=heard.excerpt,
        killed=receipts.append,
    )


@pytest.fixture
def run(tool: Tool, context: ToolContext) -> Run:
    async def run(*argv: str, **others: Any) -> tuple[Plan, ToolResult]:
        arguments = tool.spec.parse({"argv": list(argv), **others})
        plan = await tool.plan(arguments, context)
        return plan, await tool.run(arguments, context, plan)

    return run


async def test_a_program_is_run_and_its_result_says_where(run: Run, root: Path) -> None:
    plan, result = await run("sh", "-c", "echo out; echo made >file; exit 3")
    head, *output = result.text.splitlines()
    assert head.startswith("exit code 3; ")
    assert "; sandbox tier 4 isolated (bubblewrap " in head
    assert output == ["[stdout]", "out"]
    assert result.error == ""
    assert (root / "file").read_text() == "made\n"
    assert plan.sandbox_tier == 4


async def test_a_person_sees_each_argument_on_its_own_line(run: Run, root: Path) -> None:
    plan, _ = await run("echo", "two words", "new\nline", "--flag=\u202ex")
    assert plan.preview.splitlines() == [
        "runs /usr/bin/echo",
        f"in {root}",
        '  argv[0] "echo"',
        '  argv[1] "two words"',
        '  argv[2] "new\\nline"',
        '  argv[3] "--flag=\u202ex"',
        "what it does to files is NOT captured, so that nothing can show or undo it: this process keeps no layers",
    ]
    assert plan.program is not None
    assert attrs.astuple(plan.program) == ("/usr/bin/echo", 4, False, False, True)


async def test_both_streams_are_told_apart_in_their_order(run: Run) -> None:
    _, result = await run("sh", "-c", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three")
    assert result.text.splitlines()[1:] == ["[stdout]", "one", "[stderr]", "two", "[stdout]", "three"]


async def test_a_shell_is_opaque_and_a_script_of_the_workspace_too(run: Run, root: Path) -> None:
    plan, _ = await run("sh", "-c", "true")
    assert plan.program is not None
    assert plan.program.opaque
    (root / "tool").write_text("#!/bin/sh\necho ran\n")
    (root / "tool").chmod(0o755)
    plan, result = await run("./tool")
    assert plan.program is not None
    assert plan.program.opaque
    assert "sha256" in plan.preview
    assert result.text.endswith("[stdout]\nran")


async def test_a_program_that_was_changed_since_is_not_run(tool: Tool, context: ToolContext, root: Path) -> None:
    (root / "tool").write_text("#!/bin/sh\necho harmless\n")
    (root / "tool").chmod(0o755)
    arguments = tool.spec.parse({"argv": ["./tool"]})
    plan = await tool.plan(arguments, context)
    (root / "tool").write_text("#!/bin/sh\ntouch harm\n")
    with pytest.raises(StateConflict, match="not the program any more"):
        await tool.run(arguments, context, plan)
    assert not (root / "harm").exists()


async def test_it_runs_in_the_folder_that_is_named(run: Run, root: Path) -> None:
    (root / "src").mkdir()
    _, result = await run("pwd", cwd="src")
    assert result.text.endswith(f"{root}/src")


async def test_a_time_out_kills_all_and_says_so(run: Run, receipts: list[KillReceipt]) -> None:
    _, result = await run("sh", "-c", "setsid sleep 60 & echo begun; sleep 60", timeout_s=1)
    assert result.error == "timeout"
    assert result.text.startswith("killed with all that it started after 1 s; ")
    assert result.text.endswith("[stdout]\nbegun")
    assert [each.survivors for each in receipts] == [0]
    assert receipts[0].pids_seen >= 3


async def test_a_cancel_kills_all_and_leaves_the_receipt(run: Run, receipts: list[KillReceipt]) -> None:
    with trio.move_on_after(0.3) as scope:
        await run("sleep", "60")
    assert scope.cancelled_caught
    assert [each.survivors for each in receipts] == [0]


async def test_a_flood_is_cut_off_and_says_so(run: Run) -> None:
    _, result = await run("yes")
    assert result.text.startswith("killed with all that it started: it wrote more than 1048576 bytes; ")
    assert len(result.text) < 2**21


async def test_a_signal_has_its_name(run: Run) -> None:
    _, result = await run("sh", "-c", "kill -ABRT $$")
    assert result.text.startswith("exit code 134 (SIGABRT)")


async def test_output_goes_to_whoever_listens_as_it_is_read(tool: Tool, context: ToolContext) -> None:
    heard: list[tuple[str, bytes]] = []
    listening = attrs.evolve(context, output=lambda stream, data: heard.append((stream, data)))
    arguments = tool.spec.parse({"argv": ["echo", "hello"]})
    await tool.run(arguments, listening, await tool.plan(arguments, listening))
    assert heard == [("stdout", b"hello\n")]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"argv": []}, InvalidArgument),
        ({"argv": "ls -l"}, InvalidArgument),
        ({"argv": [""]}, InvalidArgument),
        ({"argv": ["ls", "a\0b"]}, InvalidArgument),
        ({"argv": ["ls", "\udc80"]}, InvalidArgument),
        ({"argv": ["no-such-program"]}, NotFound),
        ({"argv": ["ls"], "cwd": "missing"}, NotFound),
        ({"argv": ["ls"], "timeout_s": 0}, InvalidArgument),
        ({"argv": ["ls"], "timeout_s": 1e9}, InvalidArgument),
    ],
)
async def test_a_call_that_cannot_be_is_refused_before_it_is_asked_for(
    tool: Tool, context: ToolContext, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await tool.plan(tool.spec.parse(arguments), context)


async def test_without_a_sandbox_it_is_refused_with_the_remedy(sandbox: Sandbox, context: ToolContext) -> None:
    none = SandboxReport((TierReport(4, False, reason="AppArmor refuses", remedy="write this profile"),))
    tool = run_tool(attrs.evolve(sandbox, report=none), trio.CapacityLimiter(1))
    with pytest.raises(SandboxTooWeak, match=r"AppArmor refuses \(write this profile\)"):
        await tool.plan(tool.spec.parse({"argv": ["ls"]}), context)


async def test_a_sandbox_that_became_weaker_since_is_refused(
    tool: Tool, sandbox: Sandbox, context: ToolContext
) -> None:
    arguments = tool.spec.parse({"argv": ["touch", "made"]})
    plan = await tool.plan(arguments, context)
    weaker = SandboxReport((TierReport(3, True),))
    result = await run_tool(attrs.evolve(sandbox, report=weaker), trio.CapacityLimiter(1)).run(arguments, context, plan)
    assert result.error == "sandbox_too_weak"
    assert not (context.workspace.root / "made").exists()


async def test_what_a_program_did_to_files_ends_its_result_and_a_time_out_leaves_them_as_they_were() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        (Path(folder) / "work").mkdir()
        async with bench(Path(folder) / "work", Path(folder) / "layers") as made:
            (made.root / "a").write_text("a\n")
            for_all(made.root)
            with Workspace.open(made.root) as workspace:
                tool, context = run_tool(made.sandbox, trio.CapacityLimiter(2)), ToolContext(workspace, lambda: 0.0)
                results = []
                for argv, timeout_s in (
                    (["cp", "a", "b"], 20),
                    (["dd", "if=/dev/zero", "of=a", "bs=1", "count=1G"], 1),
                ):
                    arguments = tool.spec.parse({"argv": argv, "timeout_s": timeout_s})
                    plan = await tool.plan(arguments, context)
                    assert plan.uncaptured == ""
                    assert plan.preview.endswith(
                        "what it does to files is kept apart until it has ended, and can be undone"
                    )
                    results.append(await tool.run(arguments, context, plan))
            assert results[0].text.endswith("\n[workspace]\ncreated b")
            assert results[1].error == "timeout"
            assert "; the workspace is as it was: its 1 changes were thrown away" in results[1].text
            assert (made.root / "a").read_text() == "a\n"
