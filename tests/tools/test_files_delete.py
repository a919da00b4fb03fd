import os
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, NotFound, WorkspaceRefused
from palyra_trio.core.policy import PathResource
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.registry import Registry, ToolContext
from palyra_trio.tools.undo import undo
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace
from tests.tools.conftest import Call, why_asked


async def test_a_file_is_deleted_and_its_content_kept(call: Call, root: Path, workspace: Workspace) -> None:
    (root / "f").write_bytes(b"one\n")
    plan, result = await call("files.delete", path="f")
    assert result.text == "deleted f"
    assert os.listdir(root) == []
    assert plan.preview == "deletes f (4 bytes)\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n"
    assert plan.changes == (FileChange("f", digest(b"one\n"), None),)
    assert plan.resources == (PathResource("f", exists=True),)

    undo(workspace, plan.changes, plan.blobs.__getitem__)
    assert (root / "f").read_bytes() == b"one\n"


async def test_an_empty_file_and_a_binary_one_are_deleted_too(call: Call, root: Path) -> None:
    (root / "empty").touch()
    (root / "binary").write_bytes(b"\0\1")
    assert (await call("files.delete", path="empty"))[0].preview.startswith("deletes empty (0 bytes)\n")
    plan, _ = await call("files.delete", path="binary")
    assert plan.preview == "deletes binary (2 bytes)\nBinary file binary differs (2 bytes -> no file)\n"
    assert os.listdir(root) == []


async def test_of_a_long_file_the_person_sees_the_beginning_and_how_much_there_is(call: Call, root: Path) -> None:
    (root / "f").write_text("".join(f"{number}\n" for number in range(1000)))
    plan, _ = await call("files.delete", path="f")
    lines = plan.preview.splitlines()
    assert lines[0] == "deletes f (3890 bytes)"
    assert lines[4] == "-0"
    assert lines[-2:] == ["-96", "… and 903 more lines"]


async def test_a_name_with_a_line_break_stays_on_one_line(call: Call, root: Path) -> None:
    (root / "f\n  risk       low").touch()
    plan, _ = await call("files.delete", path="f\n  risk       low")
    assert plan.preview.splitlines()[0] == "deletes f\\n  risk       low (0 bytes)"


async def test_planning_deletes_nothing(registry: Registry, context: ToolContext, root: Path) -> None:
    (root / "f").touch()
    tool = registry.get("files.delete")
    await tool.plan(tool.spec.parse({"path": "f"}), context)
    assert os.listdir(root) == ["f"]


@pytest.mark.parametrize("meanwhile", ["changed", "removed"])
async def test_a_file_that_changed_after_the_plan_stays(
    registry: Registry, context: ToolContext, root: Path, meanwhile: str
) -> None:
    (root / "f").write_text("seen")
    tool = registry.get("files.delete")
    arguments = tool.spec.parse({"path": "f"})
    plan = await tool.plan(arguments, context)
    if meanwhile == "removed":
        (root / "f").unlink()
    else:
        (root / "f").write_text("theirs")
    result = await tool.run(arguments, context, plan)
    assert result.error == "changed_since_planned"
    assert os.listdir(root) == ([] if meanwhile == "removed" else ["f"])


async def test_a_folder_that_became_a_symlink_after_the_plan_is_not_deleted_through(
    registry: Registry, context: ToolContext, root: Path, outside: Path
) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "secret.txt").write_text("OUTSIDE\n")
    tool = registry.get("files.delete")
    arguments = tool.spec.parse({"path": "folder/secret.txt"})
    plan = await tool.plan(arguments, context)
    (root / "folder").rename(root / "aside")
    (root / "folder").symlink_to(outside)
    with pytest.raises(WorkspaceRefused):
        await tool.run(arguments, context, plan)
    assert os.listdir(outside) == ["secret.txt"]


async def test_what_cannot_be_deleted_says_why(call: Call, root: Path, outside: Path) -> None:
    (root / "folder").mkdir()
    (root / "out").symlink_to(outside)
    (root / "link").symlink_to("folder")
    (root / "hard").hardlink_to(outside / "secret.txt")
    with (root / "huge").open("wb") as huge:
        huge.truncate(MAX_CHANGED_BYTES + 1)
    with pytest.raises(NotFound):
        await call("files.delete", path="none")
    with pytest.raises(InvalidArgument, match="is a folder"):
        await call("files.delete", path="folder")
    with pytest.raises(InvalidArgument, match="workspace folder itself"):
        await call("files.delete", path=".")
    with pytest.raises(InvalidArgument, match="can be brought back"):
        await call("files.delete", path="huge")
    for path in ("link", "hard", "out", "out/secret.txt", "../outside/secret.txt", "/etc/passwd"):
        with pytest.raises(WorkspaceRefused):
            await call("files.delete", path=path)
    assert os.listdir(outside) == ["secret.txt"]
    assert len(os.listdir(root)) == 5


async def test_a_sensitive_file_asks(call: Call, root: Path) -> None:
    (root / ".env").touch()
    plan, _ = await call("files.delete", path=".env")
    assert "environment file" in why_asked(plan)
