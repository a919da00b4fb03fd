import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import StateConflict
from palyra_trio.core.policy import PathResource
from palyra_trio.tools.reading import check_asked, plan_read, why_ask
from palyra_trio.tools.registry import Plan
from palyra_trio.tools.workspace import Workspace
from tests.tools.conftest import why_asked


def test_an_ordinary_file_is_read_without_asking(workspace: Workspace, root: Path) -> None:
    (root / "notes.txt").write_text("x")

    assert plan_read(workspace, "notes.txt") == Plan(resources=(PathResource("notes.txt", exists=True),))


def test_a_key_file_is_asked_for(workspace: Workspace, root: Path) -> None:
    (root / ".env").write_text("x")

    assert "environment file" in why_asked(plan_read(workspace, ".env"))


def test_a_link_to_a_key_file_is_asked_for_and_says_where_it_leads(kernel_workspace: Workspace, root: Path) -> None:
    (root / ".env").write_text("x")
    (root / "notes").symlink_to(".env")

    assert why_asked(plan_read(kernel_workspace, "notes")).startswith("notes leads to .env: ")


def test_a_hard_link_is_asked_for(workspace: Workspace, root: Path) -> None:
    (root / "a").write_text("x")
    os.link(root / "a", root / "b")

    assert "hard link" in why_asked(plan_read(workspace, "b"))


def test_what_became_sensitive_after_the_plan_is_not_read(workspace: Workspace, root: Path) -> None:
    (root / "a").write_text("x")
    plan = plan_read(workspace, "a")
    os.link(root / "a", root / "b")
    found = workspace.stat("a")

    assert why_ask("a", found)
    with pytest.raises(StateConflict, match="has changed since it was planned"):
        check_asked("a", found, plan)
    check_asked("a", found, Plan(resources=(PathResource("a", exists=True, sensitive="it was asked for"),)))


def test_a_link_is_judged_by_its_own_name_and_by_where_it_leads(kernel_workspace: Workspace, root: Path) -> None:
    (root / "private").mkdir()
    (root / "private" / "x").write_text("x")
    (root / "notes").symlink_to("private/x")

    named = [each.name for each in plan_read(kernel_workspace, "./notes").resources]

    assert named == ["notes", "private/x"]


def test_a_link_that_leads_elsewhere_than_was_judged_is_not_read(kernel_workspace: Workspace, root: Path) -> None:
    (root / "a").write_text("x")
    (root / "b").write_text("x")
    (root / "notes").symlink_to("a")
    plan = plan_read(kernel_workspace, "notes")
    (root / "notes").unlink()
    (root / "notes").symlink_to("b")

    with pytest.raises(StateConflict, match="leads to b"):
        check_asked("notes", kernel_workspace.stat("notes"), plan)
