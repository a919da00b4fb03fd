"""The folder of the user's policies while a file of it is replaced: as a whole, or not at all."""

import os
import stat
from pathlib import Path

import pytest
import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.policy_files import read_policy_files
from palyra_trio.guard.policy_folder import Files, change_file, postures_of, with_file
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.posture import Posture, posture_file

NEW = PolicySource("b.cedar", "// new")


async def sound(files: Files) -> None:
    await trio.lowlevel.checkpoint()


async def test_a_file_is_made_with_its_folder_which_is_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "policies"
    assert await change_file(folder, lambda _: NEW, sound) == (NEW,)
    assert read_policy_files(folder) == (NEW,)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.listdir(folder) == ["b.cedar"]


async def test_it_takes_the_place_of_the_one_with_its_name_and_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text("// a")
    (tmp_path / "b.cedar").write_text("// old")
    (tmp_path / "c.cedar").write_text("// c")
    seen: list[Files] = []

    async def check(files: Files) -> None:
        await sound(files)
        seen.append(files)
        assert (tmp_path / "b.cedar").read_text() == "// old"

    files = await change_file(tmp_path, lambda _: NEW, check)
    assert files == (PolicySource("a.cedar", "// a"), NEW, PolicySource("c.cedar", "// c"))
    assert seen == [files]
    assert read_policy_files(tmp_path) == files


async def test_what_the_check_refuses_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "b.cedar").write_text("// old")

    async def refuse(_: Files) -> None:
        await trio.lowlevel.checkpoint()
        raise ConfigInvalid("no")

    with pytest.raises(ConfigInvalid, match="no"):
        await change_file(tmp_path, lambda _: NEW, refuse)
    assert os.listdir(tmp_path) == ["b.cedar"]
    assert (tmp_path / "b.cedar").read_text() == "// old"


async def test_of_changes_at_once_none_is_lost(tmp_path: Path) -> None:
    def add(number: int) -> Posture:
        return Posture(f"tool.{number}", "ask")

    async def change(number: int) -> None:
        await change_file(tmp_path, lambda files: posture_file((*postures_of(files), add(number))), sound)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(change, number)
    assert {each.tool for each in postures_of(read_policy_files(tmp_path))} == {f"tool.{n}" for n in range(10)}


async def test_a_folder_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "policies").write_text("a file")
    with pytest.raises(ConfigInvalid, match="policies cannot be written"):
        await change_file(tmp_path / "policies", lambda _: NEW, sound)


def test_files_stay_in_order_of_name() -> None:
    a, c = PolicySource("a.cedar", ""), PolicySource("c.cedar", "")
    assert with_file((a, c), NEW) == (a, NEW, c)
    assert with_file((a, PolicySource("b.cedar", "old"), c), NEW) == (a, NEW, c)


def test_a_folder_without_the_managed_file_says_nothing_of_tools() -> None:
    assert postures_of((NEW,)) == ()
    assert postures_of((NEW, posture_file((Posture("a", "ask"),)))) == (Posture("a", "ask"),)
