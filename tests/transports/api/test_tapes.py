"""Tapes over the API: every row once, in pages or as events, as it was recorded; and what happened lately."""

import json
from pathlib import Path

import pytest

from palyra_trio.core.codec import plain
from palyra_trio.transports.convert import RECENT_BODY_BYTES
from tests.fakes import FakeProvider, says
from tests.transports.api.asking import read
from tests.transports.served import open_served
from tests.transports.test_run_events import BY_ALICE, parsed, rest


async def test_pages_hold_every_row_once_as_it_was_recorded(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        rows = (await served.runtime.run(context=BY_ALICE)).rows
        found, after_seq = [], 0
        while len(found) < len(rows):
            page = (await read(served, f"/runs/last/tape?max_rows=3&after_seq={after_seq}")).said
            assert (page["last_seq"], page["ended"], len(page["rows"]) <= 3) == (len(rows), True, True)
            found += page["rows"]
            after_seq = found[-1]["seq"]
        assert found == [plain(row) for row in rows]
        assert (await read(served, f"/runs/last/tape?after_seq={len(rows)}")).said["rows"] == []
        ahead = await read(served, f"/runs/last/tape?after_seq={len(rows) + 1}")
        assert (ahead.status, ahead.code) == (416, "offset_ahead")


@pytest.mark.parametrize(
    "query", ["after_seq=-1", "after_seq=x", "max_rows=0", "max_rows=1001", "max=1", "after_seq=1&after_seq=2"]
)
async def test_a_query_that_means_nothing_is_refused(tmp_path: Path, query: str) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.run(context=BY_ALICE)
        assert (await read(served, f"/runs/last/tape?{query}")).code == "invalid_argument"


async def test_a_runs_events_are_streamed_from_the_last_one_that_arrived(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        rows = (await served.runtime.run(context=BY_ALICE)).rows
        streamed = await read(served, "/runs/last/events", headers={"last-event-id": "2"})
        assert (streamed.status, streamed.headers["content-type"]) == (200, "text/event-stream")
        assert streamed.headers["cache-control"] == "no-store"
        assert streamed.response.events is not None
        heard = parsed(await rest(streamed.response.events))
        assert [json.loads(each["data"]) for each in heard] == [plain(row) for row in rows[2:]]
        done = await read(served, "/runs/last/events", headers={"last-event-id": str(len(rows))})
        assert (done.status, done.response.events, done.response.body) == (204, None, b"")
        wrong = await read(served, "/runs/last/events", headers={"last-event-id": "x"})
        assert wrong.code == "invalid_argument"


async def test_what_happened_lately_is_told_newest_first_and_only_ones_own(tmp_path: Path) -> None:
    async with open_served(tmp_path, FakeProvider(says("x" * RECENT_BODY_BYTES))) as served:
        rows = (await served.runtime.run(context=BY_ALICE)).rows
        first = (await read(served, "/events?page_size=2&page_token=")).said
        assert first["rows"][0] == plain(rows[-1])
        found = first["rows"] + (await read(served, f"/events?page_token={first['next_page_token']}")).said["rows"]
        places = [each["g"] for each in found]
        assert places == sorted(places, reverse=True)
        assert "ModelDelta" not in {each["kind"] for each in found}
        (answer,) = [each for each in found if each["kind"] == "FinalAnswer"]
        assert answer["body"] is None
        assert (await read(served, "/events", who="bob")).said["rows"] == []
        assert (await read(served, "/events?page_token=x")).code == "invalid_argument"
