"""The bundle of services: it cannot be changed, and names what it makes by its own clock and chance."""

from pathlib import Path

import attrs
import pytest

from palyra_trio.core.identity import mint_ulid, ulid_ms
from tests.fakes import open_fake_runtime


async def test_ids_come_from_its_clock_and_its_chance(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, now_s=lambda: 1_700_000_000.5, random=lambda size: bytes(size)) as runtime:
        name = runtime.state.new_id()
    assert name == mint_ulid(1_700_000_000_500, bytes(10))
    assert ulid_ms(name) == 1_700_000_000_500


async def test_it_is_frozen(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        with pytest.raises(attrs.exceptions.FrozenError):
            runtime.state.boot_id = "another"  # type: ignore[misc]
