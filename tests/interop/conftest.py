"""The foreign server, one for each test: it remembers the conversations that it had."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.foreign_server import ForeignServer, foreign_server


@pytest.fixture
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    folder: Path = tmp_path_factory.mktemp("foreign")
    with foreign_server(folder) as server:
        yield server
