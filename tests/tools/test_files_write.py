import os
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, NotFound, StateConflict, WorkspaceRefused
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.registry import Registry, ToolContext
from tests.tools.conftest import Call, why_asked


async def test_a_new_file_is_planned_as_a_diff_from_nothing_and_then_written(call: Call, root: Path) -> None:
    plan, result = await call("files.write", path="a/b.txt", text="one\n")
    assert plan.preview == "--- /dev/null\n+++ b/a/b.txt\n@@ -0,0 +1 @@\n+one\n"
    assert plan.changes == (FileChange("a/b.txt", None, digest(b"one\n")),)
    assert plan.blobs == {digest(b"one\n"): b"one\n"}
    assert not result.error
    assert (root / "a" / "b.txt").read_text() == "one\n"


async def test_a_replaced_file_keeps_its_old_content_as_a_blob(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"old\xff\n")
    plan, _ = await call("files.write", path="f", text="new\n")
    assert plan.changes == (FileChange("f", digest(b"old\xff\n"), digest(b"new\n")),)
    assert plan.blobs[digest(b"old\xff\n")] == b"old\xff\n"
    assert "-old\\xff\n+new\n" in plan.preview


async def test_planning_writes_nothing(registry: Registry, context: ToolContext, root: Path) -> None:
    tool = registry.get("files.write")
    await tool.plan(tool.spec.parse({"path": "a/b", "text": "x"}), context)
    assert os.listdir(root) == []


@pytest.mark.parametrize("meanwhile", ["changed", "removed", "created"])
async def test_a_file_that_changed_after_the_plan_is_left_alone(
    registry: Registry, context: ToolContext, root: Path, meanwhile: str
) -> None:
    if meanwhile != "created":
        (root / "f").write_text("seen")
    tool = registry.get("files.write")
    arguments = tool.spec.parse({"path": "f", "text": "ours"})
    plan = await tool.plan(arguments, context)
    if meanwhile == "removed":
        (root / "f").unlink()
    else:
        (root / "f").write_text("theirs")
    result = await tool.run(arguments, context, plan)
    assert result.error == "changed_since_planned"
    assert os.listdir(root) == ([] if meanwhile == "removed" else ["f"])
    assert meanwhile == "removed" or (root / "f").read_text() == "theirs"


async def test_a_folder_that_became_a_symlink_after_the_plan_is_not_written_through(
    registry: Registry, context: ToolContext, root: Path, outside: Path
) -> None:
    (root / "folder").mkdir()
    tool = registry.get("files.write")
    arguments = tool.spec.parse({"path": "folder/new.txt", "text": "harm"})
    plan = await tool.plan(arguments, context)
    (root / "folder").rmdir()
    (root / "folder").symlink_to(outside)
    with pytest.raises(WorkspaceRefused):
        await tool.run(arguments, context, plan)
    assert os.listdir(outside) == ["secret.txt"]


async def test_the_same_content_again_changes_nothing(call: Call, root: Path) -> None:
    (root / "f").write_text("same")
    before = (root / "f").stat().st_mtime_ns
    plan, result = await call("files.write", path="f", text="same")
    assert plan.changes == ()
    assert "already" in result.text
    assert (root / "f").stat().st_mtime_ns == before


async def test_a_file_that_exists_is_kept_when_overwriting_is_off(call: Call, root: Path) -> None:
    (root / "f").write_text("old")
    with pytest.raises(StateConflict, match="exists"):
        await call("files.write", path="f", text="new", overwrite=False)
    await call("files.write", path="g", text="new", overwrite=False)
    assert (root / "f").read_text() == "old"


async def test_a_binary_file_is_not_dumped_in_the_preview_but_what_replaces_it_is_shown(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"\0\1\2")
    plan, _ = await call("files.write", path="f", text="text\n")
    shown = "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+text\n"
    assert plan.preview == f"Binary file f differs (3 bytes -> 5 bytes)\n{shown}"


async def test_an_empty_new_file_still_has_a_preview(call: Call, root: Path) -> None:
    plan, _ = await call("files.write", path="f", text="")
    assert plan.preview == "--- /dev/null\n+++ b/f\n"
    assert (root / "f").read_bytes() == b""


@pytest.mark.parametrize("path", [".env", ".git/hooks/pre-commit", "palyra.toml"])
async def test_a_write_to_a_sensitive_place_asks(call: Call, path: str) -> None:
    plan, _ = await call("files.write", path=path, text="x")
    assert path in why_asked(plan)


async def test_what_cannot_be_written_says_why(call: Call, root: Path, outside: Path) -> None:
    (root / "folder").mkdir()
    (root / "file").write_text("x")
    (root / "link").symlink_to("file")
    (root / "hard").hardlink_to(outside / "secret.txt")
    with pytest.raises(InvalidArgument, match="is a folder"):
        await call("files.write", path="folder", text="x")
    with pytest.raises(InvalidArgument, match="workspace folder itself"):
        await call("files.write", path=".", text="x")
    with pytest.raises(NotFound):
        await call("files.write", path="file/below", text="x")
    for path in ("link", "hard", "../x", "/etc/x"):
        with pytest.raises(WorkspaceRefused):
            await call("files.write", path=path, text="x")
    with pytest.raises(InvalidArgument, match="half a character"):
        await call("files.write", path="f", text="\ud83d")
