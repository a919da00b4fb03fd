"""What the tests of the log share."""

import logging
from collections.abc import Generator

import pytest


@pytest.fixture
def own_root_logger(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """Leave the root logger as it was before the test, and let `palyra_trio.test` be heard."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    # import-linter, in another test, disables all loggers that there are
    monkeypatch.setattr(logging.getLogger("palyra_trio.test"), "disabled", False)
    yield
    root.handlers, root.level = handlers, level
