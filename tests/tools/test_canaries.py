import pytest

from palyra_trio.tools import canaries
from palyra_trio.tools.canaries import Finding
from palyra_trio.tools.job import KillReceipt, SandboxFailed
from tests.tools.zoo import Keeper


@pytest.mark.parametrize("tier", [4, 3])
async def test_a_canary_gets_nothing_done_in_a_tier_that_holds(tier: int) -> None:
    found = await let_loose(tier)
    assert found.allowed == ()
    assert len(found.refused) == 12
    assert found.held


async def test_a_canary_gets_out_of_a_tier_that_only_kills_but_not_alive() -> None:
    found = await let_loose(2)
    assert "read a file outside" in found.allowed
    assert "signal a process outside" in found.refused
    assert found.held


async def let_loose(tier: int) -> Finding:
    python, _ = canaries.interpreter()
    with Keeper() as keeper, canaries.aviary(keeper.user) as aviary:
        cage = keeper.cage(tier)
        return await canaries.let_loose(cage.launcher, aviary, python)


async def test_a_tier_that_cannot_run_its_canary_says_why() -> None:
    with Keeper() as keeper, canaries.aviary(keeper.user) as aviary:
        found = await canaries.let_loose(keeper.cage(4).launcher, aviary, "/nonexistent/python")
    assert found.failure == str(SandboxFailed("bubblewrap could not make the sandbox, so that nothing was run"))
    assert "/nonexistent/python" in found.said
    assert not found.held


@pytest.mark.parametrize(
    "found",
    [
        Finding(),
        Finding(receipt=KillReceipt(2, 0, 1.0)),
        Finding(receipt=KillReceipt(4, 1, 1.0)),
        Finding(receipt=KillReceipt(4, 0, 1.0), escaped=1),
    ],
)
def test_a_kill_that_misses_somebody_does_not_hold(found: Finding) -> None:
    assert not found.held
