import os
import shutil
import subprocess
from pathlib import Path

import pytest

from palyra_trio.core.errors import NotFound
from palyra_trio.tools.gitignore import walk
from palyra_trio.tools.workspace import Workspace


def grow(root: Path, *files: str, **ignored: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for folder, lines in ignored.items():
        (root / folder.strip("_") / ".gitignore").write_text(lines)


def files(workspace: Workspace, folder: str = ".", depth: int = 20) -> list[str]:
    return [entry.path for entry in walk(workspace, folder, depth) if entry.kind != "folder"]


TREE = (
    *("keep.py", "a.pyc", "build/out", "src/build/out", "src/a.pyc", "src/keep.pyc", "src/x/log", "docs/a.log"),
    *("docs/sub/a.log", "docs/keep/a.log", "vendor/lib/a.py", "vendor/mine/b.py", "odd/[x]", "odd/x", "sp ace/t mp"),
)
ROOT_RULES = "*.pyc\r\n/build/\nvendor/*\n!vendor/mine/\n# comment\n\\[x]\nt\\ mp\n!\n"
SRC_RULES = "!keep.pyc\nx/\n"
DOCS_RULES = "*.log\n!/keep/*.log\n"


def test_the_walk_leaves_out_what_the_files_say_at_every_level(workspace: Workspace, root: Path) -> None:
    grow(root, *TREE, _=ROOT_RULES, src=SRC_RULES, docs=DOCS_RULES)
    assert [path for path in files(workspace) if not path.endswith(".gitignore")] == [
        *("docs/keep/a.log", "keep.py", "odd/x", "src/build/out", "src/keep.pyc", "vendor/mine/b.py"),
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_git_agrees(workspace: Workspace, root: Path) -> None:
    grow(root, *TREE, _=ROOT_RULES, src=SRC_RULES, docs=DOCS_RULES)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True, env=environment)
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, check=True, env=environment, capture_output=True
    )
    assert sorted(files(workspace)) == sorted(listed.stdout.decode().split("\0")[:-1])


def test_a_walk_that_begins_below_obeys_the_rules_above(workspace: Workspace, root: Path) -> None:
    grow(root, "src/a.pyc", "src/b.py", _="*.pyc\n")
    assert files(workspace, "src") == ["src/b.py"]


def test_an_ignored_folder_shows_its_files_to_who_names_it(workspace: Workspace, root: Path) -> None:
    grow(root, "build/out", "build/sub/out", _="build/\n")
    assert files(workspace) == [".gitignore"]
    assert files(workspace, "build") == ["build/out", "build/sub/out"]


def test_the_order_is_by_name_with_a_folder_before_its_files(workspace: Workspace, root: Path) -> None:
    grow(root, "b/z", "b/a", "a", "c")
    assert [entry.path for entry in walk(workspace, ".", 2)] == ["a", "b", "b/a", "b/z", "c"]
    assert [entry.path for entry in walk(workspace, ".", 1)] == ["a", "b", "c"]


def test_neither_git_nor_symlinks_nor_secrets_are_entered(workspace: Workspace, root: Path, outside: Path) -> None:
    grow(root, ".git/config", ".ssh/id_rsa", "a")
    (root / "link").symlink_to(outside)
    assert [entry.path for entry in walk(workspace, ".", 5)] == [".ssh", "a", "link"]
    assert files(workspace, ".ssh") == [".ssh/id_rsa"]


def test_a_gitignore_that_is_a_symlink_or_nonsense_ignores_nothing(workspace: Workspace, root: Path) -> None:
    grow(root, "a", "sub/a")
    (root / "rules").write_text("a\n")
    (root / ".gitignore").symlink_to("rules")
    (root / "sub" / ".gitignore").write_bytes(b"\xff\xfe\0\n!\n")
    assert files(workspace) == [".gitignore", "a", "rules", "sub/.gitignore", "sub/a"]


def test_names_that_are_not_utf_8_can_be_ignored_by_glob(workspace: Workspace, root: Path) -> None:
    grow(root, _="*.tmp\n")
    for name in (b"caf\xe9.tmp", b"caf\xe9.txt"):
        (root / os.fsdecode(name)).write_text("x")
    assert files(workspace) == [".gitignore", "caf\\xe9.txt"]


def test_the_first_folder_must_be_there(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        list(walk(workspace, "none", 1))
