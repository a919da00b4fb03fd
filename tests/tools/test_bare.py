import pytest

from palyra_trio.tools.job import Job, SandboxFailed
from tests.tools.zoo import Keeper, is_ready


@pytest.mark.parametrize("animal", ["double fork", "setsid", "ignores signals", "fork storm"])
async def test_what_carries_its_mark_is_killed(animal: str) -> None:
    with Keeper() as keeper:
        cage = keeper.cage(1)
        seen = await cage.run(cage.job(animal), is_ready)
    assert seen.alive == 0
    assert seen.receipts[0].survivors == 0


async def test_a_program_that_is_none_is_not_started() -> None:
    with Keeper() as keeper:
        cage = keeper.cage(1)
        with pytest.raises(SandboxFailed, match="is no program"):
            await cage.run(Job("/nonexistent", ("x",), cage.workspace, cage.workspace, "t"), None)
