"""A workspace in both of its modes, and a way to call a tool as the runtime does: parse, plan, run."""

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.core.policy import PathResource
from palyra_trio.tools.beneath import Opener, by_kernel, by_walk, choose
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.registry import Plan, Registry, ToolContext, ToolResult
from palyra_trio.tools.workspace import Workspace

Call = Callable[..., Awaitable[tuple[Plan, ToolResult]]]


def why_asked(plan: Plan) -> str:
    """Return why the gate asks for the plan in any case, as its paths say."""
    return "; ".join({each.sensitive for each in plan.resources if isinstance(each, PathResource)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    """A layer over the workspace, made by hand."""
    folder = tmp_path / "upper"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text("OUTSIDE\n")
    return folder


def skip_without_openat2(root: Path) -> None:
    fd = os.open(root, os.O_PATH)
    try:
        if choose(fd) is not by_kernel:
            pytest.skip("this kernel has no openat2")
    finally:
        os.close(fd)


@pytest.fixture(params=[by_kernel, by_walk], ids=["openat2", "walk"])
def opener(root: Path, request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    if opener is by_kernel:
        skip_without_openat2(root)
    return opener


@pytest.fixture
def workspace(root: Path, opener: Opener) -> Iterator[Workspace]:
    with Workspace.open(root, opener) as workspace:
        yield workspace


@pytest.fixture
def kernel_workspace(root: Path) -> Iterator[Workspace]:
    skip_without_openat2(root)
    with Workspace.open(root, by_kernel) as workspace:
        yield workspace


@pytest.fixture
def walk_workspace(root: Path) -> Iterator[Workspace]:
    with Workspace.open(root, by_walk) as workspace:
        yield workspace


@pytest.fixture
def registry() -> Registry:
    return Registry(builtin_tools())


@pytest.fixture
def context(workspace: Workspace) -> ToolContext:
    return ToolContext(workspace, now=lambda: 1_760_000_000.0)


@pytest.fixture
def call(registry: Registry, context: ToolContext) -> Call:
    async def call(name: str, **arguments: Any) -> tuple[Plan, ToolResult]:
        tool = registry.get(name)
        parsed = tool.spec.parse(arguments)
        plan = await tool.plan(parsed, context)
        return plan, await tool.run(parsed, context, plan)

    return call
