"""The newest lines of the log are kept for a person, masked, and no more of them than there is room for."""

import io
import logging

import pytest

from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.recent_log import LINE_CHARACTERS, RECENT_LINES, RecentLog
from palyra_trio.runtime.telemetry import set_up_logging
from tests.fakes import SECRET

log = logging.getLogger("palyra_trio.test")
pytestmark = pytest.mark.usefixtures("own_root_logger")


def test_the_newest_lines_are_kept_for_a_person_masked_and_no_more_of_them_than_there_is_room() -> None:
    recent = RecentLog()
    set_up_logging("info", as_json=True, redactor=Redactor(), out=io.StringIO(), recent=recent)
    for number in range(RECENT_LINES + 2):
        log.info("line", extra={"number": number})
    log.debug("not this")
    log.warning("a key: %s", SECRET, extra={"long": "x" * LINE_CHARACTERS})
    assert len(recent.lines) == RECENT_LINES
    last = recent.lines[-1]
    assert (last.level, last.logger, len(last.text)) == ("warning", "palyra_trio.test", LINE_CHARACTERS)
    assert "a key" in last.text
    assert SECRET not in last.text
    assert recent.lines[0].text == "line number=3"


def test_a_line_that_cannot_be_made_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    recent = RecentLog()
    recent.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None))
    assert recent.lines == ()
