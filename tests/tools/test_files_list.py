import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import InvalidArgument, NotFound, WorkspaceRefused
from palyra_trio.tools.beneath import Opener, by_walk
from palyra_trio.tools.files_list import MAX_LISTED
from tests.tools.conftest import Call, why_asked


async def test_a_listing_shows_paths_sizes_and_kinds(call: Call, root: Path) -> None:
    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("12345")
    (root / "link").symlink_to("src")
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"\xe9")).write_text("")
    _, result = await call("files.list", depth=2)
    assert result.text.splitlines() == [
        *("\\xe9  (0 bytes)", "link  (symlink)", "pipe  (special)", "src/", "src/a.py  (5 bytes)"),
    ]
    _, result = await call("files.list")
    assert "src/a.py" not in result.text
    _, result = await call("files.list", path="src")
    assert result.text == "src/a.py  (5 bytes)"


async def test_an_empty_folder_says_so(call: Call) -> None:
    _, result = await call("files.list")
    assert "holds no files" in result.text


async def test_a_long_listing_is_cut_and_says_so(call: Call, root: Path) -> None:
    for number in range(MAX_LISTED + 5):
        (root / f"{number:05}").touch()
    _, result = await call("files.list")
    lines = result.text.splitlines()
    assert len(lines) == MAX_LISTED + 1
    assert lines[-2].startswith(f"{MAX_LISTED - 1:05}")
    assert "more than" in lines[-1]


async def test_a_folder_for_secrets_asks(call: Call, root: Path) -> None:
    (root / ".ssh").mkdir()
    plan, _ = await call("files.list", path=".ssh")
    assert ".ssh" in why_asked(plan)


async def test_a_symlink_to_a_folder_lists_the_real_one(call: Call, root: Path, opener: Opener) -> None:
    (root / "real").mkdir()
    (root / "real" / "a").touch()
    (root / "link").symlink_to("real")
    if opener is by_walk:
        with pytest.raises(WorkspaceRefused):
            await call("files.list", path="link")
    else:
        _, result = await call("files.list", path="link")
        assert result.text == "real/a  (0 bytes)"


async def test_what_is_no_folder_is_refused(call: Call, root: Path) -> None:
    (root / "file").touch()
    for path in ("none", "file"):
        with pytest.raises(NotFound):
            await call("files.list", path=path)
    for depth in (0, 6):
        with pytest.raises(InvalidArgument):
            await call("files.list", depth=depth)
