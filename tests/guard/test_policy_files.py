"""Policies from files to an engine: what is refused, and that no policy takes this process with it."""

import os
import sys
from pathlib import Path

import pytest
import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.policy_files import (
    BRACKET_DEPTH,
    FILE_BYTES,
    FILES,
    build_engine,
    check_policies,
    load_engine,
    read_policy_files,
)
from palyra_trio.guard.policy_text import Fault, PolicySource
from palyra_trio.guard.presets import preset
from tests.guard.calls import INSIDE, SUBJECT, call

SOUND = '@id("a") permit (principal, action, resource);'


def condition(text: str) -> PolicySource:
    return PolicySource("deep.cedar", f'// one\n@id("a") permit (principal, action, resource) when {{ {text} }};')


# --- reading ---


def test_the_cedar_files_of_a_folder_are_read_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "b.cedar").write_text("// ü", "utf-8")
    (tmp_path / "a.cedar").write_text("")
    (tmp_path / "notes.txt").write_text("x")
    assert read_policy_files(tmp_path) == (PolicySource("a.cedar", ""), PolicySource("b.cedar", "// ü"))


def test_a_folder_that_is_not_there_has_no_policies(tmp_path: Path) -> None:
    assert read_policy_files(tmp_path / "policies") == ()


def test_a_link_to_a_folder_that_is_not_there_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "policies").symlink_to("dotfiles")
    with pytest.raises(ConfigInvalid, match="policies: it is a link to dotfiles, which is not there"):
        read_policy_files(tmp_path / "policies")
    (tmp_path / "dotfiles").mkdir()
    assert read_policy_files(tmp_path / "policies") == ()


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "policies").write_text("")
    with pytest.raises(ConfigInvalid, match=r"policies: Not a directory"):
        read_policy_files(tmp_path / "policies")


def test_every_file_that_cannot_be_a_policy_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.cedar").write_bytes(b"// \xff")
    (tmp_path / "folder.cedar").mkdir()
    (tmp_path / "gone.cedar").symlink_to(tmp_path / "nowhere")
    (tmp_path / "large.cedar").write_bytes(b" " * (FILE_BYTES + 1))
    (tmp_path / "whole.cedar").write_bytes(b" " * FILE_BYTES)
    os.mkfifo(tmp_path / "pipe.cedar")
    with pytest.raises(ConfigInvalid) as refused:
        read_policy_files(tmp_path)
    assert refused.value.message.splitlines()[1:] == [
        "bytes.cedar: it is not UTF-8 (byte 3)",
        "folder.cedar: Is a directory",
        "gone.cedar: No such file or directory",
        "large.cedar: it is larger than 256 KiB",
        "pipe.cedar: it is no regular file",
    ]


def test_there_is_a_most_number_of_files(tmp_path: Path) -> None:
    for number in range(FILES + 1):
        (tmp_path / f"{number}.cedar").touch()
    with pytest.raises(ConfigInvalid, match=f"more than {FILES} policy files"):
        read_policy_files(tmp_path)


# --- checking ---


async def test_a_set_without_faults_is_built_and_decides() -> None:
    engine = await load_engine([preset("default")])
    assert engine.evaluate(SUBJECT, call("fs.read"), INSIDE, "none").allowed


async def test_a_set_with_faults_is_refused_with_all_of_them() -> None:
    with pytest.raises(ConfigInvalid) as refused:
        await load_engine([PolicySource("a.cedar", "permit ("), PolicySource("b.cedar", "\npermit (")])
    assert refused.value.message == (
        "the policies were refused:\na.cedar:1: unexpected end of input\nb.cedar:2: unexpected end of input"
    )


async def test_no_policies_are_a_set_too_that_allows_nothing() -> None:
    assert not await check_policies([])
    assert not build_engine([]).evaluate(SUBJECT, call("run.local"), call("run.local").resources[0], "standing").allowed


@pytest.mark.parametrize(
    "text",
    [
        " && ".join(["true"] * 20_000),
        " || ".join(["context.common.approved"] * 5_000),
        "context.common.risk == " + " + ".join(["1"] * 20_000),
        "if true then " * 3_000 + "true" + " else true" * 3_000,
        "context" + ".common" * 20_000,
        "[1]" + ".contains(1)" * 5_000,
    ],
    ids=["and", "or", "plus", "if", "attributes", "calls"],
)
async def test_a_policy_that_takes_its_checker_down_is_named_and_this_process_lives(text: str) -> None:
    assert await check_policies([PolicySource("a.cedar", SOUND), condition(text)]) == (
        Fault("deep.cedar", 2, "the policy engine broke down over it (SIGSEGV): it is too deep or too long"),
    )


async def test_brackets_beyond_the_limit_are_refused_before_any_parser_sees_them() -> None:
    def nested(depth: int) -> PolicySource:
        return condition("(" * (depth - 1) + "true" + ")" * (depth - 1))  # the condition's own brace is one more

    assert await check_policies([nested(BRACKET_DEPTH)]) == ()
    for depth in (BRACKET_DEPTH + 1, 1_000, 100_000):
        assert await check_policies([nested(depth)]) == (Fault("deep.cedar", 1, "its brackets nest more than 64 deep"),)


@pytest.mark.parametrize("text", ["!" * 100 + "true", "-" * 100 + "1 == 1", "\x00", '"', "}", "💥", 'ip("::")'])
async def test_malformed_policies_are_faults_and_nothing_more(text: str) -> None:
    (fault, *_) = await check_policies([condition(text)])
    assert (fault.source, fault.line) == ("deep.cedar", 2)


async def test_what_cannot_be_utf_8_is_a_fault() -> None:
    (fault,) = await check_policies([condition('"\ud800" == ""')])
    assert "surrogates" in fault.reason


async def test_a_text_that_is_too_large_is_a_fault() -> None:
    assert await check_policies([PolicySource("a", " " * (FILE_BYTES + 1))]) == (
        Fault("a", 1, "it is larger than 256 KiB"),
    )


async def test_a_checker_that_does_not_run_is_a_fault_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert await check_policies([PolicySource("a", SOUND)]) == (
        Fault("the policy check", 0, "it did not run: exit status 1"),
    )


async def test_a_cancel_ends_the_checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    program = tmp_path / "checker"
    program.write_text(f"#!{sys.executable}\nopen({str(started)!r}, 'w').write('x')\nimport signal\nsignal.pause()\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    ended = False
    async with trio.open_nursery() as nursery:

        async def check() -> None:
            nonlocal ended
            try:
                await check_policies([PolicySource("a", SOUND)])
            finally:
                ended = True

        nursery.start_soon(check)
        assert await trio.Path(started).read_text() == "x"
        nursery.cancel_scope.cancel()
    assert ended


async def test_the_checker_imports_nothing_from_the_folder_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cedarpy.py").write_text("raise SystemExit('somebody else')")
    monkeypatch.chdir(tmp_path)
    assert await check_policies([PolicySource("a", SOUND)]) == ()


def test_a_posture_file_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    (tmp_path / "posture.cedar").write_text(SOUND.format("mine"))
    with pytest.raises(ConfigInvalid, match="was changed by hand"):
        read_policy_files(tmp_path)
