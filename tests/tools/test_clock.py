from tests.tools.conftest import Call


async def test_the_clock_tells_utc_and_the_local_zone(call: Call) -> None:
    plan, result = await call("clock.now")
    assert not plan.resources
    utc, here = result.text.splitlines()
    assert utc == "2025-10-09T08:53:20+00:00 in UTC"
    assert here.startswith("2025-10-")
