import os
from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument, PalyraError, WorkspaceRefused
from palyra_trio.core.policy import PathResource
from palyra_trio.core.tape import FileChange
from palyra_trio.tools import files_patch
from palyra_trio.tools.registry import Plan, Registry, ToolContext
from palyra_trio.tools.workspace import Workspace
from tests.tools.conftest import Call, why_asked

PATCH = """\
diff --git a/changed b/changed
--- a/changed
+++ b/changed
@@ -1,2 +1,2 @@
 one
-two
+TWO
--- /dev/null
+++ b/sub/new
@@ -0,0 +1 @@
+fresh
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-bye
diff --git a/old b/moved
rename from old
rename to moved
--- a/old
+++ b/moved
@@ -1 +1 @@
-here
+there
"""
BEFORE = {"changed": b"one\ntwo\n", "gone": b"bye\n", "old": b"here\n"}
AFTER = {"changed": b"one\nTWO\n", "sub/new": b"fresh\n", "moved": b"there\n"}


def fill(root: Path) -> None:
    for name, data in BEFORE.items():
        (root / name).write_bytes(data)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def planned(registry: Registry, context: ToolContext, patch: str = PATCH) -> tuple[object, Plan]:
    tool = registry.get("files.apply_patch")
    arguments = tool.spec.parse({"patch": patch})
    return arguments, await tool.plan(arguments, context)


async def test_several_files_are_changed_made_moved_and_deleted_by_one_call(call: Call, root: Path) -> None:
    fill(root)
    plan, result = await call("files.apply_patch", patch=PATCH)
    assert tree(root) == AFTER
    assert result.text.splitlines() == [
        *("changed changed (8 bytes)", "created sub/new (6 bytes)", "created moved (6 bytes)"),
        *("deleted gone", "deleted old"),
    ]
    assert set(plan.changes) == {
        FileChange("changed", digest(b"one\ntwo\n"), digest(b"one\nTWO\n")),
        FileChange("sub/new", None, digest(b"fresh\n")),
        FileChange("moved", None, digest(b"there\n")),
        FileChange("gone", digest(b"bye\n"), None),
        FileChange("old", digest(b"here\n"), None),
    }


async def test_the_gate_sees_every_path_and_what_goes_away_always_asks(
    registry: Registry, context: ToolContext, root: Path
) -> None:
    fill(root)
    _, plan = await planned(registry, context)
    assert plan.resources == (
        PathResource("changed", exists=True),
        PathResource("sub/new"),
        PathResource("gone", exists=True, sensitive="the patch takes gone away"),
        PathResource("old", exists=True, sensitive="the patch takes old away"),
        PathResource("moved"),
    )
    assert tree(root) == BEFORE


async def test_one_path_among_many_that_is_sensitive_is_said_to_be(call: Call, root: Path) -> None:
    plan, _ = await call(
        "files.apply_patch", patch="--- /dev/null\n+++ b/x\n--- /dev/null\n+++ b/.git/hooks/pre-push\n"
    )
    assert ".git/hooks/pre-push" in why_asked(plan)


async def test_where_one_hunk_does_not_fit_nothing_is_planned_and_every_misfit_is_named(
    registry: Registry, context: ToolContext, root: Path
) -> None:
    fill(root)
    (root / "changed").write_bytes(b"one\n2\n")
    (root / "gone").unlink()
    with pytest.raises(InvalidArgument) as refused:
        await planned(registry, context)
    assert "nothing was written" in str(refused.value)
    assert r"changed: hunk @@ -1,2 +1,2 @@ does not fit: line 2 is '2\n', not 'two\n'" in str(refused.value)
    assert "gone: there is no gone" in str(refused.value)


async def test_a_hunk_that_went_elsewhere_is_reported_to_the_person_and_the_model(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"a\nb\nc\n")
    plan, result = await call("files.apply_patch", patch="--- a/f\n+++ b/f\n@@ -9 +9 @@\n-b\n+B\n")
    told = "f: hunk @@ -9 +9 @@ fits at line 2 only, and went there"
    assert plan.preview.splitlines()[0] == told
    assert result.text.splitlines() == ["changed f (6 bytes)", told]


async def test_both_spellings_of_a_patch_are_taken(call: Call, root: Path) -> None:
    fill(root)
    await call(
        "files.apply_patch",
        patch="*** Begin Patch\n*** Update File: changed\n@@ one\n-two\n+TWO\n*** Delete File: gone\n*** End Patch",
    )
    assert tree(root) == {"changed": b"one\nTWO\n", "old": b"here\n"}


async def test_other_bytes_and_missing_newlines_outlive_a_patch_beside_them(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"\xff\nold\nend")
    await call("files.apply_patch", patch="--- a/f\n+++ b/f\n@@ -2 +2 @@\n-old\n+new\n")
    assert (root / "f").read_bytes() == b"\xff\nnew\nend"


async def test_a_name_with_a_line_break_stays_on_one_line(call: Call, root: Path) -> None:
    (root / "f\n  risk").write_bytes(b"0\n1\n2\n3\nold\n")
    plan, _ = await call("files.apply_patch", patch='--- "a/f\\n  risk"\n+++ "b/f\\n  risk"\n@@ -2 +2 @@\n-old\n+new\n')
    assert plan.preview.startswith("f\\n  risk: ")
    assert not any(line.startswith("  risk") for line in plan.preview.splitlines())


async def test_a_binary_file_can_be_moved_but_not_patched(call: Call, root: Path) -> None:
    (root / "f").write_bytes(b"\0")
    with pytest.raises(InvalidArgument, match="f is not text"):
        await call("files.apply_patch", patch="--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y\n")
    await call("files.apply_patch", patch="diff --git a/f b/g\nrename from f\nrename to g\n")
    assert tree(root) == {"g": b"\0"}


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("--- /dev/null\n+++ b/old\n@@ -0,0 +1 @@\n+x\n", "old exists, and the patch makes it"),
        ("diff --git a/old b/gone\nrename from old\nrename to gone\n", "gone exists"),
        ("--- a/changed\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n", "deletes changed, but not all"),
        ("--- a/old\n+++ b/old\n@@ -1 +1 @@\n-here\n+x\n--- a/./old\n+++ b/./old\n@@ -1 +1 @@\n-x\n+y\n", "old twice"),
        ("--- /dev/null\n+++ b/n\ud83d\n", "half a character"),
        ("--- /dev/null\n+++ b/x\n" * 101, "more than 100 files"),
    ],
)
async def test_what_contradicts_the_files_or_itself_is_refused(call: Call, root: Path, patch: str, why: str) -> None:
    fill(root)
    with pytest.raises(InvalidArgument, match=why):
        await call("files.apply_patch", patch=patch)
    assert tree(root) == BEFORE


async def test_a_patch_may_not_be_larger_than_one_commit_of_the_journal_takes(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    monkeypatch.setattr(files_patch, "MAX_PATCHED_BYTES", 16)
    with pytest.raises(InvalidArgument, match="more than 16 bytes"):
        await call("files.apply_patch", patch=PATCH)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "out/x", "out/secret.txt", "link", "hard"])
@pytest.mark.parametrize("kind", ["write", "create", "delete", "rename"])
async def test_no_patch_leads_out_of_the_workspace(call: Call, root: Path, outside: Path, path: str, kind: str) -> None:
    fill(root)
    (root / "out").symlink_to(outside)
    (root / "link").symlink_to(outside / "secret.txt")
    (root / "hard").hardlink_to(outside / "secret.txt")
    patch = {
        "write": f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-OUTSIDE\n+x\n",
        "create": f"--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+x\n",
        "delete": f"--- {path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-OUTSIDE\n",
        "rename": f"diff --git a/x b/x\nrename from old\nrename to {path}\n",
    }[kind]
    with pytest.raises(WorkspaceRefused):
        await call("files.apply_patch", patch=patch)
    assert tree(outside) == {"secret.txt": b"OUTSIDE\n"}
    assert (root / "old").exists()


async def test_a_folder_that_became_a_symlink_after_the_plan_is_not_written_through(
    registry: Registry, context: ToolContext, root: Path, outside: Path
) -> None:
    fill(root)
    (root / "sub").mkdir()
    arguments, plan = await planned(registry, context)
    (root / "sub").rmdir()
    (root / "sub").symlink_to(outside)
    with pytest.raises(WorkspaceRefused):
        await registry.get("files.apply_patch").run(arguments, context, plan)
    assert os.listdir(outside) == ["secret.txt"]
    (root / "sub").unlink()
    assert tree(root) == BEFORE


@pytest.mark.parametrize("name", ["changed", "gone", "old", "moved"])
async def test_where_one_file_changed_after_the_plan_none_is_touched(
    registry: Registry, context: ToolContext, root: Path, name: str
) -> None:
    fill(root)
    arguments, plan = await planned(registry, context)
    (root / name).write_bytes(b"theirs\n")
    result = await registry.get("files.apply_patch").run(arguments, context, plan)
    assert result.error == "changed_since_planned"
    assert name in result.text
    assert tree(root) == BEFORE | {name: b"theirs\n"}


@pytest.mark.parametrize("failing", range(5))
@pytest.mark.parametrize("late", [False, True])
async def test_where_one_write_fails_those_before_it_are_put_back(
    registry: Registry, context: ToolContext, root: Path, monkeypatch: pytest.MonkeyPatch, failing: int, late: bool
) -> None:
    fill(root)
    arguments, plan = await planned(registry, context)
    broken = plan.changes[failing].path
    failed: list[str] = []
    for name in ("write", "remove"):
        real = getattr(Workspace, name)

        def once(self: Workspace, path: str, *rest: object, real: object = real, **more: object) -> None:
            breaks = path == broken and not failed
            if not breaks or late:
                real(self, path, *rest, **more)  # type: ignore[operator]
            if breaks:
                failed.append(path)
                raise PalyraError("the disk broke")

        monkeypatch.setattr(Workspace, name, once)
    run = registry.get("files.apply_patch").run(arguments, context, plan)
    if failing == 0 and not late:
        with pytest.raises(PalyraError, match="the disk broke"):
            await run
    else:
        result = await run
        assert result.error == "internal"
        assert result.text == "the disk broke; what was written before it was put back"
    assert tree(root) == BEFORE


async def test_what_could_not_be_put_back_is_named(
    registry: Registry, context: ToolContext, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    arguments, plan = await planned(registry, context)
    real = Workspace.write

    def write(self: Workspace, path: str, data: bytes, *, before: str | None) -> None:
        if path == "sub/new":
            raise PalyraError("the disk broke")
        real(self, path, data, before=before)
        (root / path).write_bytes(b"somebody else\n")

    monkeypatch.setattr(Workspace, "write", write)
    result = await registry.get("files.apply_patch").run(arguments, context, plan)
    assert "changed stays changed, because it could not be put back" in result.text
    assert (root / "changed").read_bytes() == b"somebody else\n"
