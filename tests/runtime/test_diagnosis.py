"""What a daemon finds out about itself. What `doctor` makes of the same looks is told in tests/cli."""

from pathlib import Path

import pytest

from palyra_trio.core.chain import digest
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.system_events import BootStarted
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.journal.guards import Guard
from palyra_trio.journal.store import FILE_NAME, Entry, SqliteStore, entry
from palyra_trio.providers.choose import Choice
from palyra_trio.providers.offline import OfflineProvider
from palyra_trio.runtime.diagnosis import (
    Check,
    clock,
    disk,
    examine,
    python,
    refused,
    rows,
    sandbox_check,
    sqlite,
    state_folder,
)
from tests.fakes import Runtime, open_fake_runtime
from tests.journal.tickets import tampering


async def looked(runtime: Runtime) -> dict[str, Check]:
    return {each.name: each for each in await examine(runtime.state)}


async def test_a_daemon_in_order_has_no_fault(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        found = await looked(runtime)
    assert [*found] == [
        *("python", "sqlite", "state folder", "disk", "journal", "clock", "policies", "vault", "model", "sandbox"),
    ]
    assert {each.health for name, each in found.items() if name != "sandbox"} == {"ok"}
    assert found["model"].said == "fake/model answers: the test says so"


async def test_policies_that_were_changed_and_not_loaded_are_a_warning(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        runtime.state.policies_dir.mkdir()
        file = runtime.state.policies_dir / "mine.cedar"
        file.write_text('@id("mine")\nforbid (principal, action, resource);\n')
        found = (await looked(runtime))["policies"]
        assert (found.health, found.remedy) == ("warning", "palyra-trio policy reload")
        file.write_text("forbid (")
        assert (await looked(runtime))["policies"].health == "fault"


async def test_a_model_that_cannot_be_chosen_is_a_fault_and_fixed_rules_are_a_warning(tmp_path: Path) -> None:
    async def none(_model: str, _base_url: str) -> Choice:
        raise ConfigInvalid("no model is named", remedy="name one")

    async def rules(_model: str, _base_url: str) -> Choice:
        return Choice(OfflineProvider(), "rules", "nothing else was configured")

    for choose, health in ((none, "fault"), (rules, "warning")):
        folder = tmp_path / health
        folder.mkdir()
        async with open_fake_runtime(folder, choose=choose) as runtime:
            assert (await looked(runtime))["model"].health == health


@pytest.mark.parametrize(("in_force", "health"), [("sandbox tier 4 isolated (bwrap)", "ok"), ("no sandbox", "warning")])
def test_less_than_the_best_sandbox_is_a_warning(in_force: str, health: str) -> None:
    assert sandbox_check(in_force, ["why", "how"]) == Check("sandbox", health, in_force, "why\nhow")  # type: ignore[arg-type]


def test_an_error_of_many_lines_is_told_in_the_remedy_too() -> None:
    error = ConfigInvalid("2 faults:\n  one\n  two", remedy="mend them")
    assert refused("policies", error) == Check("policies", "fault", "2 faults:", "  one\n  two\nmend them")


def test_what_a_process_stands_on_is_looked_at(tmp_path: Path) -> None:
    assert python().health == "ok"
    assert sqlite((3, 36, 9)).health == "fault"
    assert state_folder(tmp_path / "none").said.endswith("the first run makes it")
    assert disk(tmp_path / "none", 1).health == "ok"
    full = disk(tmp_path, 1 << 60)
    assert full.health == "fault"
    assert "MiB there, or lower journal.min_free_bytes" in full.remedy


class Batch:
    """One event."""

    entries: tuple[Entry, ...] = (entry(SYSTEM_STREAM, BootStarted("boot", 1, "0")),)
    guards: tuple[Guard, ...] = ()
    blobs: tuple[tuple[str, bytes], ...] = ((digest(b"a file"), b"a file"),)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal with a thousand rows, the newest of which is of the second 1000."""
    with SqliteStore(tmp_path) as store:
        store.append_batch([Batch()] * 1000, 1_000_000)
    return tmp_path / FILE_NAME


@pytest.mark.parametrize(("now_s", "health"), [(1001, "ok"), (996, "ok"), (994, "fault"), (0, "fault")])
def test_a_clock_that_went_backwards_is_told_by_the_newest_row(written: Path, now_s: int, health: str) -> None:
    found = clock(written, now_s * 1000)
    assert found.health == health
    assert (f"{1000 - now_s} s behind the newest row" in found.said) == (health == "fault")


def test_without_a_journal_a_clock_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    assert clock(tmp_path / FILE_NAME, 0).health == "ok"


def test_rows_are_compared_with_what_was_written_as_far_as_time_allows(written: Path) -> None:
    assert rows(written) == Check("rows", "ok", "1000 rows and 1 blobs are what was written")
    hurried = rows(written, 0)
    assert (hurried.health, hurried.remedy) == ("ok", "palyra-trio journal verify looks at all of them")
    assert "the first 500 rows are what was written" in hurried.said
    with tampering(written) as db:
        db.execute("UPDATE ev SET body = x'00' WHERE g = 7")
    found = rows(written)
    assert found.health == "fault"
    assert "restore the journal from a backup" in found.remedy
    written.write_bytes(b"noise" * 1000)
    assert rows(written).health == "fault"
