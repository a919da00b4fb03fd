"""Flows are told with the whole program, as processes."""

from pathlib import Path

import pytest

from tests.processes import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell.below(tmp_path)
