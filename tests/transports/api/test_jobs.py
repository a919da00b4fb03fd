"""Jobs over the API: whose they are, what they wrote piece by piece, and how one is stopped."""

from pathlib import Path

import trio

from palyra_trio.core.identity import Scope
from palyra_trio.runtime.job_output import KEPT_BYTES
from palyra_trio.transports.jobs_service import PIECE_BYTES
from tests.runtime.jobs_of_tests import NEW, start_job
from tests.transports.api.asking import read, say
from tests.transports.served import Served, open_served
from tests.transports.test_run_events import BY_ALICE


async def job(served: Served, data: bytes = b"", until: trio.Event | None = None) -> str:
    """Start a job in a session of alice's, and return its id."""
    row = (await served.runtime.run(context=BY_ALICE)).rows[0]
    event = row.event()
    return await start_job(served.runtime, event.session_id, row.stream.partition(":")[2], data, until)


async def test_jobs_are_listed_by_the_page_and_shown_to_whom_they_belong(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        names = [await job(served) for _ in range(3)]
        first = (await read(served, "/jobs?page_size=2")).said
        rest = (await read(served, f"/jobs?page_size=2&page_token={first['next_page_token']}")).said
        assert [each["job_id"] for each in (*first["jobs"], *rest["jobs"])] == names[::-1]
        shown = (await read(served, f"/jobs/{names[0].lower()}")).said
        assert shown == rest["jobs"][0]
        assert (shown["program"], tuple(shown["argv"]), shown["end"]) == (NEW.program, NEW.argv, None)
        assert NEW.mark not in str(first)
        of_one = (await read(served, f"/jobs?session={shown['session_id']}")).said["jobs"]
        assert [each["job_id"] for each in of_one] == [names[0]]
        assert (await read(served, "/jobs?session=none")).code == "not_found"
        assert (await read(served, "/jobs", who="bob")).said["jobs"] == []
        for path in ("", "/output"):
            assert (await read(served, f"/jobs/{names[0]}{path}", who="bob")).code == "not_found"
        assert (await say(served, f"/jobs/{names[0]}/stop", who="bob")).code == "not_found"


async def test_a_job_is_stopped_and_stopping_it_again_says_the_same(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        job_id = await job(served, b"some\n")
        stopped = await say(served, f"/jobs/{job_id}/stop")
        end = stopped.said["end"]
        assert (end["ending"], end["by"], end["code"], end["size_bytes"]) == ("stopped", "user:alice", None, 5)
        assert (await say(served, f"/jobs/{job_id}/stop")).said == stopped.said
        assert (await read(served, "/jobs")).said["jobs"] == []
        assert (await read(served, "/jobs?ended=true")).said["jobs"] == [stopped.said]


async def test_a_job_that_has_ended_by_itself_cannot_be_stopped(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        (ends := trio.Event()).set()
        job_id = await job(served, b"", ends)
        await served.runtime.state.jobs.more(job_id, 0)
        assert (await say(served, f"/jobs/{job_id}/stop")).code == "state_conflict"


async def test_to_stop_a_job_takes_the_scope_run(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        token = await served.token("user:alice", Scope.READ)
        headers = {"authorization": f"Bearer {token.secret}"}
        assert (await say(served, f"/jobs/{await job(served)}/stop", who=None, headers=headers)).code == "denied"


async def test_output_is_read_piece_by_piece_and_no_character_is_cut(tmp_path: Path) -> None:
    written = "世界\n" * (PIECE_BYTES // 4)
    async with open_served(tmp_path) as served:
        job_id, text, since = await job(served, written.encode()), "", 0
        while since < len(written.encode()):
            piece = (await read(served, f"/jobs/{job_id}/output?since={since}")).said
            assert (piece["offset"], piece["size_bytes"], piece["ended"]) == (since, len(written.encode()), False)
            assert "\ufffd" not in piece["text"]
            assert piece["after"] > since
            text, since = text + piece["text"], piece["after"]
        assert text == written
        tail = (await read(served, f"/jobs/{job_id}/output?tail_bytes=5")).said
        assert tail["text"] == "界\n"  # a byte of the one before is left out
        assert (await read(served, f"/jobs/{job_id}/output?tail_bytes=5&since=1")).code == "invalid_argument"


async def test_what_is_gone_is_not_pretended_and_the_end_is_told(tmp_path: Path) -> None:
    data = b"0123456\n" * (KEPT_BYTES // 4)
    async with open_served(tmp_path) as served:
        job_id = await job(served, data)
        await say(served, f"/jobs/{job_id}/stop")
        first = (await read(served, f"/jobs/{job_id}/output")).said
        assert (first["offset"], first["ended"]) == (len(data) - KEPT_BYTES, False)
        last = (await read(served, f"/jobs/{job_id}/output?tail_bytes=8")).said
        assert (last["text"], last["after"], last["ended"]) == ("0123456\n", len(data), True)
