"""Probes say how the process stands to anybody; metrics agree with the tape, and are for who may read."""

from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from palyra_trio.core.codec import KIND_NAMES
from palyra_trio.core.commands import PauseAdmission
from palyra_trio.core.config import HttpConfig
from palyra_trio.core.identity import Scope
from palyra_trio.journal.feed import Feed
from palyra_trio.runtime.counters import Counters
from tests.fakes import CONFIG
from tests.journal.tickets import read as reading
from tests.transports.api.asking import ask, say
from tests.transports.api.test_runs import new
from tests.transports.served import Served, open_served
from tests.transports.test_run_events import BY_ALICE


async def probed(served: Served, path: str) -> tuple[int, str]:
    told = await ask(served, "GET", path, who=None)
    return told.status, told.said["status"]


async def test_a_process_that_takes_work_is_alive_and_ready(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        assert (await probed(served, "/healthz"), await probed(served, "/readyz")) == ((200, "serving"), (200, "ready"))


async def test_one_that_is_paused_is_ready_and_says_so(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.runtime.do(PauseAdmission("lunch"))
        assert await probed(served, "/readyz") == (200, "paused")


async def test_one_that_drains_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        served.runtime.gateway.drain_by(0)
        assert (await probed(served, "/healthz"), await probed(served, "/readyz")) == (
            (200, "serving"),
            (503, "draining"),
        )


async def test_one_that_cannot_record_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_served(tmp_path) as served:
        failed = trio.Event()
        failed.set()
        monkeypatch.setattr(served.runtime.gateway.journal, "failed", failed)
        assert (await probed(served, "/healthz"), await probed(served, "/readyz")) == (
            (503, "stopped"),
            (503, "stopped"),
        )
        monkeypatch.undo()


# --- metrics ---


async def scraped(served: Served, **rest: Any) -> dict[str, float]:
    told = await ask(served, "GET", "/metrics", **rest)
    assert told.status == 200
    return {
        f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
        for family in text_string_to_metric_families(told.response.body.decode())
        for sample in family.samples
    }


async def test_metrics_are_for_who_may_read_unless_they_are_open(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, http=HttpConfig(open_metrics=True))
    async with open_served(tmp_path) as served:
        assert (await ask(served, "GET", "/metrics", who=None)).code == "unauthenticated"
        token = await served.token("user:alice", Scope.RUN)
        only_runs = {"authorization": f"Bearer {token.secret}"}
        assert (await ask(served, "GET", "/metrics", who=None, headers=only_runs)).code == "denied"
        assert (await scraped(served))["palyra_draining"] == 0
    async with open_served(tmp_path, config=config) as served:
        assert (await scraped(served, who=None))["palyra_draining"] == 0
        assert (await ask(served, "GET", "/api/v1/status", who=None)).code == "unauthenticated"


async def test_what_is_scraped_under_load_is_what_the_tapes_held_at_that_moment(tmp_path: Path) -> None:
    counters = Counters()
    feed = Feed(watch=counters.take)
    async with open_served(tmp_path, feed=feed, counters=counters) as served:
        scrapes: list[dict[str, float]] = []

        async def load(number: int) -> None:
            for turn in range(5):
                started = await say(served, "/runs", new(served, f"{number} {turn}"))
                await served.runtime.ended(started.said["run_id"], BY_ALICE)

        async def scrape() -> None:
            for _ in range(30):
                scrapes.append(await scraped(served))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(load, number)
            nursery.start_soon(scrape)
        scrapes.append(await scraped(served))
        state_dir = served.runtime.state_dir
    with reading(state_dir) as reader:
        kinds = [row.kind for row in reader.chain()]
    began = int(scrapes[0]["palyra_journal_position"])
    assert began < int(scrapes[-1]["palyra_journal_position"]) <= len(kinds)
    for each in scrapes:
        counted = Counter(KIND_NAMES[kind] for kind in kinds[: int(each["palyra_journal_position"])])
        assert {kind: each[f"palyra_events_total {kind}"] for kind in counted} == counted
        assert each.get("palyra_runs_ended_total done", 0) == counted["RunFinished"]
    assert scrapes[-1]["palyra_runs_ended_total done"] == 30
