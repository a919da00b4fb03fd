import threading
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest
import trio

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.files_search import MAX_LINE_BYTES, MAX_SEARCHED_BYTES
from palyra_trio.tools.registry import Registry, ToolContext
from palyra_trio.tools.workspace import Found, Workspace
from tests.tools.conftest import Call, why_asked


@pytest.fixture(autouse=True)
def tree(root: Path) -> None:
    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("import os\n\ndef find():\n    return os.name  # find os\n")
    (root / "src" / "b.md").write_text("Find it\r\nhere (x)\r\n")
    (root / "notes.txt").write_text("nothing")
    (root / "skipped.log").write_text("find me not\n")
    (root / ".gitignore").write_text("*.log\n")


async def test_a_text_is_found_by_line(call: Call) -> None:
    _, result = await call("files.search", pattern="find")
    assert result.text.splitlines() == ["src/a.py:3: def find():", "src/a.py:4:     return os.name  # find os"]


async def test_a_text_is_no_pattern_unless_it_is_said_to_be_one(call: Call) -> None:
    _, result = await call("files.search", pattern="(x)")
    assert result.text == "src/b.md:2: here (x)"
    _, result = await call("files.search", pattern="f.nd")
    assert result.text == "nothing matches"


@pytest.mark.parametrize(
    ("pattern", "lines"),
    [
        ("(?i)^find", ["src/b.md:1: Find it"]),
        ("name.*os$", ["src/a.py:4:     return os.name  # find os"]),
        (r"os\s+def", []),
        ("^nothing$", ["notes.txt:1: nothing"]),
        (r"\x00", []),
    ],
)
async def test_a_regular_expression_matches_within_a_line(call: Call, pattern: str, lines: list[str]) -> None:
    _, result = await call("files.search", pattern=pattern, regex=True)
    assert result.text.splitlines() == (lines or ["nothing matches"])


async def test_a_pattern_that_fits_everywhere_shows_each_line_once(call: Call, root: Path) -> None:
    (root / "three.txt").write_text("a\n\nb\n")
    _, result = await call("files.search", pattern="x*", regex=True, path="three.txt")
    assert result.text.splitlines() == ["three.txt:1: a", "three.txt:2: ", "three.txt:3: b"]


async def test_a_pattern_that_would_blow_up_elsewhere_is_linear_here(call: Call, root: Path) -> None:
    (root / "hostile.txt").write_text("a" * 100_000)
    _, result = await call("files.search", pattern="(a|aa)+$x", regex=True)
    assert result.text == "nothing matches"


async def test_a_glob_narrows_a_search_or_stands_alone(call: Call) -> None:
    _, result = await call("files.search", pattern="i", glob="*.md")
    assert result.text == "src/b.md:1: Find it"
    _, result = await call("files.search", glob="src/**/*.py")
    assert result.text == "src/a.py"
    _, result = await call("files.search", glob="*.log")
    assert result.text == "nothing matches"


async def test_one_file_can_be_searched_even_an_ignored_one(call: Call) -> None:
    _, result = await call("files.search", pattern="find", path="skipped.log")
    assert result.text == "skipped.log:1: find me not"


async def test_matches_are_bounded_and_long_lines_cut(call: Call, root: Path) -> None:
    (root / "many.txt").write_text("hit\n" * 50)
    (root / "long.txt").write_text("x" * 5000)
    _, result = await call("files.search", pattern="hit", max_matches=3)
    assert result.text.splitlines()[2:] == ["many.txt:3: hit", "… there are more than 3 matches; narrow the search"]
    _, result = await call("files.search", pattern="xxx")
    assert result.text == "long.txt:1: " + "x" * MAX_LINE_BYTES + "…"


async def test_binary_secret_hard_linked_and_huge_files_are_not_searched(call: Call, root: Path, outside: Path) -> None:
    (root / "binary").write_bytes(b"\0 needle")
    (root / ".env").write_text("needle")
    (root / "hard").hardlink_to(outside / "secret.txt")
    (root / "huge").write_text("needle")
    with (root / "huge").open("r+b") as huge:
        huge.truncate(MAX_SEARCHED_BYTES + 1)
    (root / ".ssh").mkdir()
    (root / ".ssh" / "config").write_text("needle")
    for pattern in ("needle", "OUTSIDE"):
        _, result = await call("files.search", pattern=pattern)
        assert result.text.splitlines() == [
            "nothing matches",
            "not searched: 2 to be asked for, with files.read",
            "not searched: 1 folders for secrets",
            f"not searched: 1 larger than {MAX_SEARCHED_BYTES} bytes",
        ]
    plan, result = await call("files.search", pattern="needle", path=".env")
    assert "environment file" in why_asked(plan)
    assert result.text == ".env:1: needle"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"pattern": "(", "regex": True}, {"glob": "!x"}, {"glob": "#"}, {"pattern": "x", "max_matches": 0}],
)
async def test_a_search_for_nothing_or_nonsense_is_refused(call: Call, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        await call("files.search", **arguments)


class Paused(Workspace):
    """A workspace whose first file is not read until the test lets it be."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.reached = trio.Event()
        self.go_on = threading.Event()
        self.files_read = 0

    @contextmanager
    def reading(self, path: str, *, follow: bool = True) -> Generator[tuple[FileIO, Found]]:
        if not path.endswith(".gitignore"):
            self.files_read += 1
            trio.from_thread.run_sync(self.reached.set)
            self.go_on.wait()
        with super().reading(path, follow=follow) as opened:
            yield opened


async def test_a_cancelled_search_stops_at_the_next_file(root: Path, registry: Registry) -> None:
    with Paused.open(root) as workspace, trio.CancelScope() as scope:
        context = ToolContext(workspace, lambda: 0.0)
        tool = registry.get("files.search")
        arguments = tool.spec.parse({"pattern": "find"})
        plan = await tool.plan(arguments, context)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tool.run, arguments, context, plan)
            await workspace.reached.wait()
            scope.cancel()
            workspace.go_on.set()
    assert scope.cancelled_caught
    assert workspace.files_read == 1
