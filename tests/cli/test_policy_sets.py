"""Which policies a command speaks of: those of the process that answers, else those on disk, or others by name."""

import fcntl
from pathlib import Path

import pytest

from palyra_trio.cli.policy_sets import NamedSet, in_force, named
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NoDaemon
from palyra_trio.core.policy import PolicyRules, Preset
from palyra_trio.guard.policy_text import PolicySource
from tests.cli.conftest import Home

MINE = PolicySource("mine.cedar", '@id("mine") forbid (principal, action, resource);')


@pytest.fixture
def policies(home: Home) -> Path:
    folder = home.state_dir.parent / ".config" / "palyra-trio" / "policies"
    folder.mkdir(parents=True)
    return folder


def test_without_a_process_the_files_hold_and_what_the_folder_configures(policies: Path, home: Home) -> None:
    (policies / "mine.cedar").write_text(MINE.text)
    assert in_force() == NamedSet((MINE,), PolicyRules())
    (home.folder / "palyra.toml").write_text('[policy]\ndeny = ["files.write"]\n')
    assert in_force().rules == PolicyRules(deny=("files.write",))
    assert in_force(str(policies)).rules == PolicyRules()


def test_a_process_that_holds_the_folder_and_does_not_answer_is_not_passed_over(home: Home) -> None:
    home.state_dir.mkdir()
    with open(home.state_dir / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NoDaemon):
            in_force()


def test_a_set_can_be_named(policies: Path, home: Home, tmp_path: Path) -> None:
    (policies / "mine.cedar").write_text(MINE.text)
    other = tmp_path / "other"
    other.mkdir()
    assert named("current") == in_force()
    assert named("strict") == NamedSet((MINE,), PolicyRules(Preset.STRICT))
    assert named(str(other)) == NamedSet((), PolicyRules())
    with pytest.raises(InvalidArgument, match="'stritc' is no set of policies"):
        named("stritc")


def test_an_engine_is_built_of_everything_that_decides_once_it_was_checked() -> None:
    assert "mine" in NamedSet((MINE,), PolicyRules()).engine().ids
    with pytest.raises(ConfigInvalid, match=r"mine\.cedar:1"):
        NamedSet((PolicySource("mine.cedar", "permit"),), PolicyRules()).engine()
