"""What a daemon finds out about itself. What `doctor` makes of the same looks is told in tests/cli."""

from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.providers.choose import Choice
from palyra_trio.providers.offline import OfflineProvider
from palyra_trio.runtime.diagnosis import Check, examine, python, refused, sandbox_check, sqlite, state_folder
from tests.fakes import Runtime, open_fake_runtime


async def looked(runtime: Runtime) -> dict[str, Check]:
    return {each.name: each for each in await examine(runtime.state)}


async def test_a_daemon_in_order_has_no_fault(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        found = await looked(runtime)
    assert [*found] == ["python", "sqlite", "state folder", "journal", "policies", "vault", "model", "sandbox"]
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
    assert state_folder(tmp_path / "none", 1).said.endswith("the first run makes it")
    assert state_folder(tmp_path, 1 << 60).health == "fault"
