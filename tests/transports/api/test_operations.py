"""The daemon over the API: how it stands, what was used, and the door for new runs."""

from pathlib import Path

from palyra_trio import __version__
from palyra_trio.core.identity import Scope
from tests.transports.api.asking import read, say
from tests.transports.api.test_runs import new
from tests.transports.served import open_served
from tests.transports.test_run_events import BY_ALICE


async def test_the_status_says_how_the_process_stands(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        status = (await read(served, "/status")).said
        assert (status["version"], status["boot_id"], status["live_runs"]) == (__version__, "boot-1", 0)
        assert (status["draining"], status["paused"], status["policy_preset"]) == (False, None, "default")
        assert status["journal_g"] > 0


async def test_admission_is_paused_and_resumed_by_an_admin_only(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        token = await served.token("user:alice", Scope.RUN, Scope.READ)
        headers = {"authorization": f"Bearer {token.secret}"}
        assert (await say(served, "/admission/pause", {}, who=None, headers=headers)).code == "denied"
        for _ in range(2):
            paused = await say(served, "/admission/pause", {"reason": "an upgrade"})
            assert paused.said == {"paused": {"by": "user:alice", "reason": "an upgrade"}}
        refused = await say(served, "/runs", new(served))
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "busy", "1")
        assert (await read(served, "/status")).said["paused"]["reason"] == "an upgrade"
        for _ in range(2):
            assert (await say(served, "/admission/resume")).said == {"paused": None}
        run_id = (await say(served, "/runs", new(served))).said["run_id"]
        await served.runtime.ended(run_id, BY_ALICE)


async def test_usage_is_of_ones_own_runs_in_a_span(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE)
        now_ms = (await read(served, "/status")).said["now_ms"]
        mine = (await read(served, "/usage")).said
        assert (mine["principal"], mine["used"]["runs"], mine["used"]["ended"]) == ("user:alice", 1, {"done": 1})
        assert mine["to_ms"] - mine["from_ms"] == 30 * 24 * 3600 * 1000
        assert (await read(served, f"/usage?from_ms=1&to_ms={now_ms - 3_600_000}")).code == "invalid_argument"
        earlier = await read(served, f"/usage?from_ms={now_ms - 7_200_000}&to_ms={now_ms - 3_600_000}")
        assert earlier.said["used"]["runs"] == 0
        assert (await read(served, "/usage", who="bob")).said["used"]["runs"] == 0
        assert (await read(served, "/usage?from_ms=2&to_ms=1")).code == "invalid_argument"
