import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import InvalidArgument, NotFound, StateConflict, WorkspaceRefused
from palyra_trio.core.policy import PathResource
from palyra_trio.tools.beneath import Opener, by_walk
from palyra_trio.tools.files_read import MAX_SHOWN_BYTES, SMALL_BYTES
from palyra_trio.tools.registry import Plan, Registry, ToolContext
from tests.tools.conftest import Call, why_asked


def numbered(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(1, count + 1))


async def test_a_file_is_read_whole(call: Call, root: Path) -> None:
    (root / "a.txt").write_text("one\ntwo")
    plan, result = await call("files.read", path="a.txt")
    assert plan == Plan(resources=(PathResource("a.txt", exists=True),))
    assert result.text == "a.txt: lines 1-2 of 2\none\ntwo"


@pytest.mark.parametrize(
    ("start", "count", "header", "shown"),
    [
        (1, 2, "lines 1-2 of 5; start_line=3 reads on", "line 1\nline 2\n"),
        (4, 2, "lines 4-5 of 5", "line 4\nline 5\n"),
        (5, 9, "lines 5-5 of 5", "line 5\n"),
        (3, None, "lines 3-5 of 5", "line 3\nline 4\nline 5\n"),
    ],
)
async def test_a_range_says_what_it_is_of_how_many(
    call: Call, root: Path, start: int, count: int | None, header: str, shown: str
) -> None:
    (root / "a.txt").write_text(numbered(5))
    _, result = await call("files.read", path="a.txt", start_line=start, max_lines=count)
    assert result.text == f"a.txt: {header}\n{shown}"


async def test_a_range_past_the_end_says_how_many_lines_there_are(call: Call, root: Path) -> None:
    (root / "a.txt").write_text(numbered(5))
    _, result = await call("files.read", path="a.txt", start_line=6)
    assert result.text == "a.txt has 5 lines, so none from line 6 on"
    (root / "empty").touch()
    _, result = await call("files.read", path="empty")
    assert result.text == "empty is empty"


@pytest.mark.parametrize("count", [60_000, 400_000])
async def test_a_large_file_is_read_in_parts_that_join_to_the_whole(call: Call, root: Path, count: int) -> None:
    text = numbered(count)
    assert (len(text) < SMALL_BYTES) == (count == 60_000)
    (root / "a.txt").write_text(text)
    _, result = await call("files.read", path="a.txt")
    header, first = result.text.split("\n", 1)
    assert len(first) <= MAX_SHOWN_BYTES
    last = first.count("\n")
    assert header == f"a.txt: lines 1-{last} of {count}; start_line={last + 1} reads on"
    _, result = await call("files.read", path="a.txt", start_line=last + 1, max_lines=1)
    assert result.text.endswith(f"\nline {last + 1}\n")
    _, result = await call("files.read", path="a.txt", start_line=count)
    assert result.text == f"a.txt: lines {count}-{count} of {count}\nline {count}\n"


async def test_a_line_longer_than_is_shown_is_cut_and_says_so(call: Call, root: Path) -> None:
    (root / "a.js").write_text("x" * (3 * SMALL_BYTES) + "\ny\n")
    _, result = await call("files.read", path="a.js")
    header, text = result.text.split("\n", 1)
    assert "line 1 is longer than is shown" in header
    assert "of 2" in header
    assert len(text) == MAX_SHOWN_BYTES
    _, result = await call("files.read", path="a.js", start_line=2)
    assert result.text == "a.js: lines 2-2 of 2\ny\n"


async def test_bytes_that_are_not_utf_8_are_shown_as_such(call: Call, root: Path) -> None:
    (root / "latin").write_bytes(b"caf\xe9\n")
    _, result = await call("files.read", path="latin")
    assert result.text.endswith("caf\\xe9\n")


async def test_a_binary_file_is_described(call: Call, root: Path) -> None:
    (root / "logo").write_bytes(b"\x89PNG\0" + b"x" * 100)
    _, result = await call("files.read", path="logo")
    assert "not text: 105 bytes" in result.text
    assert "89 50 4e 47" in result.text
    assert "xxx" not in result.text


async def test_crlf_is_named_and_not_shown(call: Call, root: Path) -> None:
    (root / "dos").write_bytes(b"a\r\nb\r\n")
    _, result = await call("files.read", path="dos")
    assert result.text == "dos: lines 1-2 of 2; lines end in CRLF\na\nb\n"


async def test_a_secret_file_asks(call: Call, root: Path) -> None:
    (root / ".env").write_text("KEY=1\n")
    plan, result = await call("files.read", path=".env")
    assert "environment file" in why_asked(plan)
    assert "KEY=1" in result.text


async def test_a_symlink_to_a_secret_file_asks_or_is_refused(call: Call, root: Path, opener: Opener) -> None:
    (root / ".env").write_text("KEY=1\n")
    (root / "notes").symlink_to(".env")
    if opener is by_walk:
        with pytest.raises(WorkspaceRefused):
            await call("files.read", path="notes")
    else:
        plan, _ = await call("files.read", path="notes")
        assert why_asked(plan).startswith("notes leads to .env")


async def test_a_hard_link_asks(call: Call, root: Path, outside: Path) -> None:
    (root / "notes").hardlink_to(outside / "secret.txt")
    plan, _ = await call("files.read", path="notes")
    assert "hard link" in why_asked(plan)


async def test_a_file_that_became_secret_after_the_plan_is_not_read(
    registry: Registry, context: ToolContext, root: Path
) -> None:
    (root / "notes").write_text("harmless")
    tool = registry.get("files.read")
    arguments = tool.spec.parse({"path": "notes"})
    plan = await tool.plan(arguments, context)
    (root / ".env").write_text("KEY=1\n")
    os.unlink(root / "notes")
    (root / "notes").hardlink_to(root / ".env")
    with pytest.raises(StateConflict):
        await tool.run(arguments, context, plan)


async def test_what_cannot_be_read_says_why(call: Call, root: Path) -> None:
    (root / "folder").mkdir()
    with pytest.raises(NotFound):
        await call("files.read", path="none")
    with pytest.raises(InvalidArgument, match="is a folder"):
        await call("files.read", path="folder")
    with pytest.raises(WorkspaceRefused):
        await call("files.read", path="../outside")
