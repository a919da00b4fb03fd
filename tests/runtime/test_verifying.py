"""The journal verified while it is in use."""

from pathlib import Path

import pytest
import trio

from palyra_trio.core.errors import Busy
from palyra_trio.journal import check
from palyra_trio.journal.store import FILE_NAME
from palyra_trio.runtime.verifying import Checked, Verifying
from tests.fakes import open_fake_runtime


async def test_a_check_tells_how_far_it_is_and_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TOLD_ROWS", 1)
    seen: list[int] = []

    class Watched(Verifying):
        def _tell(self, newest: Checked) -> None:
            awaited = self.changed
            super()._tell(newest)
            assert awaited.is_set()
            assert not self.changed.is_set()
            seen.append(newest.rows)

    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.ended((await runtime.start()).run_id)
        g = runtime.gateway.health().g
        async with trio.open_nursery() as nursery:
            verifying = Watched(runtime.state_dir / FILE_NAME, lambda: 7, nursery)
            assert verifying.newest is None
            verifying.begin("user:me")
            assert verifying.going_on
            with pytest.raises(Busy):
                verifying.begin("user:me")
        found = verifying.newest
        assert found is not None
        assert found.report is not None
        assert (found.by, found.began_ms, found.ended_ms, found.rows, found.report.faults) == ("user:me", 7, 7, g, ())
        assert seen == [0, *range(1, g + 1), g]
        assert verifying.size_bytes >= (runtime.state_dir / FILE_NAME).stat().st_size


async def test_a_journal_that_cannot_be_read_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no journal")
    async with trio.open_nursery() as nursery:
        verifying = Verifying(path, lambda: 1, nursery)
        verifying.begin("user:me")
    assert verifying.newest is not None
    assert "cannot be read" in verifying.newest.failed
    assert not verifying.going_on


async def test_a_check_that_nobody_waits_for_any_more_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TOLD_ROWS", 1)
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.ended((await runtime.start()).run_id)
        async with trio.open_nursery() as nursery:
            verifying = Verifying(runtime.state_dir / FILE_NAME, lambda: 1, nursery)
            verifying.begin("user:me")
            nursery.cancel_scope.cancel()
        assert verifying.newest == Checked("user:me", 1)
